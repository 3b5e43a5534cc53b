"""A way to the broker that tests can cut, for all that must outlive one."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import closing, suppress

import pytest

from agent.messages import BrokerAccess


class Gate:
    """A TCP relay to the broker that can cut all connections and stay shut.

    It can also forget the connections there are, as a firewall does: both ends keep an open
    connection on which nothing ever arrives any more, not even its end.
    """

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._sockets: list[socket.socket] = []
        self._lock = threading.Lock()
        self._open = True
        self._ended = False
        self._silent = False
        self._forgotten: set[socket.socket] = set()
        #: How many came while it was shut, ever.
        self.refused = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def shut(self) -> None:
        """Cut everything; refuse what comes."""
        with self._lock:
            self._open = False
            found, self._sockets = self._sockets, []
        self._forgotten.clear()
        for each in found:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def open(self) -> None:
        self._open = True
        self._silent = False

    def forget(self, newcomers_too: bool = False) -> None:
        """Swallow all that is said on the connections there are.

        ``newcomers_too``: and on new ones, until it is opened: a partition.
        """
        with self._lock:
            self._silent = newcomers_too
            self._forgotten |= set(self._sockets)

    def close(self) -> None:
        self._ended = True
        self._listener.close()
        self.shut()

    def _accept(self) -> None:
        while not self._ended:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            if not self._open:
                near.close()
                self.refused += 1
                continue
            try:
                far = socket.create_connection(self._target, timeout=5)
            except OSError:
                near.close()
                self.refused += 1
                continue
            far.settimeout(None)
            with self._lock:
                self._sockets += [near, far]
                if self._silent:
                    self._forgotten |= {near, far}
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._relay, args=(source, sink), daemon=True).start()

    def _relay(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if source not in self._forgotten:
                    sink.sendall(data)
        if source in self._forgotten:
            return
        for each in (source, sink):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def gate(broker: BrokerAccess) -> Iterator[Gate]:
    with closing(Gate(broker.host, broker.port)) as found:
        yield found
