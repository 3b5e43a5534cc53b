"""A connection by ssh: Fabric makes it, paramiko carries.

A timer cuts it a little after the deadline, so a network that swallows everything holds
nobody. Every command is a fixed script and words (``shell_words``); the login shell of the
other side gets them quoted by ``shlex.join``, here and nowhere else.
"""

from __future__ import annotations

import logging
import shlex
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from threading import Timer
from time import monotonic
from typing import IO, Any

import paramiko
from fabric import Config, Connection

from bootlevels.transports.output import Output
from bootlevels.transports.process_group import GRACE
from bootlevels.transports.program import (
    CutShort,
    Limit,
    ProgramEnd,
    Started,
)
from bootlevels.transports.shell_words import (
    END_GROUP,
    REMOVE_LIMIT,
    Who,
    script,
    who,
)
from bootlevels.transports.staged import BOOTOUT_LIMIT

#: Seconds after the deadline in which a group is ended and a stage removed.
_AFTERWARDS = GRACE + REMOVE_LIMIT + 3.0
CONNECT_LIMIT = 20.0
_TICK = 0.1
_CHUNK = 1 << 16
#: Bytes that a login shell may print before a script says anything.
_ROOM = 1 << 16

_BROKEN = (paramiko.SSHException, OSError, EOFError)


@dataclass(frozen=True, kw_only=True)
class SshTarget:
    """Where and as whom; empty texts leave it to the user's ssh settings.

    ``known_hosts``: only hosts in this file are trusted. Without it a host's key is taken
    at first contact into ``kept_keys`` and held to from then on; ``known_to_user``: the
    user's own ``known_hosts`` counts too. Stages are made below ``stages``.
    """

    host: str
    user: str = ""
    port: int | None = None
    key: str = ""
    known_hosts: str = ""
    kept_keys: Path
    known_to_user: bool = True
    stages: str


@contextmanager
def linked(target: SshTarget, limit: Limit) -> Iterator[SshLink]:
    link = SshLink(target, limit)
    try:
        yield link
    finally:
        link.close()


