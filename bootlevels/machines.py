"""Machines of services: launched once, found again after a crash, and ended for certain.

The launch id is on record before the cloud is asked, and is the cloud's idempotency token;
every step may be repeated by the next boot tool. A listing may lag by the driver's
``consistency_window``: only a machine that was not listed for that long is gone.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from threading import Event

from bootlevels.cloud_drivers import CloudDrivers
from bootlevels.machine_record import MachineLedger, MachineLife, MachineRecord
from coordinator.clouds.base import CloudInstance, LaunchRequest, MachineState
from coordinator.errors import EpuError, InsufficientCapacity, RetryLater

#: Seconds between two questions to a cloud: at first, growing by a half up to the last.
FIRST_PAUSE = 0.05
LONGEST_PAUSE = 2.0
#: A cloud that is full is asked again so often, seconds.
_FULL_PAUSE = 5.0
#: Looks without the machine before it counts as not there, where listings may lag.
_LOOKS = 3
#: Launch ids fit into the narrowest cloud's token (64 characters).
_NAME_LENGTH = 40

Tell = Callable[[str], None]


class MachineTrouble(Exception):
    """A machine could not be had or ended; the text says why.

    ``gone``: it was there and is not any more. ``unreachable``: the cloud can't be asked.
    """

    def __init__(
        self, text: str, *, gone: bool = False, unreachable: bool = False, interrupted: bool = False
    ) -> None:
        self.gone = gone
        self.unreachable = unreachable
        self.interrupted = interrupted
        super().__init__(text)


@dataclass(frozen=True, kw_only=True)
class WantedMachine:
    """A machine with every reference resolved; see ``plan.MachineRequest``.

    ``user_data_for``: its user-data by launch id, where that is part of it; the same text
    for the same id, however often. It may raise MachineTrouble.
    """

    service: str
    cloud: str
    settings: dict[str, str]
    user_data: str = ""
    user_data_for: Callable[[str], str] | None = None


@dataclass
class Patience:
    """A deadline, a stop signal, and pauses between tries that grow."""

    deadline: float
    stop: Event
    _pause: float = FIRST_PAUSE

    @classmethod
    def of(cls, seconds: float, stop: Event) -> Patience:
        return cls(time.monotonic() + seconds, stop)

    def pause(self, why: str, at_least: float = 0.0) -> None:
        """Wait before the next try. Raises MachineTrouble when there is none; ``why`` then."""
        left = self.deadline - time.monotonic()
        seconds = max(self._pause, at_least)
        if left <= 0:
            raise MachineTrouble(why, unreachable=True)
        self._pause = min(self._pause * 1.5, LONGEST_PAUSE)
        if self.stop.wait(min(seconds, left)):
            raise MachineTrouble("interrupted", interrupted=True)

    def hurry(self) -> None:
        """What was waited for has come: what comes next may be quick again."""
        self._pause = FIRST_PAUSE


@dataclass(frozen=True)
class Machines:
    """The machines of one run. Safe for threads, one per service."""

    run: str
    ledger: MachineLedger
    clouds: CloudDrivers
    clock: Callable[[], float] = time.time

    def current(self, service: str) -> MachineRecord | None:
        """The newest machine of ``service`` that is not known to be gone."""
        found = [m for m in self.ledger.machines(service) if m.life is not MachineLife.GONE]
        return found[-1] if found else None

    def request(
        self, wanted: WantedMachine, patience: Patience, tell: Tell = lambda text: None
    ) -> MachineRecord:
        """Have the cloud asked for the machine, unless there is one; returns before it runs.

        What stopped being a machine is ended first. Raises MachineTrouble.
        """
        for old in self.ledger.machines(wanted.service)[:-1]:
            if old.life is not MachineLife.GONE:
                self.end(old, patience)
        machine = self.current(wanted.service)
        if machine is not None and machine.life is MachineLife.TERMINATING:
            self.end(machine, patience)
            machine = None
        if machine is None:
            launch_id = f"{wanted.service[:_NAME_LENGTH]}-{secrets.token_hex(6)}"
            now = self.clock()
            self.ledger.machine_intended(wanted.service, launch_id, wanted.cloud, now)
            machine = MachineRecord(
                launch_id=launch_id, service=wanted.service, cloud=wanted.cloud, intended_at=now
            )
        if machine.life is MachineLife.INTENDED:
            self._launch(wanted, machine, patience, tell)
        return machine

    def ensure(self, wanted: WantedMachine, patience: Patience, tell: Tell) -> MachineRecord:
        """The machine, running and listed. One that was there before and is gone is replaced.

        Raises MachineTrouble.
        """
        had = self.current(wanted.service)
        machine = self.request(wanted, patience, tell)
        patience.hurry()
        try:
            return self._running(machine, patience, tell)
        except MachineTrouble as trouble:
            if not trouble.gone:
                raise
            self.end(machine, patience)
            if had is None or had.launch_id != machine.launch_id:
                raise
            tell(f"{trouble}; launching another")
        return self._running(self.request(wanted, patience, tell), patience, tell)

    def look(self, machine: MachineRecord) -> str:
        """Ask the cloud once: empty when the machine runs, else what is the matter.

        Raises MachineTrouble when the cloud can't be asked.
        """
        try:
            found = self._listed(machine, time.monotonic())
        except EpuError as problem:
            text = f"cloud '{machine.cloud}' can't be asked: {problem}"
            raise MachineTrouble(text, unreachable=True) from None
        if found is None:
            return f"machine {machine.cloud_id or machine.launch_id} is not listed"
        if found.state is MachineState.RUNNING:
            return ""
        return f"machine {found.cloud_id} is {found.state.value}" + _why(found)

    def end(self, machine: MachineRecord, patience: Patience) -> None:
        """End ``machine`` and return when its cloud says that it is gone. Repeatable.

        A machine that was never listed is looked for as long as its listing may lag.
        Raises MachineTrouble.
        """
        if machine.life is MachineLife.GONE:
            return
        patience.hurry()
        found = self._found(machine, patience)
        if found is None and machine.cloud_id and machine.life is not MachineLife.TERMINATING:
            # It ended by itself, or blinks: the cloud is told in any case.
            self._terminate(machine, machine.cloud_id, patience)
        elif found is not None:
            self.ledger.machine_listed(
                machine.launch_id, found.cloud_id, found.addresses, self.clock()
            )
            self._terminate(machine, found.cloud_id, patience)
            self._wait_gone(machine, patience)
        self.ledger.machine_gone(machine.launch_id, self.clock())

    # ---------------------------------------------------------------- parts

    def _launch(
        self, wanted: WantedMachine, machine: MachineRecord, patience: Patience, tell: Tell
    ) -> None:
        request = LaunchRequest(
            launch_id=machine.launch_id,
            run=self.run,
            pool=wanted.service,
            count=1,
            user_data=wanted.user_data_for(machine.launch_id)
            if wanted.user_data_for
            else wanted.user_data,
            settings=wanted.settings,
        )
        what, said = f"cloud '{wanted.cloud}' launches nothing", ""
        while True:
            try:
                self.clouds.driver(wanted.cloud).launch(request)
                return
            except (InsufficientCapacity, RetryLater) as problem:
                why = f"{what}: {problem}"
                if why != said:
                    tell(why)
                    said = why
                full = isinstance(problem, InsufficientCapacity)
                patience.pause(why, _FULL_PAUSE if full else 0.0)
            except EpuError as problem:
                raise MachineTrouble(f"{what}: {problem}") from None

    def _running(self, machine: MachineRecord, patience: Patience, tell: Tell) -> MachineRecord:
        """Wait until the machine is listed as running, with its addresses on record."""
        said, seen = "", machine.life is MachineLife.LISTED
        missing_since = time.monotonic()
        looks = 0
        while True:
            found, problem = self._asked(machine)
            if found is not None:
                seen, missing_since, looks = True, time.monotonic(), 0
                self.ledger.machine_listed(
                    machine.launch_id, found.cloud_id, found.addresses, self.clock()
                )
                if found.state is MachineState.RUNNING:
                    return replace(
                        machine,
                        life=MachineLife.LISTED,
                        cloud_id=found.cloud_id,
                        addresses=tuple(found.addresses),
                    )
                if found.state is not MachineState.PENDING:
                    what = f"machine {found.cloud_id} is {found.state.value}{_why(found)}"
                    raise MachineTrouble(what, gone=True)
                text = f"machine {found.cloud_id} is being made"
            elif problem:
                text = f"cloud '{machine.cloud}' can't be asked: {problem}"
            else:
                looks += 1
                if seen and self._is_absent(machine, missing_since, looks):
                    raise MachineTrouble(f"machine {machine.launch_id} is gone", gone=True)
                text = f"machine {machine.launch_id} is not listed yet"
            if text != said and looks != 1:  # the first look is nearly always too early
                said = text
                tell(text)
            patience.pause(f"no machine in time: {text}")

    def _found(self, machine: MachineRecord, patience: Patience) -> CloudInstance | None:
        """The machine as it is listed; None once it is certain that there is none (any more)."""
        since, looks = time.monotonic(), 0
        while True:
            found, problem = self._asked(machine)
            if found is not None:
                return found
            if not problem:
                looks += 1
                if self._is_absent(machine, since, looks):
                    return None
            patience.pause(f"whether {machine.launch_id} is there can't be told: {problem}")

    def _is_absent(self, machine: MachineRecord, since: float, looks: int) -> bool:
        window = self.clouds.driver(machine.cloud).consistency_window
        if window <= 0:
            return True
        return looks >= _LOOKS and time.monotonic() - since > window

    def _terminate(self, machine: MachineRecord, cloud_id: str, patience: Patience) -> None:
        self.ledger.machine_terminating(machine.launch_id)
        while True:
            try:
                self.clouds.driver(machine.cloud).terminate([cloud_id])
                return
            except RetryLater as problem:
                patience.pause(f"machine {cloud_id} can't be ended: {problem}")
            except EpuError as problem:
                raise MachineTrouble(f"machine {cloud_id} can't be ended: {problem}") from None

    def _wait_gone(self, machine: MachineRecord, patience: Patience) -> None:
        patience.hurry()
        while True:
            found, problem = self._asked(machine)
            if not problem and (found is None or found.state is MachineState.GONE):
                return
            text = problem or f"it is {found.state.value}" if found else problem
            patience.pause(f"machine {machine.cloud_id or machine.launch_id} does not end: {text}")

    def _asked(self, machine: MachineRecord) -> tuple[CloudInstance | None, str]:
        """The machine as listed now, and why its cloud could not be asked."""
        try:
            return self._listed(machine, time.monotonic()), ""
        except RetryLater as problem:
            return None, str(problem) or "try again"
        except EpuError as problem:
            text = f"cloud '{machine.cloud}' can't be asked: {problem}"
            raise MachineTrouble(text, unreachable=True) from None

    def _listed(self, machine: MachineRecord, since: float) -> CloudInstance | None:
        """The machine in a listing that is not older than ``since``; one that lives, if any."""
        listed = [
            instance
            for instance in self.clouds.instances(machine.cloud, self.run, since)
            if instance.launch_id == machine.launch_id
        ]
        living = [one for one in listed if one.state is not MachineState.GONE]
        return next(iter(living or listed), None)


def _why(found: CloudInstance) -> str:
    return f" ({found.problem})" if found.problem else ""
