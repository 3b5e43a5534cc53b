"""One cloud's loop: list it, let the records agree, do what is due.

Each cloud has its own, so a cloud that is slow, broken or rejects us delays no other. A
pass is never run twice at once; whoever asks while one runs gets another after it. What is
remembered here only saves time: a new object starts from the store alone.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Sequence

from agent.messages import agent_service
from agent.rpc_client import CallFailed
from coordinator.clouds.base import CloudDriver, MachineState
from coordinator.provisioner.cloud_calls import CloudCalls, CloudHeld, Tools
from coordinator.provisioner.lifecycle import (
    BOOTING,
    DRAINING,
    LAUNCHING,
    RUNNING,
    TERMINATED,
    TERMINATING,
    Change,
    Record,
    note,
    torn_down,
)
from coordinator.provisioner.looks import LAUNCHES_OF_A_LOOK, Looks
from coordinator.provisioner.reconcile import Listing, Sightings, sync_from_observed
from coordinator.provisioner.steps import (
    CallLaunch,
    CallStop,
    CallTerminate,
    MarkBootFailed,
    Move,
    next_step,
    wake_at,
)
from coordinator.provisioner.witness import silence
from coordinator.provisioner.zombies import tell_to_stop

log = logging.getLogger(__name__)

#: Pause of the listing while something is in the air, for a driver that reads the world, s.
FLUX_INTERVAL = 1.0
#: After a pass that failed by a defect of ours, s.
AFTER_DEFECT = 5.0
#: A ping waits at most so long for an agent, s.
PING_TIMEOUT = 3.0
#: Launch calls to one cloud at the same time; a driver's host works on so many.
LAUNCHES_AT_ONCE = 4
#: The controller has so long to take a hint, s. Whatever became of it, it looks by itself.
HINT_TIMEOUT = 1.0
#: Passes without a pause in between; what is left waits for the next tick.
PASSES = 10

#: Whose end leaves a place that the controller fills.
_SERVING = (BOOTING, RUNNING)


class CloudCycle:
    """The loop of one cloud. ``due``: when it wants to run again, on our clock; ``running``:
    a pass is under way; ``sightings``: what does not agree with the records, and since when."""

    def __init__(self, name: str, driver: CloudDriver, tools: Tools) -> None:
        self.name = name
        self.calls = CloudCalls(name, driver, tools)
        self._tools = tools
        self.due = 0.0
        self.listed: int | None = None
        self.listed_at: float | None = None
        self._list_at = 0.0
        self._looks = Looks()
        self._to_ping: set[str] = set()
        self.sightings = Sightings()
        self.running = False

    # ---------------------------------------------------------------- from outside

    def wake(self) -> None:
        """Something changed in the store: run as soon as possible."""
        self.due = 0.0

    def look_for(self, record: Record) -> None:
        """A hint that a machine may be gone: list it at once, ping it if it is there.

        While the cloud still lists it, and no ping is answered, it is listed a few times more.
        """
        self._looks = self._looks.hinted([record.node_id], self._tools.clock())
        self._to_ping.add(record.node_id)
        self.wake()

    def confirmed_empty(self) -> bool:
        """Whether a listing that would show every machine we ever asked for shows none."""
        if self.listed != 0 or self.listed_at is None or self.calls.problem:
            return False
        launched = self._tools.records.last_launch_call(self.name)
        would_show = max(self.calls.last_call, launched + self.calls.window)
        return self.listed_at >= would_show

    def run(self) -> None:
        """Passes, until nothing is due any more. Raises nothing but what ends the process."""
        if self.running:
            return  # `due` is 0 again: the pass that runs now is followed by another
        self.running = True
        try:
            for _ in range(PASSES):
                if self.due > self._tools.clock():
                    break
                self.due = math.inf
                following = self._pass()
                self.due = min(self.due, following)
        except Exception:
            log.exception("cloud %s: a pass failed", self.name)
            self.due = self._tools.clock() + AFTER_DEFECT
        finally:
            self.running = False

    # ---------------------------------------------------------------- one pass

    def _pass(self) -> float:
        """List if due, act, ping; when to run next."""
        now = self._tools.clock()
        if now < self.calls.held_until:
            return self.calls.held_until
        try:
            if now >= self._list_at:
                self._looks = self._looks.listed(now)
                self._observe(None)
            elif due := self._looks.due(now):
                self._look(due, now)
            self._act()
        except CloudHeld:
            self._list_at = 0.0
            return self.calls.held_until
        self._ping()
        return self._next_due()

    def _look(self, node_ids: Collection[str], now: float) -> None:
        """One listing of those who still may be gone; of everything where they are many."""
        launch_ids = {record.launch_id for record in self._suspected(node_ids)}
        if not launch_ids:
            self._looks = self._looks.listed(now)
            return
        whole = len(launch_ids) > LAUNCHES_OF_A_LOOK
        self._looks = self._looks.looked(now, whole)
        self._observe(None if whole else launch_ids)

    def _suspected(self, node_ids: Collection[str]) -> list[Record]:
        """Those of the nodes that should be there and whose presence was lost."""
        return [
            record
            for record in self._tools.records.named(node_ids).values()
            if record.state in (*_SERVING, DRAINING) and record.presence_lost_at is not None
        ]

    def _observe(self, launch_ids: Collection[str] | None) -> None:
        if launch_ids is None:
            self._list_at = self._tools.clock() + self._tools.listing_interval
        listing = self.calls.listing(launch_ids)
        if listing is None:
            return
        known_pools = frozenset(self._tools.records.pools())
        if launch_ids is None:
            self.listed_at = listing.at
            self.listed = sum(
                machine.pool in known_pools and machine.state is not MachineState.GONE
                for machine in listing.machines
            )
        self._sync(listing, known_pools)

    def _sync(self, listing: Listing, known_pools: frozenset[str]) -> None:
        named = [f"{machine.launch_id}-{machine.index}" for machine in listing.machines]
        silent: dict[str, bool | None] = {}
        records = self._tools.records.of_cloud(self.name, named, listing.launch_ids)
        for _ in range(2):  # the second time with the second witness, if one is needed
            synced = sync_from_observed(
                records,
                listing,
                self.sightings,
                window=self.calls.window,
                known_pools=known_pools,
                silent=silent,
            )
            if not synced.suspects:
                break
            suspects = [record for record in records if record.node_id in synced.suspects]
            silent = {}
            for watched, witness in self._tools.witnesses(suspects):
                silent |= silence(watched, witness, self._tools.clock())
            # Only of the suspects may it matter what came while the witness was asked.
            fresh = self._tools.records.named(synced.suspects)
            records = [fresh.get(record.node_id, record) for record in records]
        heard = [note(r, presence_lost_at=None) for r in records if silent.get(r.node_id) is False]
        self.sightings = synced.sightings
        self._tools.commit([*synced.changes, *heard])
        gone = {
            change.node_id
            for change in synced.changes
            if change.to is TERMINATED and change.expected in _SERVING
        }
        if gone:
            self._tell_controllers({record.pool for record in records if record.node_id in gone})
        self._tell_contradicted(records, synced.changes)
        if listing.launch_ids is None or synced.doomed:
            self.calls.destroy(synced.doomed)

    def _tell_controllers(self, pools: Collection[str]) -> None:
        """A hint: whoever is to be replaced need not wait for the next cycle."""
        for controller in self._tools.controllers_of(pools):
            try:
                self._tools.call(controller, "look", timeout=HINT_TIMEOUT)
            except CallFailed as problem:
                log.info("the %s finds by itself who is gone: %s", controller, problem)

    def _tell_contradicted(self, records: Sequence[Record], changes: Sequence[Change]) -> None:
        """A node whose cloud calls its machine otherwise than it said: somebody must look."""
        claims = {record.node_id: record for record in records if record.claimed_cloud_id}
        for change in changes:
            record, listed = claims.get(change.node_id), change.fields.get("cloud_id")
            if record and record.cloud_id is None and listed not in (None, record.claimed_cloud_id):
                self._tools.events.append(
                    "claim_contradicted",
                    pool=record.pool,
                    node=record.node_id,
                    reason=f"who enrolled as this node said that its machine is"
                    f" {record.claimed_cloud_id}, and the cloud lists {listed}",
                )

    def _act(self) -> None:
        switches = self._tools.records.switches()
        now = self._tools.clock()
        if switches.stopping:  # whatever slipped past the teardown, in a crash or a race
            there = self._tools.records.of_cloud(self.name)
            late = [torn_down(r, now, switches.at_once, switches.drain_timeout) for r in there]
            self._tools.commit(late)
        records = self._tools.records.restless(self.name)
        moves: list[Change] = []
        launches: list[str] = []
        for action in next_step(
            records,
            now,
            enabled=switches.enabled,
            window=self.calls.window,
            listed_at=self.listed_at,
            accounts_away=self._tools.accounts_away(),
            heard_since=self._tools.heard_since(),
        ):
            match action:
                case Move(change=change):
                    moves.append(change)
                case MarkBootFailed():
                    moves.append(self.calls.explained(action))
                case CallStop(node_ids=node_ids):
                    tell_to_stop(self._tools, records, node_ids)
                case CallTerminate(node_ids=node_ids, cloud_ids=cloud_ids):
                    ending = [r for r in records if r.node_id in set(node_ids)]
                    self.calls.terminate(ending, cloud_ids)
                    # Who is at the end already, and is asked for once more, is waited for by
                    # nobody: a listing of all would only stand before its successor's launch.
                    if switches.stopping or not all(r.final for r in ending):
                        self._look_again()
                case CallLaunch(launch_id=launch_id):
                    launches.append(launch_id)
        for start in range(0, len(launches), LAUNCHES_AT_ONCE):
            self._tools.in_parallel(self.calls.launch, launches[start : start + LAUNCHES_AT_ONCE])
            self._look_again()
        if self._tools.commit(moves):
            self.wake()  # a state that was entered may need a call at once

    def _look_again(self) -> None:
        """After a call: a fresh listing, at once."""
        self._list_at = 0.0
        self.wake()

    def _ping(self) -> None:
        """Ask those whose presence was lost, and whose machine is there, for a sign of life."""
        asked, self._to_ping = self._to_ping, set()
        records = self._suspected(asked)
        answers = self._tools.in_parallel(self._answers, [record.node_id for record in records])
        heard = [record for record, answer in zip(records, answers, strict=True) if answer]
        self._tools.commit([note(record, presence_lost_at=None) for record in heard])

    def _answers(self, node_id: str) -> bool:
        try:
            self._tools.call(agent_service(node_id), "beat_now", timeout=PING_TIMEOUT)
        except CallFailed:
            return False
        return True

    def _next_due(self) -> float:
        records = self._tools.records.restless(self.name)
        in_the_air = any(record.state in (LAUNCHING, TERMINATING) for record in records)
        if in_the_air and self.calls.window == 0:
            soon = self._tools.clock() + min(FLUX_INTERVAL, self._tools.listing_interval)
            self._list_at = min(self._list_at, soon)
        wake = wake_at(records, self._tools.accounts_away(), self._tools.heard_since())
        times = [self._list_at, self._looks.next_at(), *([] if wake is None else [wake])]
        return min(times)
