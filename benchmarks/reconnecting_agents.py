"""A process with many agents' nameko services: all that an agent has on the wire, and no machine.

``python -m benchmarks.reconnecting_agents FILE``: FILE holds EnrolAnswers as JSON. What runs is
``agent.service`` itself (its consumer, its voice, its timer) around nodes that only beat.
"""

from agent import green  # noqa: F401, I001 - patches the standard library before all else

import json
import logging
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import eventlet
from nameko.containers import ServiceContainer

from agent.heartbeat import Facts, Pulse, next_beat
from agent.messages import EnrolAnswer, Heartbeat, ReadyReport
from agent.service import service_class, service_config
from agent.wire import from_wire

#: Services that start at the same time.
_STARTING = 10


class BeatingNode:
    """As much of ``agent.node.Node`` as its voice and its timer use."""

    ready = True

    def __init__(self, answer: EnrolAnswer) -> None:
        self.answer = answer
        self.role = answer.role
        self._pulse = Pulse(boot_id=uuid.uuid4().hex)

    def beat(self) -> Heartbeat:
        facts = Facts(now=time.time(), ready=True, draining=False, drained=False, processes=())
        answer = self.answer
        self._pulse, beat = next_beat(self._pulse, facts, answer.node_id, answer.pool)
        return beat

    def bring_up(self) -> ReadyReport:
        return ReadyReport(node_id=self.answer.node_id, ok=True)

    def acknowledged(self) -> None:
        """Nobody is told."""

    def start_report(self) -> None:
        """Nowhere in its start."""


def main() -> None:
    """Serve until killed."""
    logging.basicConfig(level=logging.CRITICAL)
    answers = [from_wire(EnrolAnswer, one) for one in json.loads(Path(sys.argv[1]).read_text())]
    pool = eventlet.GreenPool(_STARTING)

    def start(answer: EnrolAnswer) -> None:
        node: Any = BeatingNode(answer)
        container = ServiceContainer(service_class(answer), service_config(node))
        container.start()
        containers.append(container)

    containers: list[ServiceContainer] = []
    for answer in answers:
        pool.spawn_n(start, answer)
    pool.waitall()
    print("up", flush=True)
    while True:
        time.sleep(60)


if __name__ == "__main__":
    main()
