"""The calls to one cloud, each with what has to be stored before and after it.

Every error of the cloud ends here: as a change of the records, as the cloud's ``problem``,
or as a hold while it rejects our credentials. ``CloudHeld`` leaves only to end a pass.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from agent.messages import CloudStatus
from coordinator.clouds.base import CloudDriver, batch_limit_of
from coordinator.errors import CredentialsRejected, EpuError, LaunchRefused, RetryLater
from coordinator.events import EventLog
from coordinator.provisioner.boot_failure import Evidence, explain_boot_failure
from coordinator.provisioner.history import announce
from coordinator.provisioner.launcher import (
    Answer,
    CannotRepeat,
    Launcher,
    Outcome,
    after_call,
    before_call,
    call_launch,
    not_callable,
    put_off,
)
from coordinator.provisioner.lifecycle import REQUESTED, Change, Record, note
from coordinator.provisioner.reconcile import Listing
from coordinator.provisioner.records import Records
from coordinator.provisioner.steps import MarkBootFailed, back_off
from coordinator.provisioner.witness import Witness

T = TypeVar("T")

log = logging.getLogger(__name__)

#: A cloud that rejects our credentials is left alone for so long, s.
HOLD = 60.0
#: First repeat of a terminate call, s.
TERMINATE_FIRST = 5.0

InParallel = Callable[[Callable[[str], Any], Sequence[str]], list[Any]]


@dataclass(frozen=True, kw_only=True)
class Tools:
    """What the loops of all clouds work with.

    ``call``: an RPC call (``ClientPool.call``). ``ask_witness``: ``witness`` of a sensors
    service, None when it can't be asked; ``sensors_of`` a pool is that service's name, and
    ``controllers_of`` pools are those of their controllers. ``in_parallel(function, items)``:
    results in order.
    ``accounts_away``: whether no node can get an account now. ``heard_since``: since when
    nodes can report to us, infinity while they can't.
    """

    run: str
    records: Records
    launcher: Launcher
    events: EventLog
    clock: Callable[[], float]
    call: Callable[..., Any]
    ask_witness: Callable[[Sequence[str], str], Witness | None]
    sensors_of: Callable[[str], str]
    controllers_of: Callable[[Collection[str]], list[str]]
    in_parallel: InParallel
    listing_interval: float = 5.0
    accounts_away: Callable[[], bool] = lambda: False
    heard_since: Callable[[], float] = lambda: -math.inf

    def commit(self, changes: Sequence[Change | None], actor: str = "provisioner") -> bool:
        """Store changes and tell of those that took effect; whether any state changed."""
        wanted = [change for change in changes if change is not None]
        applied = self.records.commit(wanted, self.clock(), actor)
        announce(self.events, applied, actor)
        return bool(applied)

    def witnesses(self, records: Sequence[Record]) -> Iterator[tuple[list[Record], Witness | None]]:
        """Records with what the sensors service of their pools says of them, service by service."""
        watched: dict[str, list[Record]] = {}
        for record in records:
            watched.setdefault(self.sensors_of(record.pool), []).append(record)
        for sensors, theirs in watched.items():
            yield theirs, self.ask_witness([record.node_id for record in theirs], sensors)


class CloudHeld(Exception):
    """The cloud rejects our credentials; nothing more is asked of it for a while."""


class CloudCalls:
    """The door to one cloud. ``last_call``: when a launch or termination last returned."""

    def __init__(self, name: str, driver: CloudDriver, tools: Tools) -> None:
        self.name = name
        self.driver = driver
        self._tools = tools
        self.problem = ""
        self.held_until = 0.0
        self.last_call = tools.clock()
        self.batch_limit = batch_limit_of(driver)
        self._answered_at = float("-inf")
        self._failing_since: float | None = None
        self._calls = 0
        self._begun: dict[int, float] = {}
        self._rejected: set[str] = set()
        self._doomed: dict[str, tuple[int, float]] = {}

    @property
    def held(self) -> bool:
        """Whether the cloud rejects our credentials, as far as we know."""
        return bool(self._rejected)

    @property
    def window(self) -> float:
        """For how long, s, a listing may not show a change."""
        return self.driver.consistency_window

    def status(self) -> CloudStatus:
        """How the cloud is, for whoever chooses among clouds."""
        now = self._tools.clock()
        since = [at for at in (self._failing_since, *self._begun.values()) if at is not None]
        silent = now - max(min(since), self._answered_at) if since else 0.0
        return CloudStatus(
            batch_limit=self.batch_limit,
            rejected_for=max(0.0, self.held_until - now) if self.held else 0.0,
            silent_for=max(0.0, silent),
            problem=self.problem,
        )

    # ---------------------------------------------------------------- the calls

    def listing(self, launch_ids: Collection[str] | None) -> Listing | None:
        """What the cloud lists now; None when it can't say."""
        at = self._tools.clock()
        wanted = None if launch_ids is None else frozenset(launch_ids)
        asked = None if wanted is None else sorted(wanted)
        machines = self._attempt(
            "list",
            "can't be listed",
            lambda: tuple(self.driver.list_instances(self._tools.run, asked)),
        )
        if machines is None:
            return None
        self.problem = ""
        return Listing(at=at, machines=machines, launch_ids=wanted)

    def launch(self, launch_id: str) -> None:
        """Write ahead, call, store what the answer means."""
        store = self._tools.records
        launch, records = store.launch(launch_id), store.waiting(launch_id)
        if launch is None or not records:
            return
        now = self._tools.clock()
        form = getattr(self.driver, "user_data_form", "agent-config")
        try:
            launch, request = self._tools.launcher.repeatable(launch, records, form, now)
        except LaunchRefused as problem:
            self._tools.commit(not_callable(records, str(problem), now))
            return
        except CannotRepeat as problem:
            self._tools.commit(put_off(records, str(problem), now))
            return
        if not store.intend_call(launch, before_call(records, now, self.window), now):
            return
        empty = {r.node_id for r in records if r.state is REQUESTED or r.retryable}
        with self._in_the_air():
            answer = call_launch(self.driver, request)
        self.last_call = now = self._tools.clock()
        waiting = store.waiting(launch_id)
        self._tools.commit(after_call(waiting, answer, now, self.window, HOLD, empty))
        self._attempt("launch", "a launch did not succeed", lambda: _raise_unless_accepted(answer))

    def terminate(self, records: Sequence[Record], cloud_ids: Sequence[str]) -> None:
        """End the machines of ``records``; the time of the next repeat is stored before."""
        now = self._tools.clock()
        self._tools.commit(
            [
                note(
                    record,
                    terminate_called_at=now,
                    attempts=record.attempts + 1,
                    next_attempt_at=None
                    if record.final
                    else now + back_off(record.attempts, TERMINATE_FIRST),
                )
                for record in records
            ]
        )
        self._terminate(cloud_ids)

    def destroy(self, cloud_ids: Sequence[str]) -> None:
        """End machines that no record wants. Each is told once and repeated with back-off."""
        now = self._tools.clock()
        due = [cloud_id for cloud_id in cloud_ids if self._doomed.get(cloud_id, (0, 0.0))[1] <= now]
        for cloud_id in due:
            times = self._doomed.get(cloud_id, (0, 0.0))[0]
            self._doomed[cloud_id] = (times + 1, now + back_off(times, TERMINATE_FIRST))
            if times == 0:
                reason = "no record wants this machine"
                self._tools.events.append(
                    "stray_destroyed", reason=reason, cloud=self.name, cloud_id=cloud_id
                )
        self._doomed = {known: self._doomed[known] for known in cloud_ids}
        if due:
            self._terminate(due)

    def explained(self, action: MarkBootFailed) -> Change:
        """The action's change with the reason that console and cloud-init's status give it."""
        cloud_id, record = action.record.cloud_id, action.record
        console = boot_status = None
        if cloud_id is not None:
            console = self._attempt(
                "console", "has no console", lambda: self.driver.console_output(cloud_id)
            )
            ask_status = getattr(self.driver, "boot_status", None)
            if ask_status is not None and record.enrolled_at is None:
                boot_status = self._attempt(
                    "boot_status", "can't tell how a boot went", lambda: ask_status(cloud_id)
                )
        found = explain_boot_failure(
            Evidence(
                occasion=action.change.reason,
                enrolled=record.enrolled_at is not None,
                step=record.start_step,
                detail=record.start_detail,
                console=console or "",
                boot_status=boot_status or "",
            )
        )
        facts = {"boot_cause": found.cause.value, "boot_detail": found.detail}
        return replace(
            action.change, reason=found.sentence, fields={**action.change.fields, **facts}
        )

    # ---------------------------------------------------------------- inside

    def _terminate(self, cloud_ids: Sequence[str]) -> None:
        what = f"can't terminate {len(cloud_ids)} machines"
        self._attempt("terminate", what, lambda: self.driver.terminate(cloud_ids))
        self.last_call = self._tools.clock()

    def _attempt(self, kind: str, complaint: str, make: Callable[[], T]) -> T | None:
        """The result of a call; None when it failed, which ``problem`` then says.

        Raises CloudHeld when the cloud rejects our credentials.
        """
        try:
            with self._in_the_air():
                result = make()
        except CredentialsRejected as rejected:
            self._answered()
            self._hold(kind, str(rejected))
            raise CloudHeld from rejected
        except EpuError as problem:
            if not isinstance(problem, RetryLater):
                self._answered()
            what = f"{complaint}: {problem}"
        except Exception as defect:
            log.exception("cloud %s: the driver failed", self.name)
            what = f"{complaint}: the driver failed: {type(defect).__name__}"
        else:
            self._answered()
            self._accepted(kind)
            return result
        if self._failing_since is None:
            self._failing_since = self._tools.clock()
        if what != self.problem:
            log.warning("cloud %s: %s", self.name, what)
        self.problem = what
        return None

    def _answered(self) -> None:
        self._failing_since = None
        self._answered_at = self._tools.clock()

    @contextmanager
    def _in_the_air(self) -> Iterator[None]:
        """Around a call: one that hangs is seen by others while it does."""
        self._calls += 1
        number = self._calls
        self._begun[number] = self._tools.clock()
        try:
            yield
        finally:
            del self._begun[number]

    def _hold(self, kind: str, what: str) -> None:
        """Leave the cloud alone for a while; say so once, however long it lasts."""
        if not self._rejected:
            self._tools.events.append("cloud_held", reason=what, cloud=self.name)
            log.warning("cloud %s rejects our credentials: %s", self.name, what)
        self._rejected.add(kind)
        self.problem = f"credentials rejected: {what}"
        self.held_until = self._tools.clock() + HOLD

    def _accepted(self, kind: str) -> None:
        if kind not in self._rejected:
            return
        self._rejected.discard(kind)
        if not self._rejected:
            self._tools.events.append("cloud_recovered", cloud=self.name)


def _raise_unless_accepted(answer: Answer) -> None:
    if answer.outcome is Outcome.CREDENTIALS:
        raise CredentialsRejected(answer.reason)
    if answer.outcome is Outcome.RETRY:
        raise RetryLater(f"{answer.outcome.value}: {answer.reason}")
    if answer.outcome is not Outcome.ACCEPTED:
        raise EpuError(f"{answer.outcome.value}: {answer.reason}")
