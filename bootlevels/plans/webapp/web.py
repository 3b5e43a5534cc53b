"""A web server whose pages count their visits in a database that it shares with others.

``python web.py start --dir DIR --name web-0 --database ADDRESS --password-file FILE``
``python web.py stop --dir DIR --name web-0``

``/`` counts a visit and shows how many there were; ``/count`` tells the number as JSON and
counts nothing; ``/healthy`` is 200 while the database answers.
"""

from __future__ import annotations

import argparse
import html
import json
import os
import socket
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from bootlevels.plans.background import Background, listener, private_directory
from bootlevels.plans.outputs import write_outputs

#: Seconds that the database has for an answer.
DEADLINE = 5.0
#: Questions to the database at the same time; it has 20 connections for two web servers.
AT_ONCE = 8

PAGE = """\
<!doctype html>
<title>{name}</title>
<h1>{visits} visits</h1>
<p>{name} counted this one in the database at {database}.</p>
"""


class DatabaseTrouble(Exception):
    """The database gave no answer; the text is fit for the page."""


class Counter(Protocol):
    """The number of visits, in some database."""

    def add(self, visits: int) -> int:
        """Count so many visits, none included; how many there are now. Raises DatabaseTrouble."""
        ...


@dataclass(frozen=True)
class PostgresCounter:
    """In PostgreSQL, asked with ``psql``: Python brings no client of its own along."""

    address: str
    psql: str
    password_file: Path

    def add(self, visits: int) -> int:
        sql = f"UPDATE counter SET visits = visits + {int(visits)} RETURNING visits"
        try:
            done = subprocess.run(
                [self.psql, "-XqAt", "-v", "ON_ERROR_STOP=1", "-c", sql, self.address],
                env={"PATH": os.defpath, "LC_ALL": "C", "PGPASSFILE": str(self.password_file)},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=DEADLINE,
                check=False,
            )
            if done.returncode == 0:
                return int(done.stdout)
        except subprocess.TimeoutExpired:
            raise DatabaseTrouble("the database does not answer") from None
        except (OSError, ValueError) as problem:
            raise DatabaseTrouble(f"psql: {problem}") from None
        raise DatabaseTrouble((done.stderr.strip() or "psql failed").splitlines()[0])


@dataclass(frozen=True)
class SmallCounter:
    """In the sample's own little server: one line of JSON there, one back."""

    host: str
    port: int
    password: str = field(repr=False)

    def add(self, visits: int) -> int:
        question = json.dumps({"password": self.password, "add": visits})
        try:
            with socket.create_connection((self.host, self.port), DEADLINE) as connection:
                connection.sendall(question.encode() + b"\n")
                with connection.makefile("rb") as answers:
                    found = json.loads(answers.readline(4096))
        except (OSError, ValueError) as problem:
            raise DatabaseTrouble(f"the database does not answer: {problem}") from None
        if "visits" not in found:
            raise DatabaseTrouble(str(found.get("error", "the database gave no number")))
        return int(found["visits"])


def counter_at(address: str, password_file: Path, psql: str) -> Counter:
    """The counter in the database at ``address``. Raises OSError, ValueError."""
    url = urlsplit(address)
    if url.scheme == "postgresql":
        return PostgresCounter(address, psql, password_file)
    if url.scheme == "counter" and url.hostname and url.port:
        password = password_file.read_text(encoding="utf-8").strip().rpartition(":")[2]
        return SmallCounter(url.hostname, url.port, password)
    raise ValueError(f"'{address}' is no address of a database")


class Site(ThreadingHTTPServer):
    """The pages of one web server, on a socket that listens already."""

    daemon_threads = True

    def __init__(self, listening: socket.socket, name: str, database: str, visits: Counter) -> None:
        super().__init__(listening.getsockname(), Page, bind_and_activate=False)
        self.socket.close()
        self.socket = listening
        self.name = name
        self.database = database
        self._visits = visits
        self._free = threading.BoundedSemaphore(AT_ONCE)

    def count(self, visits: int) -> int:
        """As ``Counter.add``, with only so many questions at once."""
        if not self._free.acquire(timeout=DEADLINE):
            raise DatabaseTrouble("too many visitors at once")
        try:
            return self._visits.add(visits)
        finally:
            self._free.release()


class Page(BaseHTTPRequestHandler):
    """Answers one visitor."""

    server: Site
    timeout = 10

    def do_GET(self) -> None:
        try:
            match urlsplit(self.path).path:
                case "/":
                    shown = {"name": self.server.name, "database": self.server.database}
                    safe = {key: html.escape(text) for key, text in shown.items()}
                    page = PAGE.format(**safe, visits=self.server.count(1))
                    self._answer(HTTPStatus.OK, "text/html; charset=utf-8", page)
                case "/count":
                    found = {"visits": self.server.count(0), "server": self.server.name}
                    self._answer(HTTPStatus.OK, "application/json", json.dumps(found))
                case "/healthy":
                    self.server.count(0)
                    self._answer(HTTPStatus.OK, "text/plain", "well\n")
                case _:
                    self._answer(HTTPStatus.NOT_FOUND, "text/plain", "there is no such page\n")
        except DatabaseTrouble as problem:
            self._answer(HTTPStatus.SERVICE_UNAVAILABLE, "text/plain", f"{problem}\n")

    def _answer(self, status: HTTPStatus, kind: str, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def serve(options: argparse.Namespace) -> None:
    """Answer visitors until a signal ends this process."""
    visits = counter_at(options.database, options.password_file, options.psql)
    listening = socket.socket(fileno=options.socket)
    # Nobody who reads the page needs to know under which account.
    place = urlsplit(options.database)
    Site(listening, options.name, f"{place.hostname}:{place.port}", visits).serve_forever()


def start(options: argparse.Namespace) -> None:
    """Start the server in the background, at its former port if it had one."""
    private_directory(options.dir)
    server = Background(options.dir, options.name)
    server.stop()  # it may have been started with another database
    with listener(server.port()) as listening:
        port = listening.getsockname()[1]
        words = [sys.executable, str(Path(__file__).absolute()), "serve", *sys.argv[2:]]
        server.start(
            [*words, f"--socket={listening.fileno()}"],
            port=port,
            environment=os.environ,
            directory=options.dir,
            sockets=[listening],
        )
    write_outputs({"url": f"http://127.0.0.1:{port}/"})
    print(f"{options.name} answers at http://127.0.0.1:{port}/")


def stop(options: argparse.Namespace) -> None:
    """End the server; one that does not run is ended already."""
    Background(options.dir, options.name).stop()


def main() -> int:
    """Exit 0; 1: it could not be done; 2: wrong usage."""
    parser = argparse.ArgumentParser(description="A web server that counts its visits.")
    parser.add_argument("action", choices=["start", "serve", "stop"])
    parser.add_argument("--dir", type=Path, required=True, help="for its state and its log")
    parser.add_argument("--name", required=True)
    parser.add_argument("--database", default="", help="its address")
    parser.add_argument("--password-file", type=Path, default=Path("pgpass"))
    parser.add_argument("--psql", default="psql", help="PostgreSQL's client")
    parser.add_argument("--socket", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    actions: dict[str, Any] = {"start": start, "serve": serve, "stop": stop}
    try:
        actions[options.action](options)
    except (OSError, ValueError) as problem:
        print(f"{options.name}: {problem}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
