"""Everything that was ever launched under a run's name, and the end of what is left of it.

A run's earlier lives (it was terminated and booted again) keep their records beside it;
launches are written down before they happen, so nothing of ours is missing here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from bootlevels.api import Run
from bootlevels.boot_sequence import ENDED_STATES, ServiceState
from bootlevels.machine_record import MachineLife, MachineRecord
from bootlevels.moments import Watcher
from bootlevels.record import Record
from bootlevels.run_store import earlier_lives
from bootlevels.service_steps import StepFailed
from coordinator.clouds.socket_directories import abandoned, remove


@dataclass(frozen=True, kw_only=True)
class PastLaunch:
    """One launch of a service, or of a machine for it; times in epoch seconds.

    ``life`` is the name of the directory of the record that has it, ``state`` the record's.
    """

    life: str
    kind: str
    service: str
    identity: str
    state: str
    cloud: str = ""
    cloud_id: str = ""
    addresses: tuple[str, ...] = ()
    launched_at: float | None = None
    ended_at: float | None = None
    error: str = ""


def lives_of(run: Run) -> list[Run]:
    """The run and its earlier lives, oldest first."""
    earlier = [Run.in_directory(path, run.name, run.home) for path in earlier_lives(run.directory)]
    return [*earlier, run]


def history_of(run: Run) -> list[PastLaunch]:
    """Every service and machine ever launched under the run's name, oldest first."""
    found: list[PastLaunch] = []
    for life in lives_of(run):
        services = life.records()
        for launch in life.launches():
            record = services[launch.service]
            is_last = launch.number == record.launches
            state = record.state.value if is_last else "REPLACED"
            found.append(
                PastLaunch(
                    life=life.directory.name,
                    kind="service",
                    service=launch.service,
                    identity=f"launch {launch.number}",
                    state="ENDED" if is_last and record.state is ServiceState.NEW else state,
                    launched_at=launch.launched_at,
                    ended_at=launch.ended_at,
                    error=launch.error,
                )
            )
        found += [_machine(life, machine) for machine in life.machines()]
    return sorted(found, key=lambda each: each.launched_at or 0.0)


def _machine(life: Run, machine: MachineRecord) -> PastLaunch:
    return PastLaunch(
        life=life.directory.name,
        kind="machine",
        service=machine.service,
        identity=machine.launch_id,
        state=machine.life.value,
        cloud=machine.cloud,
        cloud_id=machine.cloud_id,
        addresses=machine.addresses,
        launched_at=machine.intended_at,
        ended_at=machine.gone_at,
    )


@dataclass(frozen=True, kw_only=True)
class Ended:
    """What was ended: ``what`` names it, ``problem`` is empty when it is gone."""

    what: str
    problem: str = ""


def kill_machines(run: Run, stop: Event | None = None) -> list[Ended]:
    """End every machine that was ever launched under the run's name.

    Raises RunIsBusy, RecordProblem.
    """
    return [each for life in lives_of(run) for each in _end(life, lambda *_: True, stop)]


def clean(run: Run, watch: Watcher | None = None, stop: Event | None = None) -> list[Ended]:
    """End and remove what no service of the run stands on any more.

    Machines of earlier lives, of launches that were replaced or that no service came to
    use, programs and unfinished files of commands that were killed. What the run's services
    stand on stays. Raises Interrupted, RunIsBusy, RecordProblem.
    """
    ended: list[Ended] = []
    for life in lives_of(run):
        if life is run:
            ended += _unused_requests(run, watch, stop)
        ended += list(_end(life, _is_orphan if life is run else lambda *_: True, stop))
        ended += _leftover_files(life.directory)
    return ended


def _is_orphan(kept: Record, machine: MachineRecord) -> bool:
    record = kept.services().get(machine.service)
    if record is None or record.state in ENDED_STATES:
        return True
    newest = kept.machines(machine.service)[-1]
    return machine.launch_id != newest.launch_id


def _end(
    life: Run, concerned: Callable[[Record, MachineRecord], bool], stop: Event | None
) -> Iterator[Ended]:
    with life.writing("epu clean", None, stop) as runner:
        runner.end_leftovers()
        steps = runner.life.steps
        for machine in runner.life.record.machines():
            if machine.life is MachineLife.GONE or not concerned(runner.life.record, machine):
                continue
            what = f"machine {machine.cloud_id or machine.launch_id} of {machine.service}"
            try:
                steps.kill(machine, runner.life.stop)
            except StepFailed as problem:
                yield Ended(what=what, problem=str(problem))
            else:
                yield Ended(what=what)


def _unused_requests(run: Run, watch: Watcher | None, stop: Event | None) -> list[Ended]:
    """Services whose machines were asked for early and never came to be used."""
    states = run.records()
    names = frozenset(n for n, r in states.items() if r.state is ServiceState.REQUESTED)
    if not names:
        return []
    with run.writing("epu clean", watch, stop) as runner:
        outcome = runner.remove(names)
    failed = {failure.service: failure.text for failure in outcome.failures}
    return [Ended(what=f"early machine of {n}", problem=failed.get(n, "")) for n in sorted(names)]


def remove_abandoned_sockets(now: float) -> list[Ended]:
    """Empty places of sockets, of whatever run's machines died here unasked. ``now``: epoch s."""
    found = []
    for path in abandoned(now):
        with suppress(OSError):
            remove(path)
            found.append(path.name)
    return [Ended(what=f"{len(found)} abandoned socket directories")] if found else []


def _leftover_files(directory: Path) -> list[Ended]:
    found = []
    for path in (*directory.glob("*.db.new"), *directory.glob(".*.tmp")):
        with suppress(OSError):
            path.unlink()
            found.append(Ended(what=f"unfinished file {path.name}"))
    return found
