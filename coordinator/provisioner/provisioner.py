"""The provisioner as a plain object: every method of its RPC surface, no messaging."""

from __future__ import annotations

import logging
import math
import shlex
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from agent.keeper_names import controller_name, sensors_name
from agent.messages import (
    ADOPTED_CLOUD,
    BatchAnswer,
    CloudStatus,
    CommandBatch,
    Event,
    NodeSigns,
    PoolSnapshot,
)
from agent.rpc_client import CallFailed
from agent.wire import MalformedMessage, from_wire
from coordinator.clouds.base import CloudDriver
from coordinator.config import CoordinatorConfig
from coordinator.errors import NotFound
from coordinator.events import EventLog
from coordinator.provisioner.accounts_watch import AccountsWatch
from coordinator.provisioner.adopted import AdoptedMachines
from coordinator.provisioner.boot_failure import without_secrets
from coordinator.provisioner.cloud_calls import InParallel, Tools
from coordinator.provisioner.cloud_cycle import CloudCycle
from coordinator.provisioner.commands import check_batch
from coordinator.provisioner.drains import Drains
from coordinator.provisioner.history import announce
from coordinator.provisioner.joining import Joining
from coordinator.provisioner.keepers import claimable, with_pool, without_pool
from coordinator.provisioner.launcher import Launcher
from coordinator.provisioner.lifecycle import (
    BOOTING,
    DRAINING,
    RUNNING,
    Record,
    note,
)
from coordinator.provisioner.orders import check_order, ordered
from coordinator.provisioner.records import Records
from coordinator.provisioner.teardown import begin_teardown, end_teardown, progress_of
from coordinator.provisioner.witness import Witness
from coordinator.provisioner.zombies import stop_denied
from coordinator.store.instance_rows import PERSON
from coordinator.store.session import Store

log = logging.getLogger(__name__)

