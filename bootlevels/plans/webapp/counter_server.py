"""A very small database server: one counter in an SQLite file, asked over TCP.

It stands in where PostgreSQL is not installed. One line of JSON is a question,
``{"password": "…", "add": 1}``, one line the answer, ``{"visits": 2}``.
"""

from __future__ import annotations

import argparse
import hmac
import json
import socket
import socketserver
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

_TABLE = "CREATE TABLE IF NOT EXISTS counter (one INTEGER PRIMARY KEY, visits INTEGER NOT NULL)"
_FIRST = "INSERT OR IGNORE INTO counter VALUES (1, 0)"
_ADD = "UPDATE counter SET visits = visits + ? RETURNING visits"


def add(file: Path, visits: int) -> int:
    """Count so many visits; how many there are now. Raises sqlite3.Error."""
    with closing(sqlite3.connect(file, timeout=5.0)) as database, database:
        database.execute(_TABLE)
        database.execute(_FIRST)
        [[found]] = database.execute(_ADD, (visits,)).fetchall()
        return int(found)


class Server(socketserver.ThreadingTCPServer):
    """On a socket that listens already."""

    daemon_threads = True

    def __init__(self, listening: socket.socket, file: Path, password: str) -> None:
        super().__init__(listening.getsockname(), Question, bind_and_activate=False)
        self.socket.close()
        self.socket = listening
        self.file = file
        self.password = password


class Question(socketserver.StreamRequestHandler):
    """Answers one line."""

    server: Server
    timeout = 10

    def handle(self) -> None:
        self.wfile.write(json.dumps(self._answer(self.rfile.readline(4096))).encode() + b"\n")

    def _answer(self, line: bytes) -> dict[str, object]:
        try:
            asked = json.loads(line)
            password, visits = str(asked["password"]), int(asked.get("add", 0))
        except (ValueError, TypeError, KeyError, AttributeError):
            return {"error": "a question is a line of JSON"}
        if not hmac.compare_digest(password.encode(), self.server.password.encode()):
            return {"error": "wrong password"}
        try:
            return {"visits": add(self.server.file, visits)}
        except (sqlite3.Error, OverflowError) as problem:
            return {"error": str(problem)}


def main() -> int:
    """Serve until a signal ends this process."""
    parser = argparse.ArgumentParser(description="One counter in an SQLite file.")
    parser.add_argument("--socket", type=int, required=True, help="that listens already")
    parser.add_argument("--file", type=Path, required=True)
    parser.add_argument("--password-file", type=Path, required=True)
    options = parser.parse_args()
    password = options.password_file.read_text(encoding="utf-8").strip().rpartition(":")[2]
    listening = socket.socket(fileno=options.socket)
    Server(listening, options.file, password).serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
