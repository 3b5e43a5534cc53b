"""The sample "broker-stress", booted for real with little load."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.messages import BrokerAccess
from agent.wire import to_wire
from bootlevels.plans.broker_stress import loader

pytestmark = pytest.mark.integration


def test_a_run_of_broker_stress_measures_the_broker_and_leaves_nothing(world: Any) -> None:
    words = ("-g", "loaders=2", "-g", "seconds=1", "-g", "messages=4000")
    code, out, err = world.epu("boot", "broker-stress", "-n", "try", *words)
    assert code == 0, err
    directory = world.run_directory("try")
    table = (directory / "summary.txt").read_text()
    assert out.startswith(table), "the table is what a person sees at the end"
    assert "try" in out.splitlines()[-1]

    found = world.attributes("try")
    for name in ("loader-0", "loader-1"):
        assert float(found[name]["published_per_second"]) > 0
        assert float(found[name]["consumed_per_second"]) > 0
        assert found[name]["connections"] == "2"
        assert (found[name]["lost"], found[name]["errors"]) == ("0", "0")
        assert 0 < int(found[name]["published"]) <= 4000
    assert found["loader-2"]["connections"] == "0", "it was not asked for"

    total = found["summary"]
    both = int(found["loader-0"]["consumed"]) + int(found["loader-1"]["consumed"])
    assert (int(total["consumed"]), total["connections"]) == (both, "4")
    rates = sum(float(found[name]["consumed_per_second"]) for name in ("loader-0", "loader-1"))
    assert 0 < float(total["consumed_per_second"]) <= rates + 0.2
    document = json.loads((directory / "summary.json").read_text())
    assert [each["loader"] for each in document["loaders"]] == ["loader-0", "loader-1"]
    assert document["total"]["consumed"] == both
    assert "loader-2" not in table

    code, out, _ = world.epu("boot", "broker-stress", "-n", "try")
    assert code == 0
    assert table in out, "a second boot shows the table again"
    assert world.attributes("try")["summary"] == total, "and loads nothing"

    assert world.processes(), "the broker runs"
    assert world.epu("terminate", "try", "-q")[0] == 0
    assert world.processes() == []


def accounts_file(directory: Path, access: BrokerAccess) -> str:
    path = directory / "accounts.json"
    path.write_text(json.dumps(to_wire(access)))
    return str(path)


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "bootout.json"
    monkeypatch.setenv("EPU_BOOTOUT", str(path))
    return path


def test_a_loader_in_mode_connect_opens_connections_and_publishes_nothing(
    broker: BrokerAccess, tmp_path: Path, told: Path
) -> None:
    accounts = accounts_file(tmp_path, broker)
    words = ["--accounts", accounts, "--mode", "connect", "--messages", "20", "--seconds", "60"]
    assert loader.main(words) == 0
    figures = json.loads(told.read_text())
    assert (figures["connections"], figures["published"], figures["errors"]) == (20, 0, 0)
    assert figures["connects_per_second"] > 0


def test_a_loader_without_a_broker_fails_and_says_why(
    broker: BrokerAccess, tmp_path: Path, told: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    accounts = accounts_file(tmp_path, replace(broker, port=1))
    assert loader.main(["--accounts", accounts, "--seconds", "1"]) == 1
    assert "refused" in capsys.readouterr().err
    assert json.loads(told.read_text())["errors"] == 2


def test_a_broker_of_somebody_else_is_never_loaded(
    broker: BrokerAccess, tmp_path: Path, told: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    accounts = accounts_file(tmp_path, replace(broker, host="192.0.2.1"))
    assert loader.main(["--accounts", accounts]) == 2
    assert "loads none but its own" in capsys.readouterr().err
    assert not told.exists()