#: Where the records keep which pools have a controller of their own.
_DEDICATED = "dedicated"
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

    ``store``: where the records are, or the records themselves (the simulator's are values
    in memory). Nothing here waits but the calls to a cloud, in ``reconcile``, and to agents, in
    ``drain_step``. ``due`` says which clouds want ``reconcile`` now.
    """

    def __init__(
        self,
        store: Store | Records,
        clouds: Mapping[str, CloudDriver],
        events: EventLog,
        config: CoordinatorConfig,
        launcher: Launcher,
        call: Callable[..., Any],
        clock: Callable[[], float],
        in_parallel: InParallel = one_by_one,
    ) -> None:
        self.events_log = events
        self._records = store if isinstance(store, Records) else Records(store)
        self._clock = clock
        self._call = call
        self._forget_at = 0.0
        self._told_to_stop: set[str] = set()
        self._tools = Tools(
            run=config.run,
            records=self._records,
            launcher=launcher,
            events=events,
            clock=clock,
            call=call,
            ask_witness=self._ask_witness,
            sensors_of=self._sensors_of,
            controllers_of=self._controllers_of,
            in_parallel=in_parallel,
            listing_interval=config.listing_interval,
            accounts_away=lambda: self._accounts.away is not None,
            heard_since=lambda: self._accounts.heard_since,
        )
        self._accounts = AccountsWatch(self._tools)
        self._run = config.run
        adopted = AdoptedMachines(lambda: self._records.of_cloud(ADOPTED_CLOUD), call, in_parallel)
        drivers = {**clouds, ADOPTED_CLOUD: adopted}
        self.cycles = {name: CloudCycle(name, drivers[name], self._tools) for name in drivers}
        # What the registrar calls.
        joining = Joining(
            self._tools,
            self._wake,
            lambda cloud: bool(getattr(drivers.get(cloud), "machine_knows_id", True)),
        )
        self.node_for_enrolment = joining.node_for_enrolment
        self.adopt_node = joining.adopt_node
        self.node_enrolled = joining.node_enrolled
        self.node_starting = joining.node_starting
        self.node_ready = joining.node_ready
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

    def claim_epoch(
        self, pools: Sequence[str], owner: str = "", own_pool: str = ""
    ) -> dict[str, int]:
        """A new epoch for each pool; commands of an older one are refused from now on.

        ``owner`` names one life of one controller: its claim may be delivered twice.
        ``own_pool``: the pool it is dedicated to, "" for the shared controller. What it may
        not claim (see ``keepers.claimable``) is not in the answer.
        """
        dedicated = self.keepers()
        if own_pool and own_pool not in dedicated:
            dedicated = with_pool(dedicated, own_pool)
            self._records.set_flag(_DEDICATED, dedicated)
            self.events_log.append(
                "keeper_added", pool=own_pool, reason="it has its own controller"
            )
        return self._records.claim_epoch(claimable(pools, own_pool, dedicated), owner)

    def keepers(self) -> list[str]:
        """The pools that have a controller, and a sensors service, of their own."""
        return list(self._records.flag(_DEDICATED) or ())

    def release_keeper(self, pool: str) -> None:
        """The controller of its own was given up: the shared one may keep the pool."""
        dedicated = self.keepers()
        if pool in dedicated:
            self._records.set_flag(_DEDICATED, without_pool(dedicated, pool))
            self.events_log.append("keeper_released", pool=pool)

    def _sensors_of(self, pool: str) -> str:
        return sensors_name(pool if pool in self.keepers() else "")

    def _controllers_of(self, pools: Collection[str]) -> list[str]:
        dedicated = self.keepers()
        return sorted({controller_name(pool if pool in dedicated else "") for pool in pools})

    # ---------------------------------------------------------------- for the registrar

    def node(self, node_id: str) -> dict[str, Any]:
        """All that is known of one node, its history too. Raises NotFound."""
        return self._records.node(node_id, self._clock())

    def live_nodes(self) -> list[dict[str, str]]:
        """Every node that is not at its end: whose accounts must stay."""
        return self._records.live_names()

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
        return {**progress_of(self._tools, self.cycles), "accounts_away": self._accounts.away}

    def stop_denied(self) -> list[dict[str, Any]]:
        """Tell agents to stop that speak although their clouds call their machines gone.

        Node id, cloud, cloud id and ``drain_timeout`` (s) of each that took it. To be repeated
        until nobody is left.
        """
        return stop_denied(self._tools, self._told_to_stop)

    def audit_exec(self, node_id: str, exec_id: str, words: Sequence[str], actor: str) -> None:
        """Write down who is about to run what on a node, before it can begin.

        Secrets that can be recognised are blotted out; others must not be on a command line.
        """
        known = self._records.named([node_id]).get(node_id)
        self.events_log.append(
            "node_exec",
            actor=actor[:200],
            pool=known.pool if known is not None else "",
            node=node_id,
            reason=without_secrets(shlex.join(words))[:PROBLEM_TAIL],
            exec_id=exec_id,
        )

    def order_node(
        self,
        node_id: str,
        order: str,
        who: str,
        reason: str = "",
        drain_timeout: float | None = None,
    ) -> dict[str, Any]:
        """Carry out what the person ``who`` orders of a node; see ``orders``.

        Whether anything was left to do, and the node's state. Raises NotFound, ConfigProblem,
        InvalidTransition.
        """
        check_order(order, drain_timeout)
        record = self._known_node(node_id)
        why = f"{order} by {who}" + (f": {reason}" if reason else "")
        change = ordered(
            record,
            order,
            self._clock(),
            why[:PROBLEM_TAIL],
            enabled=self._records.switches().enabled,
            drain_timeout=drain_timeout,
        )
        self._tools.commit([change], f"{PERSON} {who}"[:64])
        if change is not None and change.to is None:
            about = {"actor": who[:200], "pool": record.pool, "node": node_id}
            self.events_log.append(f"node_{order}ed", reason=reason[:PROBLEM_TAIL], **about)
        self._drains.wake()
        self._wake(record.cloud)
        now = self._known_node(node_id)
        return {
            "node_id": node_id,
            "order": order,
            "changed": change is not None,
            "state": now.state.value,
            "protected": now.protected,
        }

    def _known_node(self, node_id: str) -> Record:
        found = self._records.named([node_id]).get(node_id)
        if found is None:
            raise NotFound(f"no node '{node_id}'")
        return found

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

    def due_in(self, cloud: str) -> float:
        """Seconds until a cloud's ``reconcile`` should run; never is infinity."""
        cycle = self.cycles[cloud]
        # Who runs looks at what became due meanwhile: asking again would only turn in circles.
        return math.inf if cycle.running else max(0.0, cycle.due - self._clock())

    def reconcile(self, cloud: str) -> None:
        """List one cloud if that is due and do what its records need. May be slow."""
        self.cycles[cloud].run()

    def accounts_step(self) -> None:
        """Find out whether nodes can get accounts; about every five seconds."""
        if self._accounts.step():
            self._wake_all()

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

    def _wake(self, cloud: str) -> None:
        if cloud in self.cycles:
            self.cycles[cloud].wake()

    def _wake_all(self) -> None:
        for cycle in self.cycles.values():
            cycle.wake()

    def _ask_witness(self, node_ids: Sequence[str], sensors: str) -> Witness | None:
        try:
            found = self._call(sensors, "witness", list(node_ids), timeout=WITNESS_TIMEOUT)
            return Witness(
                blind=bool(found["blind"]),
                observing_age=float(found["observing_age"]),
                nodes=from_wire(dict[str, NodeSigns], found["nodes"]),
            )
        except (CallFailed, MalformedMessage, KeyError, TypeError) as problem:
            log.info("no second witness: %s", problem)
            return None
