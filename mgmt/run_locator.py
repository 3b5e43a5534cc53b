"""Finding a running system: by a run's record, an accounts file, or its broker's address.

The convention: the service that provides the registrar, else the one called
``provisioner``, has the attributes ``accounts`` (the broker's accounts.json) and
``state_dir`` (the coordinator's directory).
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from bootlevels.run_home import RUN_NAME, epu_home, run_names
from coordinator.config import read_access
from coordinator.errors import ConfigProblem, EpuError, NotFound
from mgmt.broker_address import ACCOUNT
from mgmt.exit_codes import ExitCode, NoSuchRun
from mgmt.located import Located, note, recall, stamp

if TYPE_CHECKING:
    from agent.messages import BrokerAccess
    from bootlevels.api import Run


class NoCoordinator(EpuError):
    """The run is there, but nothing in it that could be asked."""

    exit_code = ExitCode.UNREACHABLE


@dataclass(frozen=True)
class RunningSystem:
    """A system to talk to. ``state_dir`` is known for booted runs only.

    Its broker's accounts are in the file ``accounts``, or ``given`` where there is none.
    """

    run: str
    accounts: Path | None
    state_dir: Path | None = None
    given: BrokerAccess | None = field(default=None, repr=False)

    def access(self) -> BrokerAccess:
        """The broker's address and accounts. Raises NoCoordinator."""
        if self.given is not None:
            return self.given
        if self.accounts is None:
            raise NoCoordinator(f"run '{self.run}' can't be asked: where its broker is, is unknown")
        try:
            return read_access(self.accounts)
        except ConfigProblem as problem:
            raise NoCoordinator(f"run '{self.run}' can't be asked: {problem}") from None

    def amqp_url(self) -> str:
        """The broker's URL, password included: never to be shown. Raises NoCoordinator."""
        try:
            return self.access().amqp_url(ACCOUNT)
        except KeyError:
            raise NoCoordinator(f"{self.accounts} has no account '{ACCOUNT}'") from None


def locate(run: str | None, accounts: str | None, home: Path | None = None) -> RunningSystem:
    """The system that is meant by a command's ``--run`` and ``--accounts``.

    Raises NoSuchRun, NoCoordinator, ConfigProblem (an unreadable ``--accounts``).
    """
    if accounts:
        path = Path(accounts).absolute()
        return RunningSystem(run=run or read_access(path).vhost, accounts=path)
    home = home or epu_home()
    return _recalled(run, home) or _opened(run, home)


def _recalled(run: str | None, home: Path) -> RunningSystem | None:
    """From notes alone, where there is one of each run that could be meant."""
    living = []
    for name in [run] if run and RUN_NAME.match(run) else run_names(home):
        found = recall(home / "runs" / name)
        if found is None:
            return None
        if not found.ended and found.accounts is not None:
            living.append(RunningSystem(name, found.accounts, found.state_dir))
        elif not found.ended:
            return None
    return living[0] if len(living) == 1 and run in (None, living[0].run) else None


def _opened(run: str | None, home: Path) -> RunningSystem:
    """From the records, each of which is noted."""
    stamped = {name: stamp(home / "runs" / name) for name in run_names(home)}
    meant = open_run(run, home) if run else only_living_run(home)
    system = system_of(meant)
    note(meant.directory, Located(False, system.accounts, system.state_dir), stamped[meant.name])
    for name, before in stamped.items():
        directory = home / "runs" / name
        if run is None and name != meant.name and recall(directory) is None:
            with suppress(EpuError):  # a record that can't be read has no note
                if open_run(name, home).info.terminated_at is not None:
                    note(directory, Located(True), before)
    return system


def open_run(name: str, home: Path | None = None) -> Run:
    """The run called ``name``, ended or not. Raises NoSuchRun with the nearest name."""
    from bootlevels.api import Run

    try:
        return Run.open(name, home)
    except NotFound as problem:
        raise NoSuchRun(str(problem)) from None


def only_living_run(home: Path | None = None) -> Run:
    """The one run that is not ended. Raises NoSuchRun when there is none or a choice."""
    from bootlevels.record import RecordProblem

    home = home or epu_home()
    living = []
    for name in run_names(home):
        try:
            run = open_run(name, home)
        except RecordProblem:
            continue  # a record that can't be read must not hide the others; `epu list` says
        if run.info.terminated_at is None:
            living.append(run)
    if len(living) == 1:
        return living[0]
    if not living:
        raise NoSuchRun(f"no run lives in {home} ('epu boot sleeper' makes one)")
    names = ", ".join(run.name for run in living)
    raise NoSuchRun(f"several runs live: {names} (choose with --run or EPU_RUN)")


def system_of(run: Run) -> RunningSystem:
    """The coordinator of a run. Raises NoSuchRun for an ended run, NoCoordinator."""
    if run.info.terminated_at is not None:
        raise NoSuchRun(f"run '{run.name}' is terminated")
    attributes = coordinator_attributes(run)
    if attributes is None:
        raise NoCoordinator(f"the plan of run '{run.name}' has no coordinator")
    if not attributes.get("accounts"):
        raise NoCoordinator(
            f"the coordinator of run '{run.name}' is not booted (see: epu status {run.name})"
        )
    return RunningSystem(
        run=run.name,
        accounts=_accounts_of(run, attributes["accounts"]),
        state_dir=state_dir_of(run),
    )


def _accounts_of(run: Run, told: str) -> Path:
    """The broker's accounts, also where a run's directory was copied to another machine."""
    path = _here(run, told)
    copied = run.directory / "broker" / path.name
    return copied if not path.exists() and copied.exists() else path


def coordinator_attributes(run: Run) -> dict[str, str] | None:
    """Attributes of the coordinator's service, by convention; None when there is none."""
    service = run.plan.registrar()
    name = service.name if service is not None else "provisioner"
    try:
        return run.attributes(name)
    except NotFound:
        return None


def _here(run: Run, text: str) -> Path:
    """A path out of the record; in a copy of the record, what was copied with it."""
    path = run.directory / text
    _, within, tail = text.rpartition(f"/runs/{run.name}/")
    moved = run.directory / tail
    return moved if within and not path.exists() and moved.exists() else path


def state_dir_of(run: Run) -> Path | None:
    """The directory of the run's coordinator; None when none was ever started.

    A boot that was killed before it could note its outputs leaves only the directory.
    """
    given = (coordinator_attributes(run) or {}).get("state_dir")
    if given:
        return _here(run, given)
    usual = run.directory / "coordinator"
    return usual if (usual / "config.yaml").exists() else None
