"""An application controller: it decides how many workers its pool has, by what it is asked for.

``python app.py start|stop --dir DIR --accounts FILE --pool POOL``

People subscribe by HTTP: ``PUT /subscriptions/NAME`` and ``DELETE /subscriptions/NAME``;
``GET /`` tells as JSON who did and how many workers that takes. Each second the application
compares that number with the pool's own and, where they differ, has it changed by RPC. So a
lost answer, a coordinator that is away or a kill of this program costs time and nothing else:
subscriptions are in a file, the number follows from them.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import os
import re
import socket
import sys
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from agent.rpc_client import CallFailed, RpcClient
from bootlevels.plans.background import Background, listener, private_directory
from bootlevels.plans.outputs import write_outputs
from bootlevels.pool_gateway import CoordinatorProblem, coordinator_url

log = logging.getLogger("app")

#: Seconds between two looks at the pool.
LOOK = 1.0
#: The setting of the engine ``n_preserving`` that says how many.
SIZE = "preserve_n"
_NAME = re.compile(r"/subscriptions/(?P<name>[A-Za-z0-9_-]{1,60})\Z")


def workers_for(subscriptions: int, each: int) -> int:
    """How many workers carry so many subscriptions, when each carries ``each``."""
    return math.ceil(subscriptions / each)


class Subscriptions:
    """Who subscribed, in a file that is whole at any moment. Safe for threads."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._names: set[str] = set(json.loads(file.read_text())) if file.exists() else set()

    def change(self, name: str, *, subscribed: bool) -> None:
        """Add or take away ``name``; again is no error. Raises OSError, having changed nothing."""
        with self._lock:
            names = self._names | {name} if subscribed else self._names - {name}
            new = self._file.with_suffix(".new")
            new.write_text(json.dumps(sorted(names)))
            new.replace(self._file)
            self._names = names

    def names(self) -> list[str]:
        return sorted(self._names)


class Sizer:
    """Keeps the pool's N what the subscriptions say."""

    def __init__(self, accounts: Path, pool: str, subscriptions: Subscriptions, each: int) -> None:
        self._accounts = accounts
        self._pool = pool
        self._subscriptions = subscriptions
        self._each = each
        self.said = "not asked yet"

    @property
    def wanted(self) -> int:
        return workers_for(len(self._subscriptions.names()), self._each)

    def run(self) -> None:
        """For ever: look, and change what differs."""
        pause = threading.Event()
        while not pause.wait(LOOK):
            try:
                with RpcClient(coordinator_url(self._accounts), timeout=5.0) as client:
                    while not pause.wait(LOOK):
                        self._look(client)
            except (CallFailed, CoordinatorProblem) as problem:
                self._note(str(problem).splitlines()[0])

    def _look(self, client: RpcClient) -> None:
        """One comparison. Raises CallFailed."""
        pool = client.call("controller", "pool", self._pool)
        wanted, has = self.wanted, (pool.get("engine") or {}).get(SIZE, 0)
        if has != wanted:
            client.call("controller", "reconfigure", self._pool, {f"engine.{SIZE}": wanted})
            self._note(f"{has} workers became {wanted}")
        else:
            self._note(f"{pool['state']}: {pool['running']} of {wanted} running")

    def _note(self, said: str) -> None:
        if said != self.said:
            log.info(said)
            self.said = said


class Desk(ThreadingHTTPServer):
    """Takes subscriptions, on a socket that listens already."""

    daemon_threads = True

    def __init__(self, listening: socket.socket, names: Subscriptions, sizer: Sizer) -> None:
        super().__init__(listening.getsockname(), Visit, bind_and_activate=False)
        self.socket.close()
        self.socket = listening
        self.names = names
        self.sizer = sizer


class Visit(BaseHTTPRequestHandler):
    """Answers one visitor."""

    server: Desk
    timeout = 10

    def do_GET(self) -> None:
        desk = self.server
        found = {
            "subscriptions": desk.names.names(),
            "workers": desk.sizer.wanted,
            "pool": desk.sizer.said,
        }
        self._answer(HTTPStatus.OK, found)

    def do_PUT(self) -> None:
        self._change(subscribed=True)

    def do_DELETE(self) -> None:
        self._change(subscribed=False)

    def _change(self, *, subscribed: bool) -> None:
        found = _NAME.match(self.path)
        if found is None:
            wrong = "write /subscriptions/NAME: letters, digits, - and _, at most 60"
            self._answer(HTTPStatus.BAD_REQUEST, {"error": wrong})
            return
        self.server.names.change(found["name"], subscribed=subscribed)
        self._answer(HTTPStatus.OK, {"workers": self.server.sizer.wanted})

    def _answer(self, status: HTTPStatus, found: object) -> None:
        body = json.dumps(found).encode() + b"\n"
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def serve(options: argparse.Namespace) -> None:
    """Take subscriptions until a signal ends this process."""
    logging.basicConfig(level="INFO", format="%(asctime)s %(levelname)s %(message)s")
    names = Subscriptions(options.dir / "subscriptions.json")
    sizer = Sizer(options.accounts, options.pool, names, options.each)
    threading.Thread(target=sizer.run, daemon=True).start()
    Desk(socket.socket(fileno=options.socket), names, sizer).serve_forever()


def start(options: argparse.Namespace) -> None:
    """Start the application in the background, at its former port if it had one."""
    private_directory(options.dir)
    program = Background(options.dir, "app")
    program.stop()
    with listener(program.port()) as listening:
        port = listening.getsockname()[1]
        words = [sys.executable, str(Path(__file__).absolute()), "serve", *sys.argv[2:]]
        program.start(
            [*words, f"--socket={listening.fileno()}"],
            port=port,
            environment=os.environ,
            directory=options.dir,
            sockets=[listening],
        )
    write_outputs({"url": f"http://127.0.0.1:{port}/"})
    print(f"the application answers at http://127.0.0.1:{port}/")


def stop(options: argparse.Namespace) -> None:
    """End the application; one that does not run is ended already."""
    Background(options.dir, "app").stop()


def main() -> int:
    """Exit 0; 1: it could not be done; 2: wrong usage."""
    parser = argparse.ArgumentParser(description="An application that sizes its own pool.")
    parser.add_argument("action", choices=["start", "serve", "stop"])
    parser.add_argument("--dir", type=Path, required=True, help="for its state and its log")
    parser.add_argument("--accounts", type=Path, default=Path("accounts.json"))
    parser.add_argument("--pool", default="epu-app", help="the pool that it sizes")
    parser.add_argument("--each", type=int, default=2, help="subscriptions that a worker carries")
    parser.add_argument("--socket", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.each < 1:
        parser.error("--each must be 1 or more")
    try:
        {"start": start, "serve": serve, "stop": stop}[options.action](options)
    except (OSError, ValueError) as problem:
        print(f"app: {problem}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
