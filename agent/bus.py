"""nameko made safe, once, for every shell.

Stock nameko trusts the broker to be there; an EPU must outlive it. What is cured here, and
where: a reply that can't be sent (``_SafeReplies``), a broker that is absent at start
(``wait_for_broker``, through ``Part``), agent queues that outlive their agent
(``agent_rpc``), timers that fire late ticks in a burst (``every``), slow reconnects
(``_PatientConsumer``), publishes that hang on a half-open connection (``Watchdog``).
Calls between services go through ``agent.rpc_client.ClientPool``, which has deadlines.

Whoever imports this has had ``eventlet.monkey_patch()`` called before anything else.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import eventlet
from kombu import Exchange, Queue
from nameko.amqp.publish import Publisher
from nameko.exceptions import ContainerBeingKilled
from nameko.extensions import DependencyProvider, Entrypoint
from nameko.messaging import Consumer, QueueConsumer
from nameko.rpc import Responder, Rpc, RpcConsumer, get_rpc_exchange

from agent.broker_access import is_reply_key
from agent.broker_link import (
    ANSWERS_WITHIN,
    CLOSE_WITHIN,
    CONNECTION_ERRORS,
    back_off,
    connect_once,
)
from agent.broker_link import EventPublisher as EventPublisher
from agent.broker_link import one_line as _line
from agent.broker_link import wait_for_broker as wait_for_broker
from agent.broker_tls import address_of
from agent.messages import mask_url
from agent.process import log_failure as log_failure
from agent.process import main as main
from agent.process import read_config as read_config
from agent.process import run_service as run_service
from agent.process import set_up_logging as set_up_logging
from agent.timers import every as every
from agent.watchdog import Watchdog

log = logging.getLogger(__name__)

#: What a queue of an agent looks like; can't be changed on a broker that has such queues.
AGENT_QUEUE_ARGUMENTS = {"x-expires": 60_000, "x-message-ttl": 15_000}


# ------------------------------------------------------------------ the watchdog

WATCHDOG_KEY = "epu_watchdog"


def _watchdog(config: dict[str, Any]) -> Watchdog:
    """The process's one watchdog, kept in its nameko config; started on first use."""
    if WATCHDOG_KEY not in config:
        config[WATCHDOG_KEY] = Watchdog()
        eventlet.spawn_n(config[WATCHDOG_KEY].run)
    found: Watchdog = config[WATCHDOG_KEY]
    return found


def event_publisher(config: dict[str, Any]) -> EventPublisher:
    """A publisher of this process's events, under its watchdog."""
    return EventPublisher(address_of(config), _watchdog(config))


# ------------------------------------------------------------------ rpc


class _PatientConsumer(QueueConsumer):  # type: ignore[misc]
    """Reconnects for ever: soon at first, then more slowly up to a limit, with jitter.

    Only a connection whose queues are there again counts: a broker that takes connections
    and then has no time for them sees us no more often than one that refuses them.
    """

    _attempts = 0
    _complained_at = float("-inf")
    _dropped_at = float("-inf")

    def establish_connection(self) -> Any:
        connection = self.connection.clone()
        low, high = self.container.config.get("RECONNECT_PAUSE", (0.5, 2.0))
        while True:
            if self._attempts:
                eventlet.sleep(back_off(self._attempts - 1, random.random(), low, high))
            self._attempts += 1
            try:
                connect_once(connection, 10)
            except Exception as problem:  # noqa: BLE001 - reconnecting is the answer
                self._complain(problem)
            else:
                connection.connection.transport.sock.settimeout(ANSWERS_WITHIN)
                return connection

    @contextmanager
    def extra_context(self, connection: Any, _channel: Any) -> Iterator[None]:
        try:
            yield
        except Exception:
            # Consumers are about to be cancelled: a peer that vanished never answers to that.
            with suppress(AttributeError, OSError):
                connection.connection.transport.sock.settimeout(CLOSE_WITHIN)
            raise

    def on_consume_ready(self, *args: Any, **kwargs: Any) -> None:
        super().on_consume_ready(*args, **kwargs)
        self._attempts = 1  # a connection that is lost from now on is not missed by itself

    def _complain(self, problem: Exception) -> None:
        """One line a minute: an outage may be long."""
        if time.monotonic() - self._complained_at > 60:
            self._complained_at = time.monotonic()
            where = mask_url(self.amqp_uri)
            log.warning("the broker at %s is away, trying on: %s", where, _line(problem))

    def on_decode_error(self, message: Any, problem: Exception) -> None:
        """Dropped and not shown, one line a minute: who sends such a message sends many."""
        if time.monotonic() - self._dropped_at > 60:
            self._dropped_at = time.monotonic()
            key = message.delivery_info.get("routing_key", "")
            log.warning("dropped what is no JSON, to %s: %s", key, type(problem).__name__)
        self.ack_message(message)


class _ReplyPublisher(Publisher):  # type: ignore[misc]
    use_confirms = False
    delivery_mode = 1
    retry_policy = {"max_retries": 1, "interval_start": 0}


class _SafeResponder(Responder):  # type: ignore[misc]
    publisher_cls = _ReplyPublisher


