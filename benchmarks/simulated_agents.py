"""Many agents in one process, each on the wire with the agent's own code, and nothing else.

Each is a machine that has user-data and a launch index: it stores its nonce, enrols, reports
ready and sends heartbeats over a connection of its own, with its own account. Programs,
checks and supervisord are left out. ``python -m benchmarks.ec2_fleet`` uses it.
"""

from __future__ import annotations

import heapq
import json
import logging
import random
import tempfile
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from kombu import Consumer, Exchange, Queue

from agent.broker_link import EventPublisher, connection_to
from agent.busy import IDLE
from agent.config import read_config
from agent.enrolment import NODE_ACCOUNT, ask_registrar, enrol, own_nonce
from agent.heartbeat import Facts, Pulse, next_beat
from agent.messages import (
    RPC_EXCHANGE,
    EnrolAnswer,
    ReadyReport,
    agent_queue,
    agent_service,
    beat_key,
)
from agent.rpc_client import CallFailed, RpcClient
from agent.wire import to_wire

#: Agents that enrol at the same time; each waits for the registrar most of the time.
_ENROLLING = 12
#: As ``agent.bus`` declares it, which would load eventlet here.
_QUEUE_ARGUMENTS = {"x-expires": 60_000, "x-message-ttl": 15_000}


@dataclass
class _Agent:
    """One node on the wire. ``present``: whether it has the queue by which loss is seen."""

    key: str
    answer: EnrolAnswer
    events: EventPublisher
    pulse: Pulse
    present: Any = None

    def beat(self) -> None:
        facts = Facts(
            now=time.time(), ready=True, draining=False, drained=False, processes=(), busy=IDLE
        )
        self.pulse, beat = next_beat(self.pulse, facts, self.answer.node_id, self.answer.pool)
        self.events.publish(beat_key(beat.pool, beat.node_id), to_wire(beat), 60.0)

    def hold_queue(self) -> None:
        """What an agent's service holds as long as it is connected."""
        connection = connection_to(self.answer.broker.amqp_url(NODE_ACCOUNT))
        exchange = Exchange(RPC_EXCHANGE, type="topic", durable=True, no_declare=True)
        service = agent_service(self.answer.node_id)
        held = Queue(
            agent_queue(self.answer.node_id),
            exchange,
            routing_key=f"{service}.*",
            durable=False,
            auto_delete=True,
            queue_arguments=_QUEUE_ARGUMENTS,
        )
        Consumer(connection.channel(), [held], callbacks=[lambda *_: None]).consume()
        self.present = connection

    def vanish(self) -> None:
        """The machine is gone: its connections end."""
        self.events.close()
        if self.present is not None:
            self.present.close()


@dataclass
class _Fleet:
    """Every agent of this process; ``beats`` is a heap of (when, key)."""

    directory: Path
    agents: dict[str, _Agent] = field(default_factory=dict)
    beats: list[tuple[float, str]] = field(default_factory=list)
    gone: set[str] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def boot(self, key: str, user_data: str, index: int, with_queue: bool) -> None:
        place = self.directory / key
        place.mkdir()
        (place / "user-data.json").write_text(user_data)
        (place / "instance-data.json").write_text(json.dumps({"launch_index": index}))
        config = read_config(place / "user-data.json", place / "instance-data.json", place)
        answer = enrol(config, ask_registrar(config.broker, 30.0), time.sleep, random.random)
        url = answer.broker.amqp_url(NODE_ACCOUNT)
        agent = _Agent(key, answer, EventPublisher(url), Pulse(boot_id=key))
        if with_queue:
            agent.hold_queue()
        report = ReadyReport(
            node_id=answer.node_id, ok=True, nonce=own_nonce(config), boot_id=agent.pulse.boot_id
        )
        with RpcClient(url, timeout=30.0) as client:
            while key not in self.gone:
                try:
                    if client.call("registrar", "ready", to_wire(report)).get("accepted"):
                        break
                except CallFailed as problem:
                    logging.info("%s is not accepted: %s", answer.node_id, problem)
                time.sleep(1.0)
        agent.beat()
        with self.lock:
            if key in self.gone:
                agent.vanish()
                return
            self.agents[key] = agent
            first = time.monotonic() + random.random() * answer.role.heartbeat_interval
            heapq.heappush(self.beats, (first, key))

    def end(self, key: str) -> None:
        with self.lock:
            self.gone.add(key)
            agent = self.agents.pop(key, None)
        if agent is not None:
            agent.vanish()

    def beat_for_ever(self) -> None:
        while True:
            with self.lock:
                at, key = self.beats[0] if self.beats else (time.monotonic() + 1, "")
                due = bool(key) and at <= time.monotonic()
                agent = None
                if due:
                    heapq.heappop(self.beats)
                    agent = self.agents.get(key)
                    if agent is not None:
                        again = at + agent.answer.role.heartbeat_interval
                        heapq.heappush(self.beats, (again, key))
            if agent is not None:
                agent.beat()
            elif not due:
                time.sleep(min(0.05, max(0.0, at - time.monotonic())))


def serve(orders: Any) -> None:
    """Carry out orders until ``None`` comes: "boot" or "end", then what the method takes."""
    logging.basicConfig(level=logging.ERROR)
    with tempfile.TemporaryDirectory(prefix="epu-agents-") as directory:
        fleet = _Fleet(Path(directory))
        threading.Thread(target=fleet.beat_for_ever, daemon=True).start()
        with ThreadPoolExecutor(_ENROLLING) as threads:
            while (order := orders.get()) is not None:
                what, *rest = order
                done = threads.submit(fleet.boot if what == "boot" else fleet.end, *rest)
                done.add_done_callback(_complain)
            threads.shutdown(cancel_futures=True)


def _complain(done: Future[None]) -> None:
    """An agent that came to nothing would be waited for in vain, and nobody would know why."""
    if not done.cancelled() and (problem := done.exception()) is not None:
        logging.error("a simulated agent: %r", problem, exc_info=problem)


class SimulatedAgents:
    """The process with the agents, from outside. A context manager."""

    def __init__(self) -> None:
        context = get_context("spawn")
        self._orders: Any = context.Queue()
        self._process = context.Process(target=serve, args=(self._orders,), daemon=True)

    def __enter__(self) -> SimulatedAgents:
        self._process.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._orders.put(None)
        self._process.join(5)
        if self._process.is_alive():
            self._process.kill()

    def boot(self, key: str, user_data: str, index: int, with_queue: bool) -> None:
        """A machine known as ``key`` comes up with this configuration of its agent."""
        self._orders.put(("boot", key, user_data, index, with_queue))

    def end(self, key: str) -> None:
        """It is gone, without a word."""
        self._orders.put(("end", key))
