"""Doing what a timeline says to a running system, and seeing what comes of it."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.keepers import KeeperCalls
from agent.messages import Event
from agent.rpc_client import CallFailed, RpcClient
from agent.wire import from_wire
from bootlevels.plans.sleeper.producer import ProducerFailed, job_ids, produce
from coordinator.errors import EpuError, NotFound
from mgmt.answers import ask
from mgmt.demo.proofs import Proof, Sample
from mgmt.demo.watch import Watch
from mgmt.event_files import distinct, read_event_files
from mgmt.exercise.targets import Targets
from mgmt.exercise.timeline import Step, Timeline
from mgmt.exercise.verdict import Seen, verdict
from mgmt.log_fetch import LogFetch, local_sources
from mgmt.run_clouds import list_run, worker_clouds
from mgmt.run_events import Filters, LogPlace, ask_events, with_files
from mgmt.run_locator import RunningSystem

#: Seconds between two looks, for one call, and until a component that was killed is given up.
LOOK, CALL, PATIENCE = 0.25, 5.0, 60.0
#: Clocks of this machine's processes are one clock; an event may be stored a moment late.
SLACK = 0.5


@dataclass
class Exercise:
    """One exercise of ``system``. ``say`` is told what happens, a line each.

    ``begun`` are the steps that were begun, each with when (epoch seconds).
    """

    timeline: Timeline
    system: RunningSystem
    say: Callable[[str], None]
    began: float = 0.0
    begun: list[tuple[float, Step]] = field(default_factory=list)
    sent: list[str] = field(default_factory=list)
    sent_at: list[tuple[float, int]] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    proofs: list[Proof] = field(default_factory=list)
    _undone: list[str] = field(default_factory=list)
    _queue: str = ""

    def check(self) -> None:
        """Whether all of it can be done from here; breaks nothing. Raises EpuError, CallFailed."""
        with self._client() as client:
            pool = ask(KeeperCalls(client.call).call, "controller", "pool", self.timeline.pool,
                       timeout=CALL)  # fmt: skip
        section = pool.get("section") or {}
        queues = section.get("work_queues") or [(pool.get("engine") or {}).get("queue", "")]
        self._queue = self.timeline.queue or next(iter(queues), "")
        if self.timeline.submits and not self._queue:
            raise NotFound(f"pool {self.timeline.pool} has no work queue: name one as 'queue:'")
        engine = (pool.get("engine") or {}).get("type", "n_preserving")
        if any(one.set_n is not None for one in self.timeline.steps) and engine != "n_preserving":
            raise EpuError(f"set_n needs the engine n_preserving; the pool's is {engine}")
        self._targets().check(self.timeline.steps)

    def perform(self) -> None:
        """All steps, then the verdict in ``proofs``. What fails on the way is in there too."""
        self.began = time.time()
        start = time.monotonic()
        nowhere = Path(os.devnull)
        with Watch(self.system.amqp_url(), self.timeline.pool, nowhere, lambda _: None) as watch:
            self.samples = watch.samples
            for step in self.timeline.steps:
                time.sleep(max(0.0, start + step.at - time.monotonic()))
                self.say(str(step))
                self.begun.append((time.time(), step))
                try:
                    self._do(step)
                except (EpuError, CallFailed, ProducerFailed, OSError) as problem:
                    first = (str(problem).splitlines() or [type(problem).__name__])[0]
                    self._undone.append(f"{step} (at {step.at:g} s): {first}")
                    self.say(f"could not be done: {first}")
            self._judge_when_settled()

    # ---------------------------------------------------------------- steps

    def _do(self, step: Step) -> None:
        if step.submit is not None:
            self._submit(step, step.submit)
        elif step.kill == "worker":
            answer = self._ask("management", "nodes", self.timeline.pool)
            self._targets().kill_worker(answer["nodes"])
        elif step.kill is not None:
            self._targets().kill_component(step.kill)
        elif step.restart is not None:
            self._targets().restart_broker()
        elif step.set_n is not None:
            self._ask("controller", "reconfigure", self.timeline.pool,
                      {"engine.preserve_n": step.set_n})  # fmt: skip
        elif step.wait is not None:
            self._wait(step.wait, step.within)

    def _submit(self, step: Step, count: int) -> None:
        ids = job_ids(count, f"exercise-{time.time_ns() // 1_000_000}")
        produce(self.system.access(), self._queue, ids, step.seconds, step.job, say=self.say)
        self.sent += ids
        self.sent_at.append((time.time(), len(self.sent)))

    def _wait(self, state: str, within: float) -> None:
        deadline, began = time.monotonic() + within, time.monotonic()
        while True:
            pool = self._ask("controller", "pool", self.timeline.pool)
            age = pool.get("decided_age")
            fresh = age is not None and age < time.monotonic() - began
            if state == "empty" and fresh and waiting_in(pool, self._queue) == 0:
                return
            if state == pool["state"] and (fresh or state in ("HELD", "FAILED")):
                return
            if time.monotonic() >= deadline:
                raise EpuError(f"the pool is {pool['state']} after {within:g} s: {pool['reason']}")
            time.sleep(LOOK)

    # ---------------------------------------------------------------- the verdict

    def _judge_when_settled(self) -> None:
        """Judge again and again until all holds, or the time for that is over."""
        deadline = time.monotonic() + self.timeline.expect.within
        while True:
            seen = self._look()
            self.events = list(seen.events)
            self.proofs = verdict(self.timeline, seen)
            if all(proof.held for proof in self.proofs) or time.monotonic() >= deadline:
                return
            # What can't change any more is not waited for.
            if self._undone and seen.waiting == 0 and not self._promising():
                return
            time.sleep(1.0)

    def _promising(self) -> bool:
        return any(not proof.held and "step" not in proof.claim for proof in self.proofs)

    def _look(self) -> Seen:
        waiting: int | None = None
        running = 0
        records: frozenset[str] = frozenset()
        with suppress(CallFailed, EpuError):
            pool = self._ask("controller", "pool", self.timeline.pool)
            waiting, running = waiting_in(pool, self._queue), int(pool["running"])
            live = self._ask("provisioner", "live_nodes")
            mine = [one for one in live if one["pool"] == self.timeline.pool]
            records = frozenset(str(one["node_id"]) for one in mine)
        machines, unlisted = self._listed()
        return Seen(
            sent=tuple(self.sent),
            events=tuple(self._history()),
            waiting=waiting,
            running=running,
            machines=machines,
            unlisted=unlisted,
            records=records,
            undone=tuple(self._undone),
        )

    def _listed(self) -> tuple[frozenset[str] | None, str]:
        if self.system.state_dir is None:
            return None, "the coordinator's files are not on this machine"
        clouds = worker_clouds(self.system.state_dir) or {}
        listing = list_run(clouds, self.system.run, self.system.state_dir)
        if listing.problems:
            return None, "; ".join(f"{name}: {why}" for name, why in listing.problems.items())
        mine = (one for one in listing.machines if one.pool == self.timeline.pool)
        return frozenset(str(one.node_id) for one in mine), ""

    def _history(self) -> Sequence[Event]:
        """The pool's events since the start: the components', and those in its workers' logs."""
        since = self.began - SLACK
        filters = Filters(since=since, pool=self.timeline.pool, limit=100_000)
        found: list[Event] = []
        with self._client() as client, suppress(CallFailed, EpuError):
            document = ask_events(client.call, filters, None, CALL)
            document = with_files(document, filters, LogPlace(state_dir=self.system.state_dir))
            found = [from_wire(Event, one) for one in document["events"]]
        # No job of ours is older than its exercise, whatever the clock of a worker's machine says.
        told = Filters(pool=self.timeline.pool).fit(self._told_by_workers())
        return sorted(distinct([*found, *told]), key=lambda event: event.time)

    def _told_by_workers(self) -> list[Event]:
        """``job_begin`` and ``job_end`` in the logs of machines: here, or asked of their agents."""
        state_dir = self.system.state_dir
        if state_dir is not None:
            logs = [path for path in (state_dir / "clouds").glob("*/*/logs") if path.is_dir()]
            if logs:
                with suppress(OSError, EpuError):
                    return read_event_files(logs).events
        with tempfile.TemporaryDirectory(prefix="epu-exercise-") as place, self._client() as client:
            fetch = LogFetch(directory=Path(place), call=client.call, say=lambda _: None)
            nothing_here = local_sources(Path(place), None)
            with suppress(OSError, EpuError, CallFailed):
                fetch.perform(nothing_here, [])
                return read_event_files([Path(place)]).events
        return []

    # ---------------------------------------------------------------- means

    def _targets(self) -> Targets:
        return Targets(self.system, self.say, self.timeline.pool)

    def _client(self) -> RpcClient:
        return RpcClient(self.system.amqp_url(), timeout=CALL)

    def _ask(self, service: str, method: str, *args: Any) -> Any:
        """An RPC that may be repeated, repeated while somebody is away who was disturbed."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                with self._client() as client:
                    return ask(KeeperCalls(client.call).call, service, method, *args, timeout=CALL)
            except CallFailed:
                if time.monotonic() >= deadline:
                    raise
                time.sleep(LOOK)


def waiting_in(pool: dict[str, Any], queue: str) -> int | None:
    """Messages of ``queue``, ready or in hand, as the controller last read; None: not known."""
    readings = pool.get("readings") or {}
    values = [readings.get(f"queue.{queue}.{what}") for what in ("ready", "unacknowledged")]
    return None if None in values else int(sum(one["value"] for one in values if one))
