"""The database of the sample: PostgreSQL where it is installed, else a small server.

``python database.py start --dir DIR [--server auto|postgresql|small]``
``python database.py check|stop|remove --dir DIR``

A private server on the loopback with a password of its own, which is in ``DIR/pgpass``
(0600). ``stop`` keeps the data, so that a repair loses nothing; ``remove`` removes them.
"""

from __future__ import annotations

import argparse
import json
import os
import pwd
import re
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bootlevels.plans.background import (
    LOOPBACK,
    Background,
    UnixUser,
    free_port,
    listener,
    private_directory,
)
from bootlevels.plans.outputs import write_outputs

#: Where Debian keeps PostgreSQL, by version.
_DEBIAN = Path("/usr/lib/postgresql")
#: Where the data are when we are root: PostgreSQL will not run as root, and no other user
#: can look into a run's directory.
_OUTSIDE = Path("/var/tmp")
_PREFIX = "epu-webapp-"
#: Seconds for PostgreSQL to make its files, to start, and to stop in an orderly way.
MAKE, START, STOP = 60.0, 30.0, 20.0
#: Seconds that ``remove`` waits for ``stop``, which runs at the same time.
REMOVE_WAIT = 60.0

_TABLE = """
CREATE TABLE IF NOT EXISTS counter (one int PRIMARY KEY CHECK (one = 1), visits bigint NOT NULL);
INSERT INTO counter VALUES (1, 0) ON CONFLICT DO NOTHING;
"""
_SETTINGS = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",
    "max_connections": "20",
    "shared_buffers": "16MB",
    "logging_collector": "off",
}


class DatabaseTrouble(Exception):
    """It could not be done; the text says why."""


@dataclass(frozen=True)
class Place:
    """Everything that one database has on this machine.

    ``directory`` is the run's; ``data`` may be elsewhere, see ``_OUTSIDE``; it is noted in
    a file before it is made, so that it is found whatever happens.
    """

    directory: Path

    @property
    def password_file(self) -> Path:
        return self.directory / "pgpass"

    @property
    def server(self) -> Background:
        return Background(self.directory, "server")

    @property
    def kind(self) -> str:
        return str(self._noted().get("kind", ""))

    @property
    def data(self) -> Path | None:
        noted = self._noted().get("data")
        return Path(noted) if isinstance(noted, str) else None

    def note(self, kind: str, data: Path) -> None:
        """Note which server it is and where its data will be. Raises OSError."""
        new = self.directory / "place.new"
        new.write_text(json.dumps({"kind": kind, "data": str(data)}))
        new.replace(self.directory / "place.json")

    def _noted(self) -> dict[str, Any]:
        try:
            found = json.loads((self.directory / "place.json").read_text())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def make_password(self) -> None:
        """Write the password file, in the form that PostgreSQL's clients read, if there is none."""
        if self.password_file.exists():
            return
        new = self.directory / "pgpass.new"
        new.unlink(missing_ok=True)
        _write_private(new, f"{LOOPBACK}:*:*:app:{secrets.token_urlsafe(24)}\n")
        new.replace(self.password_file)


def _write_private(path: Path, text: str, owner: UnixUser | None = None) -> None:
    number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(number, "w", encoding="utf-8") as file:
        if owner:
            os.fchown(number, owner.uid, owner.gid)
        file.write(text)


# ------------------------------------------------------------------ PostgreSQL


def postgres_programs() -> Path | None:
    """The directory of PostgreSQL's programs, the newest; None when it is not installed."""
    needed = ("postgres", "initdb", "psql")
    found = [path for path in _DEBIAN.glob("*/bin") if re.fullmatch(r"\d+", path.parent.name)]
    found.sort(key=lambda path: int(path.parent.name), reverse=True)
    on_path = shutil.which("postgres")
    if on_path:
        found.insert(0, Path(on_path).parent)
    return next((path for path in found if all((path / name).exists() for name in needed)), None)