class SshLink:
    """One connection. Raises CutShort wherever it breaks or time is over."""

    def __init__(self, target: SshTarget, limit: Limit) -> None:
        self._target = target
        # paramiko reports to its log what it also raises; without this it reaches stderr.
        paramiko_log = logging.getLogger("paramiko")
        if not paramiko_log.handlers:
            paramiko_log.addHandler(logging.NullHandler())
        self._connection = self._connect(limit)
        cut_at = max(0.0, limit.deadline - monotonic()) + _AFTERWARDS
        self._timer = Timer(cut_at, self.close)
        self._timer.daemon = True
        self._timer.start()

    def _connect(self, limit: Limit) -> Any:
        target, seconds = self._target, min(limit.left(), CONNECT_LIMIT)
        options: dict[str, Any] = dict.fromkeys(
            ("banner_timeout", "auth_timeout", "channel_timeout"), seconds
        )
        if target.key:
            options |= {"key_filename": target.key, "look_for_keys": False, "allow_agent": False}
        sock: socket.socket | None = None
        try:
            connection = Connection(
                target.host,
                user=target.user or None,
                port=target.port,
                config=Config(),
                connect_timeout=int(seconds) + 1,
                connect_kwargs=options,
            )
            self._trust(connection.client)
            if connection.gateway is None:
                # Ours, so that one clock covers name, address, greeting and account.
                sock = socket.create_connection((connection.host, connection.port), seconds)
                connection.connect_kwargs["sock"] = sock
                guard = Timer(max(0.1, limit.left()), _shut, [sock])
                guard.daemon = True
                guard.start()
                try:
                    connection.open()
                finally:
                    guard.cancel()
            else:
                connection.open()
        except (*_BROKEN, ValueError) as problem:
            if sock is not None:
                sock.close()
            limit.left()
            raise self._broken("can't be reached", problem) from None
        connection.transport.set_keepalive(15)
        return connection

    def _trust(self, client: Any) -> None:
        target = self._target
        if target.known_hosts:
            client.load_host_keys(target.known_hosts)
            client.set_missing_host_key_policy(paramiko.RejectPolicy())
            return
        if target.known_to_user:
            client.load_system_host_keys()
        if target.kept_keys.exists():
            client.load_host_keys(str(target.kept_keys))
        client.set_missing_host_key_policy(_KeepFirst(target.kept_keys))

    def is_alive(self) -> bool:
        return bool(self._connection.is_connected and self._connection.transport.is_active())

    def close(self) -> None:
        self._timer.cancel()
        with suppress(*_BROKEN):
            self._connection.close()

    def call(
        self, words: Sequence[str], given: IO[bytes] | None, limit: Limit
    ) -> tuple[int, bytes]:
        """Exit code and output of a short command."""
        said = b""
        try:
            channel = self._start(words, limit)
            with suppress(OSError):  # it ended before it had read all; its code says why
                _send(channel, given or BytesIO(), limit)
            channel.shutdown_write()
            while (data := _receive(channel, limit)) != b"":
                said = (said + (data or b""))[: BOOTOUT_LIMIT + _ROOM]
            return self._exit_code(channel, limit), said
        except _BROKEN as problem:
            raise self._broken("was lost", problem) from None

    def follow(
        self,
        words: Sequence[str],
        output: Output,
        limit: Limit,
        on_started: Callable[[Started], None],
    ) -> ProgramEnd:
        """Run a program to its end; on any other end its group is ended over there."""
        program: Who | None = None
        try:
            channel = self._start(words, limit)
            said = b""
            while program is None:
                data = _receive(channel, limit)
                said += data or b""
                if data == b"" or len(said) > _ROOM:
                    last = said.decode(errors="replace").strip()[-200:]
                    what = f"can't be started: {last or 'no answer'}"
                    return ProgramEnd(exit_code=None, problem=what)
                program = who(said) if said.endswith(b"\n") else None
            on_started(Started(program.pid, program.mark))
            channel.sendall(b"go\n")
            channel.shutdown_write()
            while True:
                data = _receive(channel, limit)
                if data:
                    output.file.write(data)
                    continue
                output.file.flush()
                output.hide_secrets()
                # Something in the background may keep the channel open for ever.
                if data == b"" or channel.exit_status_ready():
                    break
            code = self._exit_code(channel, limit)
            if code < 0:
                return ProgramEnd(exit_code=None, problem="was ended by a signal")
            return ProgramEnd(exit_code=code)
        except CutShort as cut:
            self._end_whatever_happens(program)
            return cut.end
        except _BROKEN as problem:
            self._end_whatever_happens(program)
            return self._broken("was lost", problem).end
        except BaseException:
            self._end_whatever_happens(program)
            raise

    def end_group(self, program: Who) -> None:
        """End a process group over there. Raises CutShort when it can't be reached."""
        tenths = str(round(GRACE * 10))
        self.call(script(END_GROUP, str(program.group), tenths), None, Limit.seconds(GRACE + 5.0))

    def _end_whatever_happens(self, program: Who | None) -> None:
        if program is None:
            return  # it waits for a word that never comes, and ends with its channel
        with suppress(CutShort):
            if self.is_alive():
                self.end_group(program)
                return
            with linked(self._target, Limit.seconds(REMOVE_LIMIT)) as another:
                another.end_group(program)

    def _start(self, words: Sequence[str], limit: Limit) -> Any:
        channel = self._connection.transport.open_session(timeout=limit.left())
        channel.settimeout(_TICK)
        channel.set_combine_stderr(True)
        channel.exec_command(shlex.join(words))
        return channel

    def _exit_code(self, channel: Any, limit: Limit) -> int:
        while not channel.status_event.wait(min(_TICK, limit.left())):
            pass
        code = int(channel.exit_status)
        if code < 0 and not self.is_alive():
            raise EOFError("the connection ended")
        return code

    def _broken(self, what: str, problem: BaseException) -> CutShort:
        said = str(problem).splitlines()[0] if str(problem) else type(problem).__name__
        text = f"can't be run: the connection to {self._target.host} {what}: {said}"
        return CutShort(ProgramEnd(exit_code=None, problem=text, unreachable=True))


class _KeepFirst:
    """Takes an unknown host's key and writes it down; another key is refused from then on."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def missing_host_key(self, client: Any, hostname: str, key: Any) -> None:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._path.open("a", encoding="ascii") as file:
            file.write(f"{hostname} {key.get_name()} {key.get_base64()}\n")


def _send(channel: Any, given: IO[bytes], limit: Limit) -> None:
    while data := given.read(_CHUNK):
        while data:
            try:
                data = data[channel.send(data) :]
            except TimeoutError:
                limit.left()


def _receive(channel: Any, limit: Limit) -> bytes | None:
    """What came; b"" at the end; None when nothing came for a moment."""
    limit.left()
    try:
        data: bytes = channel.recv(_CHUNK)
    except TimeoutError:
        return None
    return data


def _shut(sock: socket.socket) -> None:
    with suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
