"""Taking a whole system down, with proof. Every step may be repeated.

The order is what protects people's machines: nothing that could end a worker is taken away
before every cloud has said that no worker is left. When that can't be confirmed,
WorkersRemain says what stands in the way and the base system is left as it is.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from agent.messages import Event
from agent.rpc_client import BrokerUnreachable, CallFailed
from coordinator.errors import EpuError
from mgmt.answers import Call, ask
from mgmt.broker_files import write_private
from mgmt.exit_codes import WorkersRemain
from mgmt.teardown_denied import see_denied_off, tell_denied
from mgmt.teardown_record import (
    Inventory,
    Listing,
    Receipt,
    Step,
    StepState,
    TeardownRecord,
    adopted_text,
    progress_text,
    record_of,
)

#: How long a provisioner that does not answer may take to come back, seconds: its
#: supervisor restarts it, and a command must speak within ten.
PROVISIONER_GRACE = 5.0
POLL = 0.5
#: Between two looks while no machine is listed and listings may lag, and between two
#: requests to end those that are listed, s.
LAGGING_POLL = 5.0

_NO_ANSWER = (CallFailed, EpuError)


class Base(Protocol):
    """The booted levels of a run, below the workers."""

    def services(self) -> list[str]:
        """Names of the services that are not terminated, lowest level first."""
        ...

    def terminate(self, leave_workers: bool) -> None:
        """End all levels in reverse; ``leave_workers`` is remembered for the run's name.

        Raises EpuError when one could not be ended.
        """
        ...

    def workers_are_gone(self) -> None:
        """The clouds list none: the run's name may be booted again."""
        ...


@dataclass(frozen=True)
class Clock:
    """Wall clock (epoch s), monotonic clock (s) and waiting."""

    now: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """How to tear down. ``timeout``: seconds until every worker must be gone."""

    now: bool = False
    leave_workers: bool = False
    timeout: float = 900.0
    reason: str = "teardown"