def unprivileged() -> UnixUser | None:
    """Whose rights PostgreSQL gets: ours, or when we are root those of another user."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            found = pwd.getpwnam(name)
            return UnixUser(found.pw_uid, found.pw_gid)
    raise DatabaseTrouble("PostgreSQL does not run as root, and there is no other user")


@dataclass(frozen=True)
class Postgres:
    """A private PostgreSQL: ``programs`` is the directory of its programs."""

    place: Place
    programs: Path
    user: UnixUser | None

    @property
    def psql(self) -> str:
        return str(self.programs / "psql")

    @property
    def address(self) -> str:
        return f"postgresql://app@{LOOPBACK}:{self.place.server.port()}/postgres"

    def start(self) -> None:
        """Make what is missing and start it; it answers then. Raises DatabaseTrouble, OSError."""
        data = self._data_directory()
        if not (data / "cluster" / "PG_VERSION").exists():
            self._make_cluster(data)
        deadline = time.monotonic() + START
        while not self._start_once(data, deadline):
            if time.monotonic() >= deadline:
                why = self.place.server.last_words() or "it does not answer"
                raise DatabaseTrouble(f"PostgreSQL did not start within {START:g} s: {why}")
        self.ask(_TABLE)

    def ask(self, sql: str) -> str:
        """What PostgreSQL answers to ``sql``, which is our own text. Raises DatabaseTrouble."""
        environment = _environment() | {
            "PGPASSFILE": str(self.place.password_file),
            "PGCONNECT_TIMEOUT": "5",
        }
        words = [self.psql, "-XqAt", "-v", "ON_ERROR_STOP=1", "-c", sql, self.address]
        return _run(words, environment, self.place.directory, 15.0, None)

    def _data_directory(self) -> Path:
        data = self.place.data if self.place.kind == "postgresql" else None
        if data is None:
            inside = self.place.directory / "data"
            data = _OUTSIDE / f"{_PREFIX}{secrets.token_hex(8)}" if self.user else inside
            self.place.note("postgresql", data)
        with suppress(FileExistsError):
            data.mkdir(mode=0o700)
        if self.user:
            os.chown(data, self.user.uid, self.user.gid, follow_symlinks=False)
        return data

    def _make_cluster(self, data: Path) -> None:
        """``initdb``; a directory of an attempt that was killed is made anew."""
        new, password = data / "cluster.new", data / "password"
        shutil.rmtree(new, ignore_errors=True)
        password.unlink(missing_ok=True)
        text = self.place.password_file.read_text(encoding="utf-8").strip()
        _write_private(password, text.rpartition(":")[2] + "\n", self.user)
        words = [str(self.programs / "initdb"), "--pgdata", str(new), "--username", "app"]
        words += ["--pwfile", str(password), "--auth", "scram-sha-256", "--encoding", "UTF8"]
        words += ["--no-locale", "--no-sync", "--no-instructions"]
        try:
            _run(words, _environment(), data, MAKE, self.user)
        finally:
            password.unlink()
        new.rename(data / "cluster")

    def _start_once(self, data: Path, deadline: float) -> bool:
        """Whether it answers; False when it ended by itself, or time is over."""
        server = self.place.server
        port = free_port(server.port())
        words = [str(self.programs / "postgres"), "-D", str(data / "cluster"), "-p", str(port)]
        for name, value in _SETTINGS.items():
            words += ["-c", f"{name}={value}"]
        server.start(words, port=port, environment=_environment(), directory=data, user=self.user)
        while time.monotonic() < deadline:
            with suppress(DatabaseTrouble):
                self.ask("SELECT 1")
                return True
            if server.wait_gone(0.1):
                # Another took the port, or processes of a killed one are about to end.
                time.sleep(0.5)
                return False
        return False


def _environment() -> dict[str, str]:
    return {"PATH": os.defpath, "LC_ALL": "C"}


def _run(
    words: Sequence[str],
    environment: dict[str, str],
    directory: Path,
    timeout: float,
    user: UnixUser | None,
) -> str:
    """What a program says. Raises DatabaseTrouble with its first complaint, OSError."""
    try:
        done = subprocess.run(
            words,
            env=environment,
            cwd=directory,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            user=user.uid if user else None,
            group=user.gid if user else None,
            extra_groups=[] if user else None,
        )
    except subprocess.TimeoutExpired:
        name = Path(words[0]).name
        raise DatabaseTrouble(f"{name} did not end within {timeout:g} s") from None
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise DatabaseTrouble(f"{Path(words[0]).name}: {lines[0]}")
    return done.stdout.strip()


# ------------------------------------------------------------------ actions


def start(place: Place, server: str) -> None:
    """Start the database, whatever was left of it, and tell where it is."""
    private_directory(place.directory)
    stop(place)
    place.make_password()
    programs = None if server == "small" else postgres_programs()
    if programs is None and (server == "postgresql" or place.kind == "postgresql"):
        raise DatabaseTrouble("PostgreSQL is not installed (apt-get install postgresql)")
    outputs = {"password_file": str(place.password_file), "psql": ""}
    if programs is not None:
        postgres = Postgres(place, programs, unprivileged())
        postgres.start()
        version = postgres.ask("SHOW server_version").split()[0]
        outputs |= {"server": f"PostgreSQL {version}", "psql": postgres.psql}
        outputs |= {"address": postgres.address}
    else:
        _start_small(place)
        why = "" if server == "small" else " (PostgreSQL is not installed)"
        outputs["server"] = f"the sample's own small server{why}"
        outputs["address"] = f"counter://{LOOPBACK}:{place.server.port()}"
    outputs["listens_at"] = f"{LOOPBACK}:{place.server.port()}"
    write_outputs(outputs)
    print(f"{outputs['server']} is at {outputs['address']}")


def _start_small(place: Place) -> None:
    place.note("small", place.directory / "counter.db")
    with listener(place.server.port()) as listening:
        program = Path(__file__).absolute().with_name("counter_server.py")
        words = [sys.executable, str(program), f"--socket={listening.fileno()}"]
        words += [f"--file={place.data}", f"--password-file={place.password_file}"]
        place.server.start(
            words,
            port=listening.getsockname()[1],
            environment=os.environ,
            directory=place.directory,
            sockets=[listening],
        )


def check(place: Place) -> None:
    """Whether the database answers. Raises DatabaseTrouble."""
    if place.server.pid() is None:
        raise DatabaseTrouble("the database does not run")
    if place.kind == "postgresql":
        programs = postgres_programs()
        if programs is None:
            raise DatabaseTrouble("PostgreSQL's programs are gone")
        visits = Postgres(place, programs, unprivileged()).ask("SELECT visits FROM counter")
        print(f"{visits} visits")


def stop(place: Place) -> None:
    """End the server, in an orderly way if it can; the data stay."""
    if place.kind == "postgresql":
        # Fast, then immediate shutdown, in PostgreSQL's own words.
        place.server.stop([(signal.SIGINT, STOP), (signal.SIGQUIT, 5.0)])
    else:
        place.server.stop()


def remove(place: Place) -> None:
    """Remove data and password once the server is gone. Raises DatabaseTrouble, OSError."""
    if not place.server.wait_gone(REMOVE_WAIT):
        raise DatabaseTrouble("the database still runs, so its files were not removed")
    data = place.data
    if data is not None and data.parent == _OUTSIDE and data.name.startswith(_PREFIX):
        with suppress(FileNotFoundError):
            shutil.rmtree(data)
    if place.directory.exists():
        shutil.rmtree(place.directory)


def main() -> int:
    """Exit 0; 1: it could not be done; 2: wrong usage."""
    parser = argparse.ArgumentParser(description="The database of the sample webapp.")
    parser.add_argument("action", choices=["start", "check", "stop", "remove"])
    parser.add_argument("--dir", type=Path, required=True, help="for its state, log, password")
    parser.add_argument("--server", choices=["auto", "postgresql", "small"], default="auto")
    options = parser.parse_args()
    place = Place(options.dir.absolute())
    try:
        match options.action:
            case "start":
                start(place, options.server)
            case "check":
                check(place)
            case "stop":
                stop(place)
            case "remove":
                remove(place)
    except (DatabaseTrouble, OSError) as problem:
        print(f"database: {problem}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
