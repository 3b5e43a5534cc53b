"""The provisioner as a plain object: every method of its RPC surface, no messaging."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from agent.messages import (
    BatchAnswer,
    CloudStatus,
    CommandBatch,
    Event,
    NodeSigns,
    PoolSnapshot,
    ReadyReport,
)
from agent.rpc_client import CallFailed
from agent.wire import MalformedMessage, from_wire
from coordinator.clouds.base import CloudDriver
from coordinator.config import CoordinatorConfig
from coordinator.errors import NotFound
from coordinator.events import EventLog
from coordinator.provisioner.cloud_calls import InParallel, Tools
from coordinator.provisioner.cloud_cycle import CloudCycle
from coordinator.provisioner.commands import check_batch
from coordinator.provisioner.drains import Drains
from coordinator.provisioner.history import announce
from coordinator.provisioner.launcher import Launcher
from coordinator.provisioner.lifecycle import (
    BOOT_FAILED,
    BOOTING,
    DRAINING,
    LAUNCHING,
    REQUESTED,
    RUNNING,
    TERMINATING,
    Change,
    Record,
    after,
    move,
    note,
)
from coordinator.provisioner.records import Records
from coordinator.provisioner.teardown import begin_teardown, end_teardown, progress_of
from coordinator.provisioner.witness import Witness
from coordinator.store.session import Store

log = logging.getLogger(__name__)

#: The sensors service has so long to bear witness, s.
WITNESS_TIMEOUT = 3.0
#: How much of what a node says of its problem is kept, characters.
PROBLEM_TAIL = 1500
#: How often what ended long ago is deleted from the store, s.
FORGET_EVERY = 3600.0


def one_by_one(function: Callable[[str], Any], items: Sequence[str]) -> list[Any]:
    """The calls of ``in_parallel`` where there is nothing to run them side by side."""
    return [function(item) for item in items]


class Provisioner:
    """Owns the instance records; the only one that asks clouds for workers.

    Nothing here waits but the calls to a cloud, in ``reconcile``, and to agents, in
    ``drain_step``. ``due`` says which clouds want ``reconcile`` now.
    """

    def __init__(
        self,
        store: Store,
        clouds: Mapping[str, CloudDriver],
        events: EventLog,
        config: CoordinatorConfig,
        launcher: Launcher,
        call: Callable[..., Any],
        clock: Callable[[], float],
        in_parallel: InParallel = one_by_one,
    ) -> None:
        self.events_log = events
        self._records = Records(store)
        self._clock = clock
        self._call = call
        self._forget_at = 0.0
        self._tools = Tools(
            run=config.run,
            records=self._records,
            launcher=launcher,
            events=events,
            clock=clock,
            call=call,
            ask_witness=self._ask_witness,
            in_parallel=in_parallel,
            listing_interval=config.listing_interval,
        )
        self._run = config.run
        self.cycles = {name: CloudCycle(name, clouds[name], self._tools) for name in clouds}
        self._drains = Drains(self._tools)

    # ---------------------------------------------------------------- for the controller

    def instances(self, pool: str, since: int = 0) -> PoolSnapshot:
        """The pool's instances that changed after version ``since``."""
        return self._snapshot(pool, since, self._cloud_statuses())

    def snapshots(self, since: Mapping[str, int]) -> dict[str, PoolSnapshot]:
        """``instances`` of several pools at once: pool → version last seen."""
        clouds = self._cloud_statuses()
        return {pool: self._snapshot(pool, seen, clouds) for pool, seen in since.items()}

    def apply(self, batch: CommandBatch) -> BatchAnswer:
        """Carry out all of a batch or nothing. Raises ConfigProblem for an absurd one."""
        check_batch(batch)
        for launch in batch.launches:
            cycle = self.cycles.get(launch.cloud)
            if cycle is not None and launch.count > cycle.calls.batch_limit:
                # Decided on a view of before the limit; the next one tells it.
                detail = f"{launch.cloud} takes {cycle.calls.batch_limit} machines a launch"
                return BatchAnswer(batch_id=batch.batch_id, outcome="conflict", detail=detail)
        answer, applied = self._records.apply(batch, self.cycles, self._clock())
        announce(self.events_log, applied, f"controller (epoch {batch.epoch})")
        if answer.outcome == "applied":
            self._drains.wake()
            self._wake_all()
        return answer

    def claim_epoch(self, pools: Sequence[str], owner: str = "") -> dict[str, int]:
        """A new epoch for each pool; commands of an older one are refused from now on.

        ``owner`` names one life of one controller: its claim may be delivered twice.
        """
        return self._records.claim_epoch(pools, owner)

    # ---------------------------------------------------------------- for the registrar

    def node_for_enrolment(self, launch_id: str, index: int) -> dict[str, Any]:
        """Who the machine with that launch id and index is. Raises NotFound."""
        record = self._record(f"{launch_id}-{index}")
        return {
            "node_id": record.node_id,
            "pool": record.pool,
            "run": self._run,
            "state": record.state.value,
            "role": self._records.role(record.node_id),
        }

    def node_enrolled(self, node_id: str, addresses: Sequence[str]) -> None:
        """A machine spoke to us: the first witness, if no listing was. Raises NotFound."""
        record = self._record(node_id)
        if record.final or record.state is TERMINATING:
            return
        now = self._clock()
        changes = self._witnessed(record, now, "its agent enrolled")
        for change in changes:
            record = after(record, change)
        facts: dict[str, Any] = {"enrolled_at": now, "presence_lost_at": None}
        if not record.addresses:
            facts["addresses"] = tuple(addresses)
        self._commit([*changes, note(record, **facts)], "registrar", [record])

    def node_ready(self, report: ReadyReport) -> dict[str, Any]:
        """A node verified itself, or could not. Committed before this returns.

        Not accepted from a node that is not wanted any more. Raises NotFound.
        """
        record = self._record(report.node_id)
        now = self._clock()
        changes = self._witnessed(record, now, "its agent reported")
        for change in changes:
            record = after(record, change)
        if record.state is BOOTING and report.ok:
            enrolled = record.enrolled_at or now
            reason = "verified itself"
            changes.append(
                move(record, RUNNING, now, reason, outputs=report.outputs, enrolled_at=enrolled)
            )
        elif record.state is BOOTING:
            step = report.step or "verification"
            changes.append(
                move(record, BOOT_FAILED, now, f"{step}: {report.problem[:PROBLEM_TAIL]}")
            )
        self._commit(changes, "registrar", [record])
        state = self._record(report.node_id).state
        accepted = state in (RUNNING, DRAINING) or (state is BOOT_FAILED and not report.ok)
        return {"accepted": accepted, "state": state.value}

    def live_nodes(self) -> list[dict[str, str]]:
        """Every node that is not at its end: whose accounts must stay."""
        return [
            {
                "node_id": record.node_id,
                "pool": record.pool,
                "launch_id": record.launch_id,
                "state": record.state.value,
            }
            for record in self._records.live()
        ]

    # ---------------------------------------------------------------- for the sensors service

    def presence_lost(self, node_ids: Sequence[str]) -> None:
        """The broker lost these agents. A hint: their machines are listed at once."""
        now = self._clock()
        records = [
            record
            for record in self._records.named(node_ids).values()
            if record.state in (BOOTING, RUNNING, DRAINING)
        ]
        self._tools.commit([note(record, presence_lost_at=now) for record in records], "sensors")
        for record in records:
            if record.cloud in self.cycles:
                self.cycles[record.cloud].look_for(record)

    # ---------------------------------------------------------------- for people

    def terminate_all(
        self, now: bool = False, drain_timeout: float | None = None
    ) -> dict[str, Any]:
        """Disable launches and end every machine, drained first unless ``now``.

        ``drain_timeout``: seconds, instead of the pools' own. Call it again, or
        ``progress``, to see how far it is.
        """
        begin_teardown(self._tools, now, drain_timeout)
        self._drains.wake()
        self._wake_all()
        return self.progress()

    def progress(self) -> dict[str, Any]:
        """How far a teardown is; see ``teardown.progress_of``."""
        return progress_of(self._tools, self.cycles)

    def enable(self) -> None:
        """Allow launches again."""
        end_teardown(self._tools)
        self._wake_all()

    def events(self, since: int = 0, limit: int = 1000) -> list[Event]:
        """History, oldest first."""
        return self.events_log.read(since, limit)

    def status(self) -> dict[str, Any]:
        """For ``epu status``."""
        progress = self.progress()
        return {
            **{key: progress[key] for key in ("enabled", "stopping", "states", "clouds")},
            "held": [name for name, cycle in self.cycles.items() if cycle.calls.held],
            "pools": {
                pool: {"version": version, "epoch": epoch}
                for pool, (version, epoch) in self._records.pools().items()
            },
        }

    # ---------------------------------------------------------------- by the clock

    def due(self) -> list[str]:
        """The clouds whose ``reconcile`` should run now."""
        now = self._clock()
        if now >= self._forget_at:
            self._forget_at = now + FORGET_EVERY
            self._records.forget(now)
        return [name for name, cycle in self.cycles.items() if cycle.due <= now]

    def reconcile(self, cloud: str) -> None:
        """List one cloud if that is due and do what its records need. May be slow."""
        self.cycles[cloud].run()

    def drain_step(self) -> None:
        """Ask every draining node how far it is; about once a second."""
        for cloud in self._drains.step():
            if cloud in self.cycles:
                self.cycles[cloud].wake()

    # ---------------------------------------------------------------- inside

    def _cloud_statuses(self) -> dict[str, CloudStatus]:
        return {name: cycle.calls.status() for name, cycle in self.cycles.items()}

    def _snapshot(self, pool: str, since: int, clouds: dict[str, CloudStatus]) -> PoolSnapshot:
        return replace(self._records.snapshot(pool, since, self._clock()), clouds=clouds)

    def _record(self, node_id: str) -> Record:
        found = self._records.named([node_id]).get(node_id)
        if found is None:
            raise NotFound(f"no instance {node_id}")
        return found

    def _witnessed(self, record: Record, now: float, reason: str) -> list[Change]:
        """The changes that bring a record to BOOTING: its machine exists, it just spoke."""
        changes: list[Change] = []
        if record.state is REQUESTED:  # our store is from before the call
            changes.append(move(record, LAUNCHING, now, reason))
            record = after(record, changes[-1])
        if record.state is LAUNCHING:
            changes.append(move(record, BOOTING, now, reason))
        return changes

    def _commit(
        self, changes: Sequence[Change | None], actor: str, records: Iterable[Record]
    ) -> None:
        if self._tools.commit(changes, actor):
            for record in records:
                if record.cloud in self.cycles:
                    self.cycles[record.cloud].wake()

    def _wake_all(self) -> None:
        for cycle in self.cycles.values():
            cycle.wake()

    def _ask_witness(self, node_ids: Sequence[str]) -> Witness | None:
        try:
            found = self._call("sensors", "witness", list(node_ids), timeout=WITNESS_TIMEOUT)
            return Witness(
                blind=bool(found["blind"]),
                observing_age=float(found["observing_age"]),
                nodes=from_wire(dict[str, NodeSigns], found["nodes"]),
            )
        except (CallFailed, MalformedMessage, KeyError, TypeError) as problem:
            log.info("no second witness: %s", problem)
            return None