class _SafeReplies(RpcConsumer):  # type: ignore[misc]
    """A reply that can't be sent is lost, not fatal: callers have deadlines and repeat."""

    queue_consumer = _PatientConsumer()

    def handle_message(self, body: Any, message: Any) -> None:
        if _came_straight(message, get_rpc_exchange(self.container.config).name):
            super().handle_message(body, message)
        else:
            self.queue_consumer.ack_message(message)

    def handle_result(self, message: Any, result: Any, exc_info: Any) -> tuple[Any, Any]:
        config = self.container.config
        if exc_info is not None:
            log_failure(message.delivery_info.get("routing_key", "a call"), exc_info)
        try:
            if self._can_be_answered(message):
                responder = _SafeResponder(
                    config["AMQP_URI"],
                    get_rpc_exchange(config),
                    "json",
                    message,
                    ssl=config.get("AMQP_SSL"),
                )
                with _watchdog(config).watching():
                    result, exc_info = responder.send_response(result, exc_info)
        except Exception as problem:  # noqa: BLE001 - no request may end the process
            log.warning("a reply could not be sent: %s", _line(problem))
        with suppress(*CONNECTION_ERRORS):
            self.queue_consumer.ack_message(message)
        return result, exc_info

    @staticmethod
    def _can_be_answered(message: Any) -> bool:
        """Whether the answer goes where answers go.

        It is sent with the rights of who serves: a node could have it delivered to a method
        that it may not call itself. And only what called itself JSON is answered as JSON.
        """
        key = message.properties.get("reply_to")
        return is_reply_key(key) and message.content_type == "application/json"


def _came_straight(message: Any, exchange: str) -> bool:
    """Whether the sender itself published the message to ``exchange``.

    The broker checks what a client publishes, not what it forwards: a node could send
    round the rights of its account through a dead-letter queue of its own or an exchange
    that it bound. Such a message carries a mark, and nobody honest sends one.
    """
    if message.delivery_info.get("exchange") == exchange and "x-death" not in message.headers:
        return True
    log.warning("dropped a message that took a side road to %s", exchange)
    return False


class _SafeRpc(Rpc):  # type: ignore[misc]
    rpc_consumer = _SafeReplies()

    def unpack_message_headers(self, message: Any) -> dict[str, Any]:
        """No context: we use none, and one of a wrong type would end the process."""
        return {}


class _AgentReplies(_SafeReplies):
    """The queue of one node's agent: it exists exactly while the agent is connected.

    It is deleted with its last consumer, so the broker knows at once who is gone and a
    call to a dead agent is UnknownService; requests live 15 s at most, so an agent that
    returns executes nothing stale. An agent has no right to declare exchanges.
    """

    queue_consumer = _PatientConsumer()
    queue: Queue | None

    def setup(self) -> None:
        if self.queue is None:
            service = self.container.service_name
            known = get_rpc_exchange(self.container.config)
            exchange = Exchange(known.name, type=known.type, durable=True, no_declare=True)
            self.queue = Queue(
                f"rpc-{service}",
                exchange=exchange,
                routing_key=f"{service}.*",
                durable=False,
                auto_delete=True,
                queue_arguments=AGENT_QUEUE_ARGUMENTS,
            )
            self.queue_consumer.register_provider(self)
            self._registered = True


class _AgentRpc(_SafeRpc):
    rpc_consumer = _AgentReplies()


rpc = _SafeRpc.decorator
agent_rpc = _AgentRpc.decorator


@dataclass(frozen=True)
class Delivery:
    """One message as a consuming method gets it. ``user`` is vouched for by the broker."""

    body: Any
    key: str
    headers: dict[str, Any]
    user: str


class _PatientEntrypoint(Consumer):  # type: ignore[misc]
    queue_consumer = _PatientConsumer()

    def handle_message(self, body: Any, message: Any) -> None:
        if not _came_straight(message, self.queue.exchange.name):
            self.queue_consumer.ack_message(message)
            return
        delivery = Delivery(
            body=body,
            key=message.delivery_info.get("routing_key", ""),
            headers=dict(message.headers or {}),
            user=message.properties.get("user_id", ""),
        )
        try:
            self.container.spawn_worker(
                self, (delivery,), {}, handle_result=partial(self.handle_result, message)
            )
        except ContainerBeingKilled:
            self.queue_consumer.requeue_message(message)

    def handle_result(
        self, message: Any, worker_ctx: Any, result: Any = None, exc_info: Any = None
    ) -> tuple[Any, Any]:
        if exc_info is not None:
            log_failure(self.method_name, exc_info)
        kept: tuple[Any, Any] = super().handle_result(message, worker_ctx, result, exc_info)
        return kept


#: ``@consume(queue)``: one call of the method, with a Delivery, per message of a queue.
consume = _PatientEntrypoint.decorator


class _AtConnection(Entrypoint):  # type: ignore[misc]
    queue_consumer = _PatientConsumer()

    def setup(self) -> None:
        tell_nameko = self.queue_consumer.on_consume_ready

        def ready(*args: Any, **kwargs: Any) -> None:
            tell_nameko(*args, **kwargs)
            self.container.spawn_worker(self, (), {})

        self.queue_consumer.on_consume_ready = ready  # type: ignore[method-assign]


#: ``@at_connection``: the method runs whenever the service's queues are there (again).
at_connection = _AtConnection.decorator


# ------------------------------------------------------------------ parts of a service


class Part(DependencyProvider):  # type: ignore[misc]
    """A plain object, built once from the process's config, injected into every call.

    It is built after the broker answered, so ``nameko run`` waits like our own start does.
    An object with a ``close`` method is closed when the service stops.
    """

    def __init__(self, build: Callable[[dict[str, Any]], Any]) -> None:
        self.build = build
        self.value: Any = None

    def setup(self) -> None:
        config = self.container.config
        wait_for_broker(address_of(config))
        _watchdog(config)
        # All parts of a process that name the same builder share one object.
        built = config.setdefault("epu_parts", {})
        if self.build not in built:
            built[self.build] = self.build(config)
        self.value = built[self.build]

    def stop(self) -> None:
        close = getattr(self.value, "close", None)
        if close is not None:
            close()

    def get_dependency(self, worker_ctx: Any) -> Any:
        return self.value
