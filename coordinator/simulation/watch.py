"""Watches a simulated world: collects facts, judges them after every event, keeps a trace."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from agent.messages import ADOPTED_CLOUD, CommandBatch, InstanceState
from coordinator.pool_values import PoolSpec
from coordinator.provisioner.lifecycle import Record
from coordinator.simulation.clouds import SimulatedCloud
from coordinator.simulation.event_queue import EPOCH, EventQueue
from coordinator.simulation.facts import Decided, Facts, Known, Machine, Moved, Redelivery, Sized
from coordinator.simulation.invariants import ROLLOUT, SLACK, broken_by, promised

#: Orphans are looked for so often, s.
_LOOK_EVERY = 5.0
#: Lines of the trace that are kept, unless all are wanted.
KEPT_LINES = 400


class Broken(BaseException):
    """An invariant does not hold: the history ends here. Nothing in the product catches it."""

    def __init__(self, sentences: list[str]) -> None:
        super().__init__("; ".join(sentences))
        self.sentences = sentences


class Watcher:
    """Collects what happens between two events, and judges it after the second one.

    ``has_job``: whether a node's worker has a job in hand. ``is_mute``: whether its agent hangs.
    ``ill_for``: for how long (s) something was wrong with it. ``untroubled``: whether everything
    works that is needed to end a machine. ``seen``: completes what the controller decided with what
    was really so. ``reading_age``: how old what a pool's engine decides by really is now, and
    may be.
    """

    def __init__(self, queue: EventQueue, run: str, whole_trace: bool = False) -> None:
        self.specs: dict[str, PoolSpec] = {}
        self.teardown_at_once = False
        self.has_job: Callable[[str], bool] = lambda node_id: False
        self.is_mute: Callable[[str], bool] = lambda node_id: False
        self.ill_for: Callable[[str], float] = lambda node_id: 0.0
        self.untroubled: Callable[[], bool] = lambda: True
        self.seen: Callable[[Decided], Decided] = lambda decided: decided
        self.reading_age: Callable[[str], tuple[float | None, float | None]]
        self.reading_age = lambda pool: (None, None)
        self.decided_at = 0.0
        self.known: dict[str, Known] = {}
        #: The change by which a node came to its end, or its newest one.
        self.last_move: dict[str, Moved] = {}
        self.ended_by_us: set[str] = set()
        self.running_since: dict[str, float] = {}
        self.lines: deque[str] = deque(maxlen=None if whole_trace else KEPT_LINES)
        self._queue = queue
        self._run = run
        self._hash = hashlib.sha256()
        self._caps: dict[str, int] = {}
        self._budgets: dict[str, float] = {}
        self._machines: dict[tuple[str, str], Machine] = {}
        self._moved: list[Moved] = []
        self._decided: list[Decided] = []
        self._sized: list[Sized] = []
        self._promised: dict[str, int] = {}
        self._redelivered: list[Redelivery] = []
        self._foreign_ended: list[str] = []
        self._orphans: dict[str, float] = {}
        self._looked_at = queue.now
        self._changed = False

    # ---------------------------------------------------------------- the trace

    def say(self, line: str) -> None:
        """One line of the trace."""
        text = f"{self._queue.now - EPOCH:9.2f}  {line}"
        self._hash.update(text.encode())
        self.lines.append(text)

    @property
    def digest(self) -> str:
        """Of everything that was said so far."""
        return self._hash.hexdigest()[:16]

    # ---------------------------------------------------------------- being told

    def configured(self, pool: str, spec: PoolSpec) -> None:
        """A pool is configured so from now on."""
        self.specs[pool] = spec
        cap = spec.max + spec.max_surge
        self._caps[pool] = max(cap, self._caps.get(pool, 0))
        rules = spec.rules
        if rules.budget is not None and rules.machine_price is not None:
            most = rules.budget + spec.max_surge * rules.machine_price
            self._budgets[pool] = max(most, self._budgets.get(pool, 0.0))

    def wrote(self, before: Record | None, after: Record, actor: str, now: float) -> None:
        """A record was written."""
        self._changed = True
        self.known[after.node_id] = Known(
            after.node_id,
            after.pool,
            after.state,
            after.final,
            after.price,
            after.cloud == ADOPTED_CLOUD,
        )
        if before is not None and before.state is after.state:
            return
        moved = Moved(
            node_id=after.node_id,
            pool=after.pool,
            before=None if before is None else before.state,
            to=after.state,
            reason=after.reason,
            actor=actor,
            at=now,
            deadline=None if before is None else before.drain_deadline,
            busy=self.has_job(after.node_id),
            mute=self.is_mute(after.node_id),
        )
        if after.state is InstanceState.DRAINING and after.reason.startswith(ROLLOUT):
            moved = replace(
                moved, left=self._well(after.pool), promised=self._promised.get(after.pool, 0)
            )
        if after.state is InstanceState.RUNNING and moved.before is InstanceState.BOOTING:
            self.running_since[after.node_id] = self._queue.now
        if (
            moved.to is not InstanceState.TERMINATED
            or moved.before is not InstanceState.TERMINATING
        ):
            self.last_move[after.node_id] = moved
        self._moved.append(moved)
        was = "" if before is None else before.state.value
        self.say(f"{after.node_id} {was} -> {after.state.value}: {after.reason} [{actor}]")

    def cycled(
        self,
        pool: str,
        before: Mapping[str, Any],
        memory: Mapping[str, Any],
        batch: CommandBatch | None,
        now: float,
    ) -> None:
        """The controller stored a cycle."""
        self._sized_anew(pool, before, memory, batch)
        if batch is None:
            return
        if any(one.reason.startswith(ROLLOUT) for one in batch.drains):
            self._promised[pool] = promised(self.specs[pool], memory)
        self._changed = True
        self.decided_at = self._queue.now
        self._decided.append(
            self.seen(
                Decided(
                    pool=pool,
                    batch=batch,
                    spec=self.specs[pool],
                    now=now,
                    memory=memory,
                    before=before,
                )
            )
        )
        told = [f"+{one.count}" for one in batch.launches]
        told += [f"cancel {one.node_id}" for one in batch.cancels]
        told += [f"-{one.node_id} ({one.reason})" for one in batch.terminations]
        told += [f"drain {one.node_id} ({one.reason})" for one in batch.drains]
        self.say(f"{pool} decides {memory.get('wanted')}: {', '.join(told)}")

    def _sized_anew(
        self,
        pool: str,
        before: Mapping[str, Any],
        memory: Mapping[str, Any],
        batch: CommandBatch | None,
    ) -> None:
        was, wanted = before.get("wanted") or 0, memory.get("wanted") or 0
        if was == wanted:
            return
        self._changed = True
        age, allowed = self.reading_age(pool)
        launched = sum(one.count for one in batch.launches) if batch is not None else 0
        reason = str(memory.get("reason"))
        self._sized.append(
            Sized(pool, self.specs[pool], was, wanted, launched, reason, age, allowed)
        )

    def _well(self, pool: str) -> int:
        spec = self.specs[pool]
        patience = spec.health.missing_timeout + spec.health.really_missing_timeout + SLACK
        running = (
            one.node_id
            for one in self.known.values()
            if one.pool == pool and one.state is InstanceState.RUNNING
        )
        return sum(self.ill_for(node_id) <= patience for node_id in running)

    def born(self, cloud: SimulatedCloud, cloud_id: str, node_id: str, pool: str, run: str) -> None:
        """A cloud made a machine."""
        self._changed = True
        machine = Machine(
            cloud.name,
            cloud_id,
            node_id,
            pool,
            run == self._run and pool in self.specs,
            True,
            self._queue.now,
        )
        self._machines[cloud.name, cloud_id] = machine
        self.say(f"{cloud.name} makes {cloud_id} = {node_id}")

    def ended(self, cloud: str, cloud_id: str, by_us: bool) -> None:
        """A machine runs no more."""
        machine = self._machines.get((cloud, cloud_id))
        if machine is None or not machine.alive:
            return
        self._changed = True
        self._machines[cloud, cloud_id] = replace(machine, alive=False)
        if by_us:
            self.ended_by_us.add(machine.node_id)
        self.say(f"{cloud}: {cloud_id} = {machine.node_id} ends{' as asked' if by_us else ''}")
        if by_us and not machine.ours:
            self._foreign_ended.append(cloud_id)

    def redelivered(self, node_id: str, cause: str, jobs: int) -> None:
        """The jobs of a node went back to their queue."""
        if jobs:
            self._changed = True
            self._redelivered.append(Redelivery(node_id, cause))
            self.say(f"{jobs} jobs of {node_id} given again: {cause}")

    # ---------------------------------------------------------------- judging

    @property
    def machines(self) -> list[Machine]:
        """Every machine that ever was."""
        return list(self._machines.values())

    def alive(self, pool: str) -> list[str]:
        """The nodes of a pool whose machines run."""
        return [m.node_id for m in self._machines.values() if m.alive and m.pool == pool and m.ours]

    def judge(self, label: str) -> None:
        """After each event: raise Broken when an invariant does not hold any more."""
        look = self._queue.now - self._looked_at >= _LOOK_EVERY
        if look:
            self._look_for_orphans()
        if not self._changed and not look:
            return
        facts = self.facts()
        self._changed = False
        for told in (self._moved, self._decided, self._sized, self._redelivered):
            told.clear()
        self._foreign_ended.clear()
        if sentences := broken_by(facts):
            for sentence in sentences:
                self.say(f"BROKEN in {label}: {sentence}")
            raise Broken(sentences)

    def facts(self) -> Facts:
        """What is so now, and happened since the last judgement."""
        return Facts(
            now=self._queue.now,
            machines=tuple(self._machines.values()),
            records=self.known,
            specs=self.specs,
            caps=self._caps,
            budgets=self._budgets,
            moved=tuple(self._moved),
            decided=tuple(self._decided),
            sized=tuple(self._sized),
            redelivered=tuple(self._redelivered),
            orphaned=self._orphans,
            foreign_ended=tuple(self._foreign_ended),
            teardown_at_once=self.teardown_at_once,
        )

    def _look_for_orphans(self) -> None:
        passed, self._looked_at = self._queue.now - self._looked_at, self._queue.now
        untroubled = self.untroubled()
        orphans = {}
        for machine in self._machines.values():
            known = self.known.get(machine.node_id)
            if machine.alive and machine.ours and (known is None or known.final):
                before = self._orphans.get(machine.cloud_id, 0.0)
                orphans[machine.cloud_id] = before + (passed if untroubled else 0.0)
        self._orphans = orphans
