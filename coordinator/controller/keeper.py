"""The thin driver of the cycle: fetch, decide by the pure core, store, send.

The plain object behind the controller service. Level-triggered: whatever it holds in
memory could be thrown away before any cycle; the stores and the provisioner's snapshot say
everything anew.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from agent.messages import BatchAnswer, CommandBatch, PoolSnapshot, SensorReport
from agent.rpc_client import CallFailed, RemoteError
from agent.wire import from_wire, to_wire
from coordinator.config import CoordinatorConfig
from coordinator.controller.claims import Claims
from coordinator.controller.cycle import run_cycle
from coordinator.controller.kept_pool import KeptPool, forget_refused, load_pool, store_outcome
from coordinator.controller.orders import order_rollout, release_brake
from coordinator.controller.pool_status import pool_line, pool_status
from coordinator.controller.records import PoolRecords
from coordinator.controller.sensor_calls import SensorCalls
from coordinator.controller.sources import Sources, no_sources
from coordinator.controller.turns import Turns
from coordinator.errors import ConfigProblem, NotFound, Problem, did_you_mean
from coordinator.events import EventLog
from coordinator.foreign_engines import LOADED_WITHIN, checked
from coordinator.pool_spec import PoolSpec, changed_section, check_clouds, parse_pool
from coordinator.pool_values import change_text
from coordinator.schedule import entry_in_force

log = logging.getLogger(__name__)


class Keeper:
    """Keeps every pool of this process.

    ``call`` is an RPC with a deadline; ``in_background`` runs what no cycle may wait for,
    ``beside`` the cycles of pools whose engines may take their time, each at once;
    ``sources`` tells what templates are made of now.
    """

    def __init__(
        self,
        config: CoordinatorConfig,
        records: PoolRecords,
        events: EventLog,
        call: Callable[..., Any],
        clock: Callable[[], float],
        new_id: Callable[[str], str],
        in_background: Callable[[Callable[[], None]], object],
        beside: Callable[[Callable[[], None]], object] | None = None,
        sources: Sources = no_sources,
    ) -> None:
        self._config = config
        self._in_background = in_background
        self._beside = beside or in_background
        self._sources = sources
        self._records = records
        self.decisions = self._records.decisions
        self.events = events
        self._call = call
        self._clock = clock
        self._new_id = new_id
        self._claims = Claims(call, new_id("controller"), config.pool)
        self._sensors = SensorCalls(call, config.sensors_name)
        self._frozen = records.frozen()
        self._pending = records.pending()
        self._pools = {one.name: load_pool(one, config.engine_deadline) for one in records.load()}
        self._cycle_seconds = 0.0
        self._turns = Turns(self._cycle)
        self._enabled = True

    # ---------------------------------------------------------------- pools

    def add_pool(self, name: str, section: Mapping[str, Any]) -> bool:
        """Start keeping a pool. False when the very same pool is kept already.

        Raises ConfigProblem for a section that can't be, or another pool of that name.
        """
        spec = self._checked(name, section)
        known = self._pools.get(name)
        if known is not None:
            if known.stored.section == dict(section):
                return False
            raise ConfigProblem(
                [Problem(key=name, what="a pool of this name is kept", remedy="reconfigure it")]
            )
        self._records.add(name, section, self._clock())
        self._pools[name] = self._loaded(name)
        self.events.append("pool_added", pool=name, reason=f"engine {spec.engine_type}")
        return True

    def check_whose(self, name: str) -> None:
        """Raise ConfigProblem when another controller is there for the pool called ``name``."""
        self._claims.check(name)

    def check_pool(self, name: str, section: Mapping[str, Any]) -> None:
        """Raise ConfigProblem for a section that ``add_pool`` would refuse; changes nothing."""
        self._checked(name, section)

    def remove_pool(self, name: str) -> None:
        """Stop keeping a pool; its workers stay as they are."""
        pool = self._found(name)
        self._records.remove(name)
        self._pending.pop(name, None)
        del self._pools[name]
        pool.close()
        self.events.append("pool_removed", pool=name)

    def reconfigure(self, name: str, changes: Mapping[str, Any]) -> None:
        """Change a pool's section. An illegal request changes nothing."""
        pool = self._found(name)
        before = pool.stored
        section = changed_section(before.section, changes)
        self._checked(name, section)
        if self._found(name) is not pool or pool.stored is not before:
            self.reconfigure(name, changes)  # somebody was quicker than the check
        elif section != before.section:
            self._records.change(name, section)
            fresh = self._loaded(name)
            pool.close()
            pool.stored, pool.spec, pool.engine = fresh.stored, fresh.spec, fresh.engine
            pool.queue_declared = False
            what, said = change_text(changes), dict(changes)
            self.events.append("pool_reconfigured", pool=name, reason=what, changes=said)

    def resume(self, name: str) -> None:
        """End the pool's hold and its brake's MELTDOWN: nobody counts as unhealthy before now.

        Who still is unhealthy is judged so again in the next cycle.
        """
        pool = self._found(name)
        if pool.spec.rules.hold is not None:
            self.reconfigure(name, {"hold": None})
        release_brake(pool, self._records, self.events, self._clock())

    def rollout(self, name: str, action: str = "start", max_surge: int | None = None) -> None:
        """Start (or go on with) or stop replacing a pool's old workers. Safe to repeat."""
        pool = self._found(name)
        order_rollout(pool, action, max_surge, self._records, self.events, self._clock())

    def freeze(self, reason: str) -> None:
        """No commands for any pool until ``unfreeze``, whoever is restarted meanwhile."""
        self._records.set_frozen(reason)
        if self._frozen is None:
            self.events.append("engines_frozen", reason=reason)
        self._frozen = reason

    def unfreeze(self) -> None:
        """Let the engines decide again."""
        self._records.set_frozen(None)
        if self._frozen is not None:
            self.events.append("engines_unfrozen")
        self._frozen = None

    # ---------------------------------------------------------------- the cycle

    def cycle(self) -> None:
        """One cycle of every pool, and one more for who asked during it."""
        self._turns.take()

    def _cycle(self) -> None:
        """One pool's trouble is not another's."""
        if not self._pools and not self._claims.due(self._clock()):
            return
        began = time.monotonic()
        # Every call below lets requests in between: a pool may be removed, even added anew.
        pools = dict(self._pools)
        try:
            self._claim_epochs()
            self._send_pending()
            snapshots = self._snapshots()
        except CallFailed as problem:
            self._trouble(f"the provisioner does not answer: {problem}")
            return
        reports = self._sensors.reports(self._pools)
        for name, pool in pools.items():
            if self._pools.get(name) is not pool or name not in snapshots or pool.deciding:
                continue
            turn = partial(self._turn, pool, snapshots[name], reports.get(name))
            if pool.decides_apart:
                pool.deciding = True
                self._beside(turn)
            else:
                turn()
        self._cycle_seconds = time.monotonic() - began

    def _turn(self, pool: KeptPool, snapshot: PoolSnapshot, report: SensorReport | None) -> None:
        """One pool's part of a cycle. Never raises."""
        name = pool.stored.name
        try:
            self._take_snapshot(pool, snapshot)
            if self._pools.get(name) is pool:
                self._cycle_pool(pool, report)
        except CallFailed as problem:
            pool.trouble = f"the provisioner does not answer: {problem}"
        except Exception:
            log.exception("the cycle of pool %s failed", name)
            pool.trouble = "the controller failed in this pool's cycle; see its log"
        finally:
            pool.deciding = False

    def _cycle_pool(self, pool: KeptPool, report: SensorReport | None) -> None:
        if pool.meet_engine():
            return
        name, now = pool.stored.name, self._clock()
        before, stored, frozen = pool.memory, pool.stored, self._frozen
        scheduled = entry_in_force(pool.spec.rules.schedule, now)
        outcome = run_cycle(
            pool.spec,
            pool.engine,
            pool.instances,
            pool.version,
            self._enabled,
            report,
            before,
            epoch=pool.epoch or 0,
            now=now,
            new_id=self._new_id,
            frozen=frozen or ("another controller keeps this pool" if pool.superseded else None),
            in_flight=name in self._pending,
            poll_interval=self._config.queue_poll_interval,
            default_cloud=self._config.default_cloud,
            clouds=pool.clouds,
            scheduled=scheduled,
            sources=self._sources(pool.spec.template),
        )
        # An engine in a process of its own lets requests in between: what they changed counts.
        same = pool.memory is before and pool.stored is stored and self._frozen == frozen
        if not same or self._pools.get(name) is not pool:
            return
        store_outcome(self._records, pool, outcome, scheduled)
        pool.outcome, pool.memory, pool.trouble = outcome, outcome.memory, ""
        for event, fields in outcome.events:
            self.events.append(event, pool=name, **fields)
        if outcome.batch is not None:
            log.info("%s: %s", name, outcome.sentence)
            self._pending[name] = outcome.batch
            self._send(name, outcome.batch)
        for node_id in outcome.pings:
            self._in_background(partial(self._sensors.ping, node_id))
        self._sensors.declare_queues(pool)

    # ---------------------------------------------------------------- calls

    def _claim_epochs(self) -> None:
        for name in self._claims.claim(self._pools, self._clock()):
            if name in self._pools:
                self._stand_aside(self._pools[name], "it has a controller of its own")
        self._claims.take_over(self._keep_as_it_was)

    def _keep_as_it_was(self, name: str, section: Mapping[str, Any]) -> None:
        if name not in self._pools:
            self.add_pool(name, section)

    def _snapshots(self) -> dict[str, PoolSnapshot]:
        since = {name: pool.version for name, pool in self._pools.items()}
        answer = self._call("provisioner", "snapshots", since)
        found = {name: from_wire(PoolSnapshot, data) for name, data in answer.items()}
        self._enabled = all(one.enabled for one in found.values())
        return found

    def _take_snapshot(self, pool: KeptPool, snapshot: PoolSnapshot) -> None:
        if snapshot.version < pool.version:  # the provisioner lost its store: begin anew
            pool.instances.clear()
            pool.version = 0
            answer = self._call("provisioner", "instances", pool.stored.name, 0)
            snapshot = from_wire(PoolSnapshot, answer)
        pool.take(snapshot, self._clock())
        if pool.epoch is not None and snapshot.epoch > pool.epoch:
            self._stand_aside(pool, f"epoch {snapshot.epoch} was claimed")

    def _stand_aside(self, pool: KeptPool, why: str) -> None:
        if not pool.superseded:
            pool.superseded = True
            self.events.append("superseded", pool=pool.stored.name, reason=why)

    def _send_pending(self) -> None:
        for name, batch in list(self._pending.items()):
            if self._pending.get(name) is batch:  # else its pool was removed meanwhile
                self._send(name, batch)

    def _send(self, name: str, batch: CommandBatch) -> None:
        """Send a stored batch; keep it for the next cycle unless it was answered."""
        refused = ""
        try:
            answer = from_wire(BatchAnswer, self._call("provisioner", "apply", to_wire(batch)))
        except RemoteError as problem:
            refused = str(problem)
            self.events.append("batch_refused", pool=name, reason=refused)
        except CallFailed as problem:
            log.info("batch %s will be sent again: %s", batch.batch_id, problem)
            return
        else:
            pool = self._pools.get(name)
            # A batch that an earlier life of ours stored says nothing about this one's claim.
            if answer.outcome == "superseded" and pool and pool.epoch == batch.epoch:
                self._stand_aside(pool, answer.detail)
            if answer.outcome not in ("applied", "repeated"):
                refused = f"{answer.outcome}: {answer.detail}"
        if refused and (known := self._pools.get(name)) is not None:
            forget_refused(known, batch, refused, self._records, self._clock())
        self._records.answered(batch.batch_id)
        self._pending.pop(name, None)

    # ---------------------------------------------------------------- answers

    def names(self) -> list[str]:
        """Names of all pools."""
        return sorted(self._pools)

    def pool(self, name: str, whole: bool = True) -> dict[str, Any]:
        """PoolStatus: how a pool is, as of its last cycle; a line for a list if not ``whole``."""
        pool = self._found(name)
        now = self._clock()
        about = (pool.stored.revision, pool.spec, pool.outcome, pool.memory)
        if not whole:
            return pool_line(*about, pool.trouble, now)
        return pool_status(pool.stored.section, *about, pool.instances, pool.trouble, now)

    def explain(self, name: str, at: float | None = None) -> dict[str, Any]:
        """The last cycle's reasoning, or the stored one that was in force ``at`` a time."""
        pool = self._found(name)
        if at is None and pool.outcome is not None:
            return pool.outcome.explanation()
        stored = self._records.explanation_at(name, at)
        if stored is None:
            when = "yet" if at is None else "by then, as far as that is kept"
            raise NotFound(f"nothing has been decided for pool '{name}' {when}")
        return stored

    def recordings(
        self, name: str, before: int | None = None, at: float | None = None
    ) -> list[dict[str, Any]]:
        """A page of stored decisions to replay, newest first; see ``PoolRecords.recordings``."""
        self._found(name)
        return self._records.recordings(name, before, at)

    def status(self) -> dict[str, Any]:
        """For ``epu status``."""
        return {
            "pools": self.names(),
            "frozen": self._frozen,
            "pending_batches": sorted(self._pending),
            "cycle_seconds": round(self._cycle_seconds, 3),
            "known": self._claims.known,
        }

    # ---------------------------------------------------------------- inside

    def _checked(self, name: str, section: Mapping[str, Any]) -> PoolSpec:
        """The section parsed; while an engine that is not ours is tried, requests come in."""
        tried = partial(checked, within=max(self._config.engine_deadline, LOADED_WITHIN))
        spec = parse_pool(name, section, foreign=tried)
        check_clouds(spec, self._config.clouds)
        return spec

    def _loaded(self, name: str) -> KeptPool:
        stored = next(one for one in self._records.load() if one.name == name)
        return load_pool(stored, self._config.engine_deadline)

    def _found(self, name: str) -> KeptPool:
        try:
            return self._pools[name]
        except KeyError:
            remedy = did_you_mean(name, self._pools)
            raise NotFound(f"no pool '{name}'" + (f" ({remedy})" if remedy else "")) from None

    def _trouble(self, text: str) -> None:
        for pool in self._pools.values():
            if pool.trouble != text:
                log.warning("%s: held: %s", pool.stored.name, text)
            pool.trouble = text
