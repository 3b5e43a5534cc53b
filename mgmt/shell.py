"""``epu shell``: Python with this run's services at hand, every call with a deadline.

As in ``nameko shell``: ``n.rpc.provisioner.status()``, and for one node's agent
``n.rpc["agent-<node id>"].describe()``. Unlike there, a lost reply is a CallTimeout and
not a hanging console, and a service that does not run is an UnknownService at once.
"""

from __future__ import annotations

import code
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pprint import pprint
from typing import Any

from mgmt.answers import Call, ask

BANNER = """\
EPU shell of run '{run}': n.rpc.<service>.<method>(…)
  n.rpc.management.status()   n.rpc.management.nodes()   n.rpc["agent-<node id>"].describe()
Every call ends within {timeout:g} s; give another limit as timeout=…
"""


@dataclass(frozen=True)
class ServiceProxy:
    """One service by name; its attributes are its methods."""

    call: Call
    service: str
    timeout: float

    def __getattr__(self, method: str) -> Callable[..., Any]:
        if method.startswith("_"):
            raise AttributeError(method)

        def remote(*args: Any, timeout: float = self.timeout) -> Any:
            return ask(self.call, self.service, method, *args, timeout=timeout)

        remote.__name__ = method
        return remote


@dataclass(frozen=True)
class RpcProxy:
    """``n.rpc``: services as attributes, or as keys where a name is no Python name."""

    call: Call
    timeout: float

    def __getattr__(self, service: str) -> ServiceProxy:
        if service.startswith("_"):
            raise AttributeError(service)
        return ServiceProxy(self.call, service, self.timeout)

    def __getitem__(self, service: str) -> ServiceProxy:
        return ServiceProxy(self.call, service, self.timeout)


@dataclass(frozen=True)
class Console:
    """``n``: what the shell offers."""

    rpc: RpcProxy
    run: str


def console_for(call: Call, run: str, timeout: float = 10.0) -> Console:
    """The ``n`` of a run whose services ``call`` reaches."""
    return Console(rpc=RpcProxy(call, timeout), run=run)


def evaluate(console: Console, text: str) -> None:
    """Run one piece of Python as the shell would and print its value, if it has one.

    Raises what it raises; SyntaxError when it is no Python.
    """
    names = {"n": console, "pprint": pprint}
    try:
        compiled = compile(text, "<epu shell -c>", "eval")
    except SyntaxError:
        exec(compile(text, "<epu shell -c>", "exec"), names)
        return
    value = eval(compiled, names)
    if value is not None:
        pprint(value)


def interact(console: Console) -> None:
    """An interactive console until Ctrl-D."""
    with suppress(ImportError):
        import readline
        import rlcompleter

        names = {"n": console, "pprint": pprint}
        readline.set_completer(rlcompleter.Completer(names).complete)
        readline.parse_and_bind("tab: complete")
    previous = sys.displayhook
    sys.displayhook = _show
    try:
        banner = BANNER.format(run=console.run, timeout=console.rpc.timeout)
        code.interact(banner, local={"n": console, "pprint": pprint}, exitmsg="")
    finally:
        sys.displayhook = previous


def _show(value: object) -> None:
    if value is not None:
        pprint(value)
