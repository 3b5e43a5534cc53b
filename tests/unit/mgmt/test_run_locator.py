"""Which system a command means."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from agent.messages import BrokerAccess, BrokerAccount
from agent.wire import to_wire
from bootlevels.plan import BootLevel, LaunchPlan, ServiceKind, ServiceSpec
from bootlevels.record import Record
from coordinator.errors import ConfigProblem
from mgmt.broker_files import write_private
from mgmt.exit_codes import NoSuchRun
from mgmt.run_locator import NoCoordinator, locate


def booted(
    home: Path,
    name: str,
    *,
    coordinator: bool = True,
    ended: bool = False,
    accounts: str = "broker/accounts.json",
) -> Path:
    """A run in ``home`` whose broker was at a port that is closed now."""
    directory = home / "runs" / name
    directory.mkdir(parents=True, mode=0o700)
    attributes = {"accounts": accounts, "state_dir": "coordinator"}
    keeper = ServiceSpec(
        name="provisioner",
        kind=ServiceKind.ATTRIBUTES,
        attributes=attributes if coordinator else {},
        provides=("registrar",),
    )
    plan = LaunchPlan(name="p", levels=(BootLevel(number=1, services=(keeper,)),))
    record = Record.create(directory, name, plan, {}, 100.0)
    if ended:
        record.mark_terminated(200.0)
    record.close()
    access = BrokerAccess(
        host="127.0.0.1",
        port=1,
        vhost=name,
        accounts={"coordinator": BrokerAccount(user="coordinator", password="p/w")},
    )
    (directory / "broker").mkdir()
    write_private(directory / "broker" / "accounts.json", json.dumps(to_wire(access)))
    return directory


def test_the_only_living_run_is_meant(tmp_path):
    booted(tmp_path, "old", ended=True)
    directory = booted(tmp_path, "new")
    system = locate(None, None, tmp_path)
    assert system.run == "new"
    assert system.accounts == directory / "broker" / "accounts.json"
    assert system.state_dir == directory / "coordinator"
    assert system.amqp_url() == "amqp://coordinator:p%2Fw@127.0.0.1:1/new"


def test_a_run_that_was_copied_to_another_machine_has_its_accounts_beside_its_record(tmp_path):
    there = "/another/machine/runs/vms/broker/accounts.json"
    directory = booted(tmp_path, "vms", accounts=there)
    assert locate("vms", None, tmp_path).accounts == directory / "broker" / "accounts.json"


def test_of_several_living_runs_one_must_be_chosen(tmp_path):
    booted(tmp_path, "one")
    booted(tmp_path, "two")
    with pytest.raises(NoSuchRun, match="one, two.*--run"):
        locate(None, None, tmp_path)
    assert locate("two", None, tmp_path).run == "two"


def test_without_a_living_run_the_message_says_how_to_make_one(tmp_path):
    booted(tmp_path, "old", ended=True)
    with pytest.raises(NoSuchRun, match="epu boot"):
        locate(None, None, tmp_path)


def test_an_unknown_run_gets_the_nearest_name(tmp_path):
    booted(tmp_path, "demo")
    with pytest.raises(NoSuchRun, match="did you mean 'demo'"):
        locate("demos", None, tmp_path)


def test_an_ended_run_is_not_asked(tmp_path):
    booted(tmp_path, "old", ended=True)
    with pytest.raises(NoSuchRun, match="terminated"):
        locate("old", None, tmp_path)


def test_a_run_whose_coordinator_is_not_booted_cannot_be_asked(tmp_path):
    booted(tmp_path, "half", coordinator=False)
    with pytest.raises(NoCoordinator, match="epu status half"):
        locate("half", None, tmp_path)


def test_a_run_whose_accounts_are_gone_cannot_be_asked(tmp_path):
    directory = booted(tmp_path, "demo")
    (directory / "broker" / "accounts.json").unlink()
    with pytest.raises(NoCoordinator, match="accounts.json"):
        locate("demo", None, tmp_path).amqp_url()


def test_a_system_without_a_plan_is_found_by_its_accounts(tmp_path):
    directory = booted(tmp_path, "demo")
    system = locate(None, str(directory / "broker" / "accounts.json"), tmp_path)
    assert system.run == "demo"
    with pytest.raises(ConfigProblem, match="nowhere.json"):
        locate(None, str(tmp_path / "nowhere.json"), tmp_path)


def test_a_record_that_cannot_be_read_does_not_hide_the_living_run(tmp_path):
    booted(tmp_path, "demo")
    broken = tmp_path / "runs" / "broken"
    broken.mkdir()
    (broken / "run.db").write_bytes(b"no database")
    assert locate(None, None, tmp_path).run == "demo"


def test_a_system_is_found_without_its_record_until_the_record_changes(tmp_path, monkeypatch):
    booted(tmp_path, "old", ended=True)
    directory = booted(tmp_path, "new")
    first = locate(None, None, tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr("mgmt.run_locator.open_run", lambda *_: pytest.fail("it was opened"))
        assert locate(None, None, tmp_path) == locate("new", None, tmp_path) == first
    assert "p/w" not in (directory / "located.json").read_text()
    record = Record(directory, writable=True)
    record.mark_terminated(300.0)
    record.close()
    for run in (None, "new"):
        with pytest.raises(NoSuchRun):
            locate(run, None, tmp_path)


def test_a_copy_of_the_record_leads_to_what_was_copied_with_it(tmp_path):
    home, away = tmp_path / "home", tmp_path / "away"
    accounts = home / "runs" / "demo" / "broker" / "accounts.json"
    booted(home, "demo", accounts=str(accounts))
    assert locate("demo", None, home).accounts == accounts
    shutil.copytree(home, away, copy_function=shutil.copy2)
    shutil.rmtree(home)
    copied = locate("demo", None, away)
    assert copied.accounts == away / "runs" / "demo" / "broker" / "accounts.json"
    assert copied.amqp_url().endswith("/demo")