@dataclass
class Teardown:
    """One teardown of one run.

    ``call`` reaches the coordinator (None: the run has none any more), ``list_clouds``
    asks every cloud of the run directly, ``end_machines`` has the clouds end what they
    listed, ``say`` is told each thing that happens.
    """

    run: str
    directory: Path
    base: Base
    list_clouds: Callable[[], Listing]
    end_machines: Callable[[Listing], None] | None = None
    call: Call | None = None
    say: Callable[[str], None] = print
    clock: Clock = field(default_factory=Clock)
    _unwritten: set[Path] = field(default_factory=set, init=False)

    def preview(self) -> Inventory:
        """What there is now; changes nothing."""
        services = tuple(self.base.services())
        return Inventory(workers=self._workers(bool(services)), services=services)

    def earlier_receipt(self) -> dict[str, Any] | None:
        """The receipt of a finished teardown after which nothing has come back, if any."""
        try:
            receipt: dict[str, Any] = json.loads((self.directory / "receipt.json").read_text())
        except (OSError, ValueError):
            return None
        gone = not self.base.services() and self.list_clouds().proves_none
        return receipt if gone and receipt.get("clean") else None

    def perform(self, wishes: Wishes) -> Receipt:
        """Do all steps. Raises WorkersRemain (exit 4), or EpuError for a failed level."""
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self._alone():
            self._record = self._open_record()
            if not wishes.leave_workers:
                try:
                    self._end_workers(wishes)
                except OSError as problem:
                    raise WorkersRemain(
                        f"workers are not confirmed gone: {problem}; the base system was left"
                        " standing; run the teardown again"
                    ) from problem
            with self._step(Step.END_LEVELS) as detail:
                services = self.base.services()
                if services:
                    self.base.terminate(wishes.leave_workers)
                detail.append(f"{len(services)} services ended")
            with self._step(Step.LIST_CLOUDS) as detail:
                left = self.list_clouds()
                detail.append(str(left))
                if left.problems or (left.machines and not wishes.leave_workers):
                    raise WorkersRemain(f"{left}; run the teardown again")
            if not left.machines:
                self.base.workers_are_gone()
            return self._write_receipt(wishes, left)

    # -------------------------------------------------------------- workers

    def _end_workers(self, wishes: Wishes) -> None:
        deadline = self.clock.monotonic() + wishes.timeout
        call = self.call if self.base.services() else None
        if call is None or not self._ask_for_the_end(call, wishes, deadline):
            self._confirm_without_provisioner(deadline)
            return
        # What they have in hand they finish while the others drain.
        self._keep(self._record.told_to_stop(tell_denied(call)[0].machines))
        self._confirm(call, wishes, deadline)
        with self._step(Step.STOP_DENIED) as detail:
            before, clock = self._record.denied, self.clock
            told = see_denied_off(call, before, wishes.now, deadline, clock.monotonic, clock.sleep)
            self._keep(self._record.told_to_stop(told.machines))
            detail.append(str(told))

    def _confirm(self, call: Call, wishes: Wishes, deadline: float) -> None:
        """Until provisioner and clouds agree that no worker is left. Raises WorkersRemain."""
        with self._step(Step.CONFIRM_WORKERS) as detail:
            said = ""
            while True:
                done, state, adopted = self._progress(call)
                if done:
                    listing = self.list_clouds()
                    state = str(listing)
                    if listing.proves_none:
                        detail.append(state)
                        if adopted:
                            self._keep(self._record.left_to_owners(adopted))
                            detail.append(adopted_text(adopted))
                        break
                if state != said:
                    self.say(state)
                    said = state
                if self.clock.monotonic() >= deadline:
                    raise WorkersRemain(
                        f"workers are not confirmed gone after {wishes.timeout:g} s ({said}); "
                        "the base system was left standing; run the teardown again to go on"
                    )
                self.clock.sleep(POLL)

    def _ask_for_the_end(self, call: Call, wishes: Wishes, deadline: float) -> bool:
        """Freeze the engines and ask for the end of all workers; False: nobody to ask."""
        began = self.clock.monotonic()
        with self._step(Step.FREEZE) as detail:
            try:
                ask(call, "controller", "freeze", wishes.reason, timeout=2.0)
                detail.append("the engines decide nothing any more")
            except _NO_ANSWER as problem:
                # Not needed for safety: a provisioner that is ending all rejects launches.
                detail.append(f"the controller does not answer ({problem})")
                if not isinstance(problem, BrokerUnreachable):
                    began = self.clock.monotonic()  # it is not the broker that we wait for
            else:
                began = self.clock.monotonic()
        with self._step(Step.END_WORKERS) as detail:
            patience = min(deadline, began + PROVISIONER_GRACE)
            while True:
                left = max(patience - self.clock.monotonic(), 0.5)
                try:
                    ask(call, "provisioner", "terminate_all", wishes.now, timeout=left)
                    detail.append("at once" if wishes.now else "each after its work is done")
                    return True
                except _NO_ANSWER as problem:
                    if self.clock.monotonic() >= patience:
                        detail.append(f"the provisioner does not answer ({problem})")
                        return False
                self.clock.sleep(POLL)

    def _confirm_without_provisioner(self, deadline: float) -> None:
        """Go on only when the clouds themselves list no worker.

        While a base system stands its provisioner may come back, and it is its business to
        end them. Where nothing stands any more (its workers were left running, or it was
        lost) nobody else will: the clouds are told themselves.
        """
        with self._step(Step.CONFIRM_WORKERS) as detail:
            listing = self._listing_that_proves(deadline)
            if not listing.proves_none:
                standing = (
                    "; the base system was left standing ('epu repair' starts a dead coordinator)"
                    if self.base.services()
                    else ""
                )
                raise WorkersRemain(
                    f"the provisioner can't be asked to end the workers, and {listing}{standing}"
                )
            detail.append(str(listing))

    def _listing_that_proves(self, deadline: float) -> Listing:
        """The last listing: none of the run's machines for as long as listings may lag, or
        what stands against that. Nobody remembers here when a machine was last asked for.
        """
        clear_since: float | None = None
        tell_again, said = 0.0, ""
        while True:
            asked = self.clock.monotonic()
            listing = self.list_clouds()
            if listing.problems:
                return listing
            if listing.machines:
                clear_since = None
                if self.base.services() or self.end_machines is None:
                    return listing
                say = f"nobody is left to end them: ending {len(listing.machines)} machines"
                pause = POLL
                if say != said or asked >= tell_again:
                    self.end_machines(listing)
                    tell_again = asked + LAGGING_POLL
            else:
                clear_since = asked if clear_since is None else clear_since
                left = clear_since + listing.window - self.clock.monotonic()
                if left <= 0:
                    return listing
                say = f"none is listed; a listing may lag {listing.window:g} s, so looking again"
                pause = min(left, LAGGING_POLL)
            if say != said:
                self.say(say)
                said = say
            if self.clock.monotonic() >= deadline:
                problem = {"of the workers": f"no time is left for that: {say}"}
                return listing if listing.machines else Listing(problems=problem)
            self.clock.sleep(pause)

    def _progress(self, call: Call) -> tuple[bool, str, tuple[str, ...]]:
        """Whether the provisioner has confirmed the end of all workers, and in words; the
        adopted ones among them."""
        try:
            progress = ask(call, "provisioner", "progress", timeout=5.0)
        except _NO_ANSWER as problem:
            return False, f"the provisioner does not answer: {problem}", ()
        adopted = tuple(str(node) for node in progress.get("adopted") or ())
        return bool(progress["done"]), progress_text(progress), adopted

    def _workers(self, base_stands: bool) -> tuple[str, ...]:
        if self.call is not None and base_stands:
            try:
                living = ask(self.call, "provisioner", "live_nodes", timeout=2.0)
                return tuple(sorted(str(node["node_id"]) for node in living))
            except _NO_ANSWER as problem:
                self.say(f"the provisioner does not answer ({problem}); asking the clouds")
        listing = self.list_clouds()
        if listing.problems:
            self.say(str(listing))
        return tuple(sorted(machine.node_id for machine in listing.machines))

    # -------------------------------------------------------------- files

    def _open_record(self) -> TeardownRecord:
        before = self.preview()
        try:
            kept = record_of(json.loads((self.directory / "teardown.json").read_text()))
            if Step.RECEIPT.value not in kept.steps:
                return kept.again(before)
        except (OSError, ValueError, KeyError, TypeError):
            pass  # the first attempt, or a file that was cut off: begin anew
        return TeardownRecord(run=self.run, started_at=self.clock.now(), before=before)

    def _write_receipt(self, wishes: Wishes, left: Listing) -> Receipt:
        receipt = Receipt(
            run=self.run,
            started_at=self._record.started_at,
            ended_at=self.clock.now(),
            attempts=self._record.attempts,
            before=self._record.before,
            adopted=self._record.adopted,
            denied=self._record.denied,
            left=Inventory(
                workers=tuple(machine.node_id for machine in left.machines),
                services=tuple(self.base.services()),
            ),
            left_on_purpose=wishes.leave_workers,
            steps=self._record.steps,
        )
        try:
            self._write("receipt.json", receipt.document())
        except OSError as problem:
            raise EpuError(
                f"everything was ended, but the receipt can't be written: {problem.strerror}"
                f" ({self.directory / 'receipt.json'}); free some space and run it again"
            ) from None
        with self._step(Step.RECEIPT) as detail:
            detail.append(str(self.directory / "receipt.json"))
        return receipt

    @contextmanager
    def _step(self, step: Step) -> Iterator[list[str]]:
        """Record a step's begin and end, whatever comes of it; yields its details."""
        self._keep(self._record.began(step, self.clock.now()))
        detail: list[str] = []
        try:
            yield detail
        except BaseException as problem:
            what = str(problem) or type(problem).__name__
            self._finish(step, what, StepState.FAILED)
            raise
        self._finish(step, "; ".join(detail), StepState.DONE)

    def _finish(self, step: Step, detail: str, state: StepState) -> None:
        now = self.clock.now()
        self._keep(self._record.ended(step, now, detail, state))
        if state is StepState.DONE:
            self.say(f"{step.value.replace('_', ' ')}: {detail or 'done'}")
        event = Event(
            time=now,
            source="teardown",
            name=f"teardown_{step.value}",
            actor="teardown",
            run=self.run,
            reason=detail,
            extra={"state": state.value},
        )
        logs = self.directory / "logs"
        with self._dispensable(logs / "teardown.log"):
            logs.mkdir(exist_ok=True, mode=0o700)
            with open(logs / "teardown.log", "a") as log:
                log.write(f"EPU_EVENT {json.dumps(asdict(event), sort_keys=True)}\n")

    def _keep(self, record: TeardownRecord) -> None:
        self._record = record
        with self._dispensable(self.directory / "teardown.json"):
            self._write("teardown.json", asdict(record))

    @contextmanager
    def _dispensable(self, path: Path) -> Iterator[None]:
        """Go on, with a warning once, when a note can't be written: a full disk must not keep
        machines running. Steps may all be repeated, so nothing depends on the notes."""
        try:
            yield
        except OSError as problem:
            if path not in self._unwritten:
                self._unwritten.add(path)
                self.say(f"warning: {path} can't be written ({problem.strerror}); going on")

    def _write(self, name: str, document: dict[str, Any]) -> None:
        write_private(self.directory / name, json.dumps(document, sort_keys=True, indent=1))

    @contextmanager
    def _alone(self) -> Iterator[None]:
        # The directory itself: a lock file could not be made on a full disk.
        lock = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise EpuError(f"another teardown of run {self.run} is at work") from None
        try:
            yield
        finally:
            os.close(lock)
