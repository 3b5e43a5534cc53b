"""What the agent is told at birth, and how wrong files are named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agent.config import AgentConfig, ConfigError, read_config, supervisor_socket

GOOD: dict[str, Any] = {
    "version": 1,
    "run": "run1",
    "pool": "workers",
    "launch_id": "l1",
    "token": "very-secret-token",
    "broker": {
        "host": "127.0.0.1",
        "port": 5672,
        "vhost": "epu",
        "accounts": {"enrol": {"user": "enrol", "password": "very-secret-password"}},
    },
}


def read(tmp_path: Path, told: Any = GOOD, machine: Any = None) -> AgentConfig:
    user_data, instance_data = tmp_path / "user-data", tmp_path / "instance-data.json"
    user_data.write_text(told if isinstance(told, str) else json.dumps(told))
    machine = {"launch_index": 3} if machine is None else machine
    instance_data.write_text(json.dumps(machine))
    return read_config(user_data, instance_data, tmp_path)


def test_the_node_id_is_the_launch_id_and_the_index(tmp_path: Path) -> None:
    config = read(tmp_path)
    assert config.node_id == "l1-3"
    assert config.supervisor_socket == tmp_path / "supervisor.sock"
    assert config.broker.accounts["enrol"].user == "enrol"


def test_fields_of_a_newer_coordinator_are_ignored(tmp_path: Path) -> None:
    assert read(tmp_path, {**GOOD, "colour": "blue"}, {"launch_index": 0, "x": []}).index == 0


@pytest.mark.parametrize(
    ("environment", "place"),
    [
        ({}, "/n/supervisor.sock"),
        ({"SUPERVISOR_SERVER_URL": "http://localhost:9001"}, "/n/supervisor.sock"),
        ({"SUPERVISOR_SERVER_URL": "unix:///run/deep.sock"}, "/run/deep.sock"),
        (
            {"SUPERVISOR_SERVER_URL": "unix:///x", "EPU_SUPERVISOR_SOCKET": "/run/s.sock"},
            "/run/s.sock",
        ),
    ],
)
def test_the_socket_may_be_elsewhere(environment: dict[str, str], place: str) -> None:
    assert supervisor_socket(environment, Path("/n")) == Path(place)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"version": 2}, "version 2 is newer"),
        ({"token": ""}, "token must not be empty"),
        ({"launch_id": 7}, "launch_id"),
        ({"broker": {}}, "host"),
        ({"broker": {**GOOD["broker"], "accounts": {}}}, "must hold the account 'enrol'"),
    ],
)
def test_a_wrong_key_is_named_in_one_line(
    tmp_path: Path, change: dict[str, Any], says: str
) -> None:
    with pytest.raises(ConfigError, match=says) as problem:
        read(tmp_path, {**GOOD, **change})
    assert "\n" not in str(problem.value)
    assert str(tmp_path / "user-data") in str(problem.value)


@pytest.mark.parametrize("machine", [{}, {"launch_index": -1}, {"launch_index": "0"}, []])
def test_a_wrong_launch_index_is_refused(tmp_path: Path, machine: Any) -> None:
    with pytest.raises(ConfigError, match=r"instance-data\.json"):
        read(tmp_path, GOOD, machine)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nothing can't be read: No such file"):
        read_config(tmp_path / "nothing", tmp_path / "x", tmp_path)


def test_what_is_not_json_is_said_without_its_text(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not JSON") as problem:
        read(tmp_path, "token: very-secret-token")
    assert "very-secret" not in str(problem.value)


def test_no_secret_is_in_the_repr(tmp_path: Path) -> None:
    assert "very-secret" not in repr(read(tmp_path))
