"""A nameko service for the tests of the bus; run as a process of its own."""

from agent import green  # noqa: F401, I001 - patches the standard library before all else

import os
import time
from typing import Any, ClassVar

from eventlet.patcher import original

from agent import bus

WAITED_FOR = original("threading").Semaphore(0)


class Echo:
    """Says what it is told; ``ticks`` counts a timer that is sometimes held up."""

    name = "echo"
    ticks = 0
    said: ClassVar[list[Any]] = []
    part = bus.Part(lambda config: dict(config))

    @bus.rpc
    def say(self, what: Any) -> Any:
        Echo.said.append(what)
        return what

    @bus.rpc
    def all_said(self) -> list[Any]:
        return Echo.said[-1000:]

    @bus.rpc
    def pid(self) -> int:
        return os.getpid()

    @bus.rpc
    def slowly(self, seconds: float) -> str:
        time.sleep(seconds)  # green: other calls go on meanwhile
        return "done"

    @bus.rpc
    def fail(self) -> None:
        raise ValueError("as asked")

    @bus.rpc
    def what_json_cannot_say(self) -> Any:
        return object()

    @bus.rpc
    def ticked(self) -> int:
        return Echo.ticks

    @bus.every(0.2)
    def tick(self) -> None:
        Echo.ticks += 1


class EchoAgent:
    """The same as a node's agent would serve it."""

    name = "agent-echo-0"
    part = bus.Part(lambda config: dict(config))

    @bus.agent_rpc
    def describe(self) -> str:
        return "here"


class Hanging:
    """Gives way to others or not."""

    name = "hanging"
    part = bus.Part(lambda config: dict(config))

    @bus.rpc
    def slowly(self, seconds: float) -> str:
        time.sleep(seconds)
        return "done"

    @bus.rpc
    def give_no_way(self) -> None:
        WAITED_FOR.acquire()  # as some driver of C would: no other greenlet gets a turn


KINDS = {"service": Echo, "agent": EchoAgent, "hanging": Hanging}

if __name__ == "__main__":
    bus.main(KINDS[os.environ["ECHO"]])
