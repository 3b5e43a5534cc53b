"""A plain kombu client of nameko's RPC wire: deadlines everywhere, no eventlet.

For everything that is not a nameko service: the ``epu`` command, the boot tool, an agent
that enrols, and, through ClientPool, for calls between the coordinator's services. The
wire is nameko's own: a JSON body ``{"args", "kwargs"}`` on the topic exchange
``nameko-rpc`` with key ``<service>.<method>``; the reply comes back on the same exchange
with a uuid4 as key.
"""

from __future__ import annotations

import math
import socket
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import amqp.exceptions
from kombu import Connection, Consumer, Exchange, Producer, Queue

from agent.broker_link import (
    CONNECTION_ERRORS,
    close_soon,
    connect_once,
    connection_to,
    one_line,
)
from agent.broker_link import EventPublisher as EventPublisher
from agent.messages import RPC_EXCHANGE, agent_service, mask_url

#: Seconds a call may take, connecting included, unless the caller says otherwise.
DEFAULT_TIMEOUT = 10.0
#: A pool keeps a connection that nobody uses for so many seconds.
IDLE_FOR = 60.0


class CallFailed(Exception):
    """A call did not bring a result; the subclass says what to do about it."""


class BrokerUnreachable(CallFailed):
    """The broker refused or lost the connection: the call may not have been made at all."""


class CallTimeout(CallFailed):
    """No answer in time. Whether the call was executed is unknown."""


class UnknownService(CallFailed):
    """Nobody serves that name now; the call was not executed."""


class RemoteError(CallFailed):
    """The service answered with an error. ``exc_type`` is its class name."""

    def __init__(self, exc_type: str, value: str) -> None:
        self.exc_type = exc_type
        self.value = value
        super().__init__(f"{exc_type}: {value}" if value else exc_type)


class RpcClient:
    """One connection and one exclusive reply queue; not safe for several threads.

    The connection is made at the first call and again after it was lost; a broker that has
    not let us in after ``connect_within`` seconds (default: the call's own) is given up, so
    that the time for an answer may be longer. ``amqp_url`` never appears in an error but
    masked.

    All components answer to one key of the connection; an agent gets one for each call. It
    learns that key, and its account may listen to any UUID: it would hear what others answer.
    """

    def __init__(
        self,
        amqp_url: str,
        *,
        timeout: float = DEFAULT_TIMEOUT,
        connect_within: float | None = None,
    ) -> None:
        self._url = amqp_url
        self._timeout = timeout
        self._connect_within = math.inf if connect_within is None else connect_within
        self._connection: Connection | None = None
        self._producer: Any = None
        self._reply_key = ""
        self._reply_queue: Any = None
        self._replies: dict[str, Any] = {}
        self._returned: list[Any] = []

    def __enter__(self) -> RpcClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Drop the connection; the next call makes a new one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            close_soon(connection)
        self._replies.clear()

    def call(
        self, service: str, method: str, *args: Any, timeout: float | None = None, **kwargs: Any
    ) -> Any:
        """The result of ``service.method(*args, **kwargs)``.

        Raises BrokerUnreachable, CallTimeout, UnknownService or RemoteError, never later
        than ``timeout`` seconds (default: the client's). The request expires with the
        deadline, so a service that returns later does not execute it.
        """
        deadline = time.monotonic() + (self._timeout if timeout is None else timeout)
        try:
            self._connect(deadline)
            with self._reply_key_for(service) as reply_to:
                sent = self._send(service, method, args, kwargs, reply_to, deadline)
                reply = self._wait(service, method, sent, deadline)
        except CallFailed:
            raise
        except amqp.exceptions.AccessRefused as problem:
            self.close()
            where = mask_url(self._url)
            raise BrokerUnreachable(
                f"the broker at {where} refused: {one_line(problem)}"
            ) from problem
        except CONNECTION_ERRORS as problem:
            self.close()
            where = mask_url(self._url)
            raise BrokerUnreachable(
                f"the broker at {where} can't be reached: {one_line(problem)}"
            ) from problem
        if not isinstance(reply, dict):
            raise RemoteError("MalformedReply", f"{service}.{method} answered no object")
        error = reply.get("error")
        if isinstance(error, dict):
            raise RemoteError(str(error.get("exc_type", "Error")), str(error.get("value", "")))
        if error:
            raise RemoteError("Error", str(error))
        return reply.get("result")

    @contextmanager
    def _reply_key_for(self, service: str) -> Iterator[str]:
        """The key for the answer to one call; see the class."""
        if not service.startswith(agent_service("")):
            yield self._reply_key
            return
        key = str(uuid.uuid4())
        queue = self._reply_queue
        queue.bind_to(queue.exchange, routing_key=key)
        try:
            yield key
        finally:
            if self._connection is not None:
                try:
                    queue.unbind_from(queue.exchange, routing_key=key)
                except CONNECTION_ERRORS:
                    self.close()  # what was answered was answered

    def _connect(self, deadline: float) -> None:
        if self._connection is not None and self._still_open():
            return
        self.close()
        by = min(deadline, time.monotonic() + self._connect_within)
        connection = connection_to(
            self._url,
            connect_timeout=_remaining(by),
            transport_options={"confirm_publish": True},
        )
        self._connection = connection
        connect_once(connection, _remaining(by))
        # Without this a peer that falls silent in mid-handshake of a channel hangs us.
        sock = connection.connection.transport.sock
        sock.settimeout(_remaining(by))
        self._open(connection.channel())
        sock.settimeout(max(self._timeout, 1.0))

    def _still_open(self) -> bool:
        """Whether an idle connection still stands, as far as we were told.

        What a broker said as it went lies unread in the socket. Found out before the call
        and not by it, so that a restarted broker costs no call, and none is made twice.
        """
        assert self._connection is not None
        try:
            self._connection.drain_events(timeout=0)
        except TimeoutError:
            pass  # nothing to read: all is well
        except CONNECTION_ERRORS:
            return False
        return bool(self._connection.connected)

    def _open(self, channel: Any) -> None:
        self._reply_key = str(uuid.uuid4())
        exchange = Exchange(RPC_EXCHANGE, type="topic", durable=True, no_declare=True)
        # Server-named and exclusive: an account needs no more than the right to own such
        # a queue, and nobody else can read the answers.
        queue = Queue("", exchange, routing_key=self._reply_key, exclusive=True, auto_delete=True)
        consumer = Consumer(
            channel, [queue], accept=["json"], no_ack=True, callbacks=[self._on_reply]
        )
        consumer.consume()
        self._reply_queue = consumer.queues[0]
        self._producer = Producer(
            channel,
            exchange=exchange,
            serializer="json",
            auto_declare=False,
            on_return=lambda *returned: self._returned.append(returned),
        )

    def _on_reply(self, body: Any, message: Any) -> None:
        self._replies[message.properties.get("correlation_id", "")] = body

    def _send(
        self,
        service: str,
        method: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        reply_to: str,
        by: float,
    ) -> str:
        correlation_id = str(uuid.uuid4())
        self._returned.clear()
        self._replies.clear()
        left = _remaining(by)
        self._producer.publish(
            {"args": list(args), "kwargs": kwargs},
            routing_key=f"{service}.{method}",
            reply_to=reply_to,
            correlation_id=correlation_id,
            mandatory=True,
            expiration=left,
            confirm_timeout=left,
            delivery_mode=1,
        )
        if self._returned:
            raise UnknownService(f"nobody answers for '{service}' (it is not running)")
        return correlation_id

    def _wait(self, service: str, method: str, correlation_id: str, by: float) -> Any:
        assert self._connection is not None
        while correlation_id not in self._replies:
            left = by - time.monotonic()
            if left <= 0:
                # A late reply must not be taken for the answer of the next call.
                self.close()
                raise CallTimeout(f"no answer from {service}.{method} in time")
            with suppress(socket.timeout, TimeoutError):
                self._connection.drain_events(timeout=left)
        return self._replies.pop(correlation_id)


