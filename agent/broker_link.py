"""One connection to the broker: made with a deadline, and what is sent over one as events."""

from __future__ import annotations

import logging
import random
import time
from contextlib import suppress
from typing import Any, NoReturn

import amqp.exceptions
from kombu import Connection, Producer, compression
from kombu.exceptions import KombuError

from agent.broker_tls import split_trust
from agent.messages import EVENTS_EXCHANGE, mask_url
from agent.watchdog import Watchdog

log = logging.getLogger(__name__)

#: What a connection that is refused, lost or closed by the broker raises.
CONNECTION_ERRORS = (OSError, amqp.exceptions.AMQPError, KombuError)


#: Seconds for anything that the broker has to confirm.
ANSWERS_WITHIN = 10.0
#: A broker has so many seconds to say goodbye; one that hangs never does.
CLOSE_WITHIN = 1.0


class EventPublisher:
    """Heartbeats and job events: transient, confirmed, expiring; never raises.

    ``publish`` says whether the broker has taken the message: without its word, what is sent
    over a connection whose other end vanished would be lost for a quarter of an hour, and the
    sender with it. The connection is made at the first publish and again after an error.
    Nothing is kept for later.
    """

    def __init__(self, url: str, watchdog: Watchdog | None = None) -> None:
        self._url = url
        self._watchdog = watchdog or Watchdog()
        self._user = url.partition("://")[2].partition(":")[0]
        self._connection: Any = None
        self._producer: Any = None
        self.failures = 0

    def publish(
        self, key: str, payload: Any, expiration: float, exchange: str = EVENTS_EXCHANGE
    ) -> bool:
        """Send ``payload`` (plain JSON values); the broker drops it after ``expiration`` s."""
        try:
            with self._watchdog.watching():
                self._open()
                self._producer.publish(
                    payload,
                    exchange=exchange,
                    routing_key=key,
                    expiration=expiration,
                    delivery_mode=1,
                    user_id=self._user,
                    confirm_timeout=ANSWERS_WITHIN,
                )
        except CONNECTION_ERRORS as problem:
            self.failures += 1
            if self.failures == 1:
                log.warning("events can't be sent: %s", one_line(problem))
            self.close()
            return False
        self.failures = 0
        return True

    def _open(self) -> None:
        if self._producer is not None:
            return
        self._connection = connection_to(
            self._url, connect_timeout=5, transport_options={"confirm_publish": True}
        )
        connect_once(self._connection, 5)
        self._connection.connection.transport.sock.settimeout(ANSWERS_WITHIN)
        self._producer = Producer(self._connection.channel(), serializer="json", auto_declare=False)

    def close(self) -> None:
        """Drop the connection."""
        connection, self._connection, self._producer = self._connection, None, None
        if connection is not None:
            close_soon(connection)


def connection_to(url: str, **options: Any) -> Connection:
    """A connection, not opened yet, to an address of the wire, TLS and its trust included.

    ``options``: kombu's own. Raises OSError for a certificate that is none.
    """
    plain, trust = split_trust(url)
    return Connection(plain, ssl=trust, **options) if trust else Connection(plain, **options)


def close_soon(connection: Connection) -> None:
    """Close a connection, whatever its state, within about CLOSE_WITHIN seconds."""
    with suppress(Exception):
        if connection.connected:  # else kombu would connect anew to give us its socket
            connection.connection.transport.sock.settimeout(CLOSE_WITHIN)
        connection.close()


def back_off(attempt: int, chance: float, low: float = 1.0, high: float = 30.0) -> float:
    """Seconds to wait after failed attempt number ``attempt`` (from 0).

    Doubles from ``low`` to ``high``; ``chance`` in [0, 1) spreads it over the upper half,
    so that a fleet that lost its broker does not come back in one moment.
    """
    full = min(high, low * 2.0 ** min(attempt, 30))
    return full * (0.5 + chance / 2)


def wait_for_broker(url: str, pause: tuple[float, float] = (1.0, 2.0)) -> None:
    """Return once the broker accepts our account. Waits without limit, with jitter.

    ``pause``: as ``low`` and ``high`` of ``back_off``. A process that gave up instead would
    be restarted until its supervisor gave up too.
    """
    said_at, attempt = 0.0, 0
    while True:
        try:
            with connection_to(url, connect_timeout=5) as found:
                connect_once(found, 5)
                return
        except Exception as problem:  # noqa: BLE001 - whatever it is, waiting is the answer
            if time.monotonic() - said_at > 30 or not said_at:
                log.warning("waiting for the broker at %s: %s", mask_url(url), one_line(problem))
                said_at = time.monotonic()
        time.sleep(back_off(attempt, random.random(), *pause))
        attempt += 1


def connect_once(connection: Connection, timeout: float) -> None:
    """Connect without kombu's own second try, which comes after 2 s and doubles deadlines.

    Raises what the attempt raised, at the latest after ``timeout`` seconds.
    """
    _refuse_compression()
    connection.ensure_connection(
        max_retries=1,
        interval_start=0,
        interval_step=0,
        timeout=timeout,
        reraise_as_library_errors=False,
    )


def one_line(problem: BaseException) -> str:
    """One line of an error without anything that may hold a password."""
    text = str(problem).splitlines()[0] if str(problem) else type(problem).__name__
    return mask_url(text) if "://" in text else text


def _refuse_compression() -> None:
    """Nobody packs messages on our wire, and kombu would unpack a whole bomb at a header's word.

    It does so before it looks at the content type; a message that asks for it is now one
    that can't be decoded.
    """
    for content_type in compression.encoders():
        compression.register(_no_compression, _no_compression, content_type)


def _no_compression(_body: bytes) -> NoReturn:
    raise ValueError("compressed messages are not taken")
