"""Where a run's record comes from: new, gone on with, or begun anew beside the old one."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bootlevels.attributes import declared_texts
from bootlevels.boot_sequence import changed_services, is_stopping
from bootlevels.exits import EXIT_WORKERS_REMAIN
from bootlevels.plan import LaunchPlan
from bootlevels.record import Record, RecordProblem
from bootlevels.run_home import RECORD_NAME
from bootlevels.run_lock import writer_lock
from bootlevels.run_secrets import SECRETS_NAME, forget_secrets, has_references
from coordinator.errors import ConfigProblem, EpuError, Problem

#: A file in the run's directory: its levels were ended with the workers left running.
WORKERS_LEFT = "workers-left"


class WorkersRemain(EpuError):
    """The run's pools have workers, or nobody could say that they have none."""

    exit_code = EXIT_WORKERS_REMAIN


class RunIsTerminating(EpuError):
    """A termination has begun; the run can't be booted before it is through."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A plan with what was given for it: globals, and drivers of its clouds."""

    plan: LaunchPlan
    given: Mapping[str, str] = field(default_factory=dict)
    remapped: Mapping[str, str] = field(default_factory=dict)


def store_run(directory: Path, wanted: Wanted) -> None:
    """A record in ``directory`` for ``wanted``, or the unfinished one with the plan in it.

    Raises RunIsTerminating, WorkersRemain (an ended run of that name left some running),
    ConfigProblem (it stands by another plan), RunIsBusy, RecordProblem.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with writer_lock(directory, "epu boot"):
            _store(directory, wanted)
    except OSError as error:
        remedy = "EPU_HOME says where runs are kept"
        raise RecordProblem(f"{directory} can't be used: {error.strerror} ({remedy})") from None


def workers_left(directory: Path) -> bool:
    """Whether the run's levels were ended while its workers were told to go on."""
    return (directory / WORKERS_LEFT).exists()


def note_workers_left(directory: Path, left: bool) -> None:
    """Remember, or forget, that workers of an ended run still live: machines cost money."""
    note = directory / WORKERS_LEFT
    if left:
        note.touch(mode=0o600)
    else:
        note.unlink(missing_ok=True)


def must_have_secrets(directory: Path, plan: LaunchPlan) -> None:
    """Raise RecordProblem when secrets of the stored plan are not at hand."""
    if any(has_references(text) for _, text in declared_texts(plan)):
        raise RecordProblem(
            f"the secrets of run '{directory.name}' are not in {directory / SECRETS_NAME}: "
            f"'epu boot -n {directory.name} PLAN', with the plan's file, stores them again"
        )


def begin_anew(directory: Path) -> None:
    """Move an ended run aside and make a new record for the same plan.

    A record that is not ended stays: it is the new one, of a command that was killed.
    """
    with writer_lock(directory, "epu reboot"):
        record = Record(directory)
        run = record.run()
        record.close()
        if run.terminated_at is not None:
            must_have_secrets(directory, run.plan)
            wanted = Wanted(plan=run.plan, given=run.given, remapped=run.remapped)
            _store(directory, wanted)


def _store(directory: Path, wanted: Wanted) -> None:
    name = directory.name
    if not (directory / RECORD_NAME).is_file():
        _create(directory, wanted)
        return
    record = Record(directory, writable=True)
    try:
        old, states = record.run(), record.states()
        if old.terminated_at is not None:
            if workers_left(directory):
                raise WorkersRemain(
                    f"run '{name}' was terminated with its workers left running: "
                    f"'epu teardown {name}' ends them; -n boots a run of another name"
                )
            _move_aside(directory)
            directory.mkdir(mode=0o700)
            _create(directory, wanted)
            return
        if is_stopping(states):
            raise RunIsTerminating(
                f"run '{name}' is half terminated: finish with 'epu terminate {name}'"
            )
        changed = changed_services(old.plan, record.as_stored(wanted.plan), states)
        if changed:
            what = "was booted by another plan than this"
            remedy = f"'epu reload' goes over to it; -n boots a run of another name than '{name}'"
            problems = [Problem(key=f"services.{s}", what=what, remedy=remedy) for s in changed]
            raise ConfigProblem(problems)
        record.store_plan(wanted.plan, wanted.given, wanted.remapped)
    finally:
        record.close()


def _create(directory: Path, wanted: Wanted) -> None:
    Record.create(
        directory, directory.name, wanted.plan, wanted.given, time.time(), wanted.remapped
    ).close()


def _move_aside(directory: Path) -> None:
    """Keep the ended run's directory as ``<run>.<n>``: a name that no run can have."""
    number = 1
    while (old := directory.with_name(f"{directory.name}.{number}")).exists():
        number += 1
    forget_secrets(directory)  # whoever moves it aside has the plan in hand
    directory.rename(old)


def earlier_lives(directory: Path) -> list[Path]:
    """Directories of the earlier runs of the same name, oldest first."""
    found: list[tuple[int, Path]] = []
    for path in directory.parent.glob(f"{directory.name}.*"):
        number = path.name.removeprefix(f"{directory.name}.")
        if number.isdecimal() and (path / RECORD_NAME).is_file():
            found.append((int(number), path))
    return [path for _, path in sorted(found)]
