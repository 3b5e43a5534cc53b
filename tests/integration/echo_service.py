"""A nameko service for the tests of the bus; run as a process of its own."""

from agent import green  # noqa: F401, I001 - patches the standard library before all else

import os
import time
from typing import Any, ClassVar

from agent import bus


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


if __name__ == "__main__":
    bus.main(EchoAgent if os.environ.get("ECHO") == "agent" else Echo)
