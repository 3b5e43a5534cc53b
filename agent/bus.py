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
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import eventlet
from eventlet.event import Event as GreenEvent
from kombu import Connection, Exchange, Queue
from nameko.amqp.publish import Publisher
from nameko.exceptions import BadRequest, ContainerBeingKilled
from nameko.extensions import DependencyProvider, Entrypoint
from nameko.messaging import Consumer, QueueConsumer
from nameko.rpc import Responder, Rpc, RpcConsumer, get_rpc_exchange

from agent.broker_access import is_reply_key
from agent.broker_link import CONNECTION_ERRORS, connect_once
from agent.broker_link import EventPublisher as EventPublisher
from agent.broker_link import one_line as _line
from agent.messages import mask_url
from agent.process import main as main
from agent.process import read_config as read_config
from agent.process import run_service as run_service
from agent.process import set_up_logging as set_up_logging
from agent.watchdog import Watchdog

log = logging.getLogger(__name__)

#: What a queue of an agent looks like; can't be changed on a broker that has such queues.
AGENT_QUEUE_ARGUMENTS = {"x-expires": 60_000, "x-message-ttl": 15_000}


# ------------------------------------------------------------------ waiting for the broker


def wait_for_broker(url: str, pause: tuple[float, float] = (0.5, 2.0)) -> None:
    """Return once the broker accepts our account. Waits without limit, with jitter.

    A process that gave up instead would be restarted until its supervisor gave up too.
    """
    said_at = 0.0
    while True:
        try:
            with Connection(url, connect_timeout=5) as found:
                connect_once(found, 5)
                return
        except Exception as problem:  # noqa: BLE001 - whatever it is, waiting is the answer
            if time.monotonic() - said_at > 30 or not said_at:
                log.warning("waiting for the broker at %s: %s", mask_url(url), _line(problem))
                said_at = time.monotonic()
        eventlet.sleep(random.uniform(*pause))


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
    return EventPublisher(config["AMQP_URI"], _watchdog(config))


# ------------------------------------------------------------------ rpc


class _PatientConsumer(QueueConsumer):  # type: ignore[misc]
    """Reconnects for ever, soon and with jitter, instead of ever more slowly."""

    _complained_at = float("-inf")
    _dropped_at = float("-inf")

    def establish_connection(self) -> Any:
        connection = self.connection.clone()
        while True:
            try:
                connect_once(connection, 10)
                return connection
            except Exception as problem:  # noqa: BLE001 - reconnecting is the answer
                low, high = self.container.config.get("RECONNECT_PAUSE", (0.5, 2.0))
                self._complain(problem)
                eventlet.sleep(random.uniform(low, high))

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
                    config["AMQP_URI"], get_rpc_exchange(config), "json", message
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


def log_failure(what: str, exc_info: Any) -> None:
    """One line for an error that speaks for itself, a traceback for a defect of ours."""
    problem = exc_info[1]
    if getattr(problem, "expected", False) or isinstance(problem, BadRequest):
        log.info("%s: %s: %s", what, type(problem).__name__, _line(problem))
    else:
        log.error("%s failed", what, exc_info=exc_info)


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

        self.queue_consumer.on_consume_ready = ready


#: ``@at_connection``: the method runs whenever the service's queues are there (again).
at_connection = _AtConnection.decorator


# ------------------------------------------------------------------ timers


class _SteadyTimer(Entrypoint):  # type: ignore[misc]
    """Calls its method every ``seconds``; a tick that comes late is skipped, not made up.

    ``seconds`` may be a function of the process's config.
    """

    def __init__(
        self, seconds: float | Callable[[dict[str, Any]], float], eager: bool = False, **kwargs: Any
    ) -> None:
        self.seconds = seconds
        self.eager = eager
        self.should_stop = GreenEvent()
        self.done = GreenEvent()
        self.thread: Any = None
        super().__init__(**kwargs)

    def start(self) -> None:
        self.thread = self.container.spawn_managed_thread(self._run)

    def stop(self) -> None:
        self.should_stop.send(True)
        self.thread.wait()

    def kill(self) -> None:
        self.thread.kill()

    def _run(self) -> None:
        period = self.seconds(self.container.config) if callable(self.seconds) else self.seconds
        due = time.monotonic() + (0 if self.eager else period)
        while not self._stopped_within(due - time.monotonic()):
            self.container.spawn_worker(self, (), {}, handle_result=self._finished)
            self.done.wait()
            self.done.reset()
            due = next_tick(due, period, time.monotonic())

    def _stopped_within(self, seconds: float) -> bool:
        with eventlet.Timeout(max(seconds, 0), exception=False):
            self.should_stop.wait()
        return bool(self.should_stop.ready())

    def _finished(self, _context: Any, result: Any, exc_info: Any) -> tuple[Any, Any]:
        if exc_info is not None:
            log_failure(self.method_name, exc_info)
        self.done.send()
        return result, exc_info


def every(seconds: float | Callable[[dict[str, Any]], float], eager: bool = False) -> Any:
    """``@every(1.0)``: call the method each ``seconds``; ``eager``: also at once."""
    # By name: nameko takes a lone function for the method to be decorated.
    return _SteadyTimer.decorator(seconds=seconds, eager=eager)


def next_tick(due: float, period: float, now: float) -> float:
    """The first tick of the series after ``due`` that is not already past at ``now``."""
    following = due + period
    if following >= now:
        return following
    missed = int((now - following) / period) + 1
    return following + missed * period


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
        wait_for_broker(config["AMQP_URI"])
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