class ClientPool:
    """RpcClients for many threads or greenlets: each call has one of its own.

    At most ``size`` idle connections are kept, each for IDLE_FOR seconds: as many as calls
    are made side by side again and again, or each of them connects anew.
    """

    def __init__(
        self,
        amqp_url: str,
        *,
        timeout: float = DEFAULT_TIMEOUT,
        size: int = 4,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url = amqp_url
        self._timeout = timeout
        self._size = size
        self._clock = clock
        #: Since when each has been idle; the one that was used last is at the right.
        self._idle: deque[tuple[float, RpcClient]] = deque()
        self._lock = threading.Lock()

    def call(
        self, service: str, method: str, *args: Any, timeout: float | None = None, **kwargs: Any
    ) -> Any:
        """See RpcClient.call."""
        with self._client() as client:
            return client.call(service, method, *args, timeout=timeout, **kwargs)

    @contextmanager
    def _client(self) -> Iterator[RpcClient]:
        with self._lock:
            client = self._idle.pop()[1] if self._idle else None
        client = client or RpcClient(self._url, timeout=self._timeout)
        try:
            yield client
        finally:
            with self._lock:
                keep = len(self._idle) < self._size
                if keep:
                    self._idle.append((self._clock(), client))
            if not keep:
                client.close()
            self.close_idle()

    def close_idle(self) -> None:
        """Drop the connections that nobody used for long; after each call it is done, too."""
        before = self._clock() - IDLE_FOR
        old = []
        with self._lock:
            while self._idle and self._idle[0][0] < before:
                old.append(self._idle.popleft()[1])
        for client in old:
            client.close()

    def close(self) -> None:
        """Drop the idle connections."""
        with self._lock:
            idle, self._idle = list(self._idle), deque()
        for _, client in idle:
            client.close()


def _remaining(deadline: float) -> float:
    return max(deadline - time.monotonic(), 0.001)
