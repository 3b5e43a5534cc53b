"""A teardown put together from a real record, real drivers and no coordinator."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from bootlevels.plan import BootLevel, LaunchPlan, Program, ServiceKind, ServiceSpec
from bootlevels.record import Record
from coordinator.clouds.base import MachineState
from mgmt.cli import epu
from mgmt.exit_codes import ExitCode
from mgmt.run_clouds import list_run, worker_clouds
from mgmt.teardown_record import Step, TeardownRecord

PLUGIN = '''
from types import SimpleNamespace


class Cloud:
    """Lists what its setting says, or fails in the way it says."""

    consistency_window = 0.0

    def __init__(self, settings):
        self.settings = settings

    @classmethod
    def from_settings(cls, settings, state_dir):
        return cls(settings)

    def list_instances(self, run, launch_ids=None):
        if "fails" in self.settings:
            raise OSError(self.settings["fails"])
        from coordinator.clouds.base import MachineState
        return [
            SimpleNamespace(
                cloud_id="m-" + name, pool="p", launch_id=name, index=0, run=run,
                state=MachineState[state],
            )
            for name, state in self.settings.items()
        ]
'''


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Import path of a driver that is a plugin of somebody else."""
    (tmp_path / "somebodys_cloud.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(str(tmp_path))
    return "somebodys_cloud:Cloud"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EPU_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def booted(
    home: Path, clouds: dict[str, dict[str, str]] | None, end: str = "true", elsewhere: str = ""
) -> Path:
    """A run ``demo``: a service that is ended by the program ``end``, and a coordinator.

    ``clouds`` None: the coordinator was never started here; ``elsewhere``: the accounts file
    of one on another machine.
    """
    directory = home / "runs" / "demo"
    directory.mkdir(parents=True, mode=0o700)
    base = ServiceSpec(
        name="base",
        kind=ServiceKind.LOCAL,
        terminate=Program(words=(end,), timeout=10.0),
    )
    keeper = ServiceSpec(
        name="provisioner",
        kind=ServiceKind.ATTRIBUTES,
        attributes={
            **({"state_dir": "coordinator"} if clouds is not None else {}),
            **({"accounts": elsewhere} if elsewhere else {}),
        },
        provides=("registrar",),
    )
    levels = (BootLevel(number=1, services=(base,)), BootLevel(number=2, services=(keeper,)))
    record = Record.create(directory, "demo", LaunchPlan(name="p", levels=levels), {}, 100.0)
    for name in ("base", "provisioner"):
        record.launched(name, 101.0)
        record.booted(name, {}, 102.0)
        record.verified(name, 103.0)
    record.close()
    if clouds is not None:
        (directory / "coordinator").mkdir()
        config = yaml.safe_dump({"epu": {"clouds": clouds}})
        (directory / "coordinator" / "config.yaml").write_text(config)
    return directory


def teardown(*words: str):
    return CliRunner().invoke(epu, ["teardown", "demo", *words], prog_name="epu")


def test_a_run_without_workers_goes_down_and_leaves_a_receipt(home):
    directory = booted(home, {"here": {"driver": "process"}})
    result = teardown()
    assert result.exit_code == ExitCode.WELL, result.stderr
    assert "is left     nothing" in result.stdout
    receipt = json.loads((directory / "receipt.json").read_text())
    assert receipt["before"] == {"services": ["base", "provisioner"], "workers": []}
    again = teardown("--json")
    assert again.exit_code == ExitCode.WELL
    assert json.loads(again.stdout)["left"] == {"services": [], "workers": []}
    assert "nothing left" in teardown().stdout


def test_listed_workers_without_a_provisioner_are_exit_4_and_the_base_stands(home, driver):
    booted(home, {"west": {"driver": driver, "l": "RUNNING", "gone": "GONE"}})
    result = teardown()
    assert result.exit_code == ExitCode.WORKERS_REMAIN
    assert "l-0 (west: m-l)" in result.stderr
    assert "gone-0" not in result.stderr
    assert "services, to be ended: provisioner, base" in teardown("--dry-run").stdout


def test_a_cloud_that_fails_in_any_way_is_exit_4(home, driver):
    booted(home, {"here": {"driver": "process"}, "west": {"driver": driver, "fails": "no route"}})
    result = teardown()
    assert result.exit_code == ExitCode.WORKERS_REMAIN
    assert "cloud west can't be listed: OSError: no route" in result.stderr


@pytest.fixture
def silent(tmp_path: Path) -> str:
    """The accounts file of a broker that is not there."""
    accounts = tmp_path / "accounts.json"
    nobody = {"user": "u", "password": "p"}
    accounts.write_text(
        json.dumps({"host": "127.0.0.1", "port": 1, "vhost": "v",
                    "accounts": {"coordinator": nobody, "enrol": nobody}})
    )  # fmt: skip
    return str(accounts)


def test_a_silent_coordinator_on_another_machine_is_never_nothing_left(home, silent):
    """Only there it is known which clouds its workers are in."""
    directory = booted(home, None, elsewhere=silent)
    result = teardown()
    assert result.exit_code == ExitCode.WORKERS_REMAIN, result.stderr
    assert "machine of its own and does not answer" in result.stderr
    assert not (directory / "receipt.json").exists()
    assert "services, to be ended: provisioner, base" in teardown("--dry-run").stdout


@pytest.mark.parametrize(
    ("began", "expected"), [(50.0, ExitCode.WORKERS_REMAIN), (200.0, ExitCode.WELL)]
)
def test_what_a_provisioner_said_before_the_levels_ended_holds_until_a_boot(
    home, silent, began, expected
):
    """The services were booted at 102: a teardown of before saw another provisioner's workers."""
    directory = booted(home, None, elsewhere=silent)
    kept = TeardownRecord(run="demo", started_at=began).began(Step.END_LEVELS, began)
    (directory / "teardown.json").write_text(json.dumps(asdict(kept)))
    assert teardown().exit_code == expected


def test_clouds_that_nobody_can_name_any_more_are_exit_4(home):
    directory = booted(home, {})
    (directory / "coordinator" / "config.yaml").unlink()
    result = teardown()
    assert result.exit_code == ExitCode.WORKERS_REMAIN
    assert "config.yaml" in result.stderr


def test_a_coordinator_that_was_never_started_has_no_workers(home):
    booted(home, None)
    assert teardown().exit_code == ExitCode.WELL


def test_a_service_that_cannot_be_ended_is_exit_1_and_named(home):
    booted(home, None, end="false")
    result = teardown()
    assert result.exit_code == ExitCode.PROBLEM
    assert "base" in result.stderr.splitlines()[-1]


def test_leaving_workers_is_said_in_the_receipt(home, driver):
    booted(home, {"west": {"driver": driver, "l": "RUNNING"}})
    result = teardown("--leave-workers")
    assert result.exit_code == ExitCode.WELL, result.stderr
    assert "1 worker (l-0) (left on purpose)" in result.stdout


def test_a_machine_is_listed_with_its_cloud_and_node(tmp_path, driver):
    listing = list_run(
        {"west": {"driver": driver, "l": MachineState.STOPPING.value}}, "demo", tmp_path
    )
    assert [str(machine) for machine in listing.machines] == ["l-0 (west: m-l)"]
    assert not listing.proves_none


def test_an_unknown_driver_is_a_problem_and_not_an_empty_cloud(tmp_path):
    listing = list_run({"west": {"driver": "ec3"}}, "demo", tmp_path)
    assert "unknown cloud 'ec3'" in listing.problems["west"]


def test_without_a_configuration_the_clouds_are_unknown(tmp_path):
    assert worker_clouds(tmp_path) is None
