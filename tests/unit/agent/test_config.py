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


def test_a_machine_with_a_pools_token_does_not_know_its_index(tmp_path: Path) -> None:
    told = {**GOOD, "launch_id": "web-a1", "token": "pool.web.1.99.aa"}
    config = read(tmp_path, told, {"launch_index": 3, "cloud_id": "i-7"})
    assert config.adopted and config.cloud_id == "i-7"
    assert config.is_mine("web-a1-0") and config.is_mine("web-a1-12")
    assert not any(map(config.is_mine, ("web-a1-", "web-a2-0", "web-a1-x", "l1-3")))
    (tmp_path / "instance-data.json").unlink()
    alone = read_config(tmp_path / "user-data", tmp_path / "instance-data.json", tmp_path)
    assert alone.adopted and alone.cloud_id == "" and alone.node_id != config.node_id


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


#: As cloud-init 22.4 writes it (shortened); EC2's datasource, and a NoCloud seed of ours.
EC2_DATA: dict[str, Any] = {
    "base64_encoded_keys": [],
    "merged_cfg": "redacted for non-root user",
    "ds": {
        "_doc": "EXPERIMENTAL: The structure and format of content scoped under the 'ds' key",
        "meta_data": {
            "ami-id": "ami-1",
            "ami-launch-index": "3",
            "instance-id": "i-0123",
            "public-keys": None,
        },
    },
    "v1": {"instance_id": "i-0123", "instance-id": "i-0123", "cloud_name": "aws"},
}
SEED_DATA: dict[str, Any] = {
    "ds": {"meta_data": {"ami-launch-index": 3, "dsmode": "net", "instance-id": "i-0123"}},
    "v1": {"instance_id": "i-0123"},
}


@pytest.mark.parametrize(
    "machine",
    [
        EC2_DATA,
        SEED_DATA,
        {"ds": {"meta_data": {"ami_launch_index": 3, "instance-id": "i-0123"}}, "v1": {}},
        {"ds": {"meta_data": {"launch_index": 3}}, "v1": {"instance-id": "i-0123"}},
    ],
)
def test_cloud_inits_own_instance_data_say_who_the_machine_is(tmp_path: Path, machine: Any) -> None:
    config = read(tmp_path, GOOD, machine)
    assert (config.index, config.cloud_id) == (3, "i-0123")


def test_a_launch_of_several_calls_says_from_where_to_count(tmp_path: Path) -> None:
    tags = {"tags": {"instance": {"epu:index-base": "20"}}}
    meta_data = {**EC2_DATA["ds"]["meta_data"], **tags}
    assert read(tmp_path, GOOD, {**EC2_DATA, "ds": {"meta_data": meta_data}}).index == 23


def test_what_cloud_init_keeps_from_others_root_reads_beside_it(tmp_path: Path) -> None:
    (tmp_path / "instance-data-sensitive.json").write_text(json.dumps(EC2_DATA))
    redacted = {"ds": {"meta_data": "redacted for non-root user"}, "v1": {"instance_id": "i-0123"}}
    assert read(tmp_path, GOOD, redacted).index == 3


@pytest.mark.parametrize(
    "machine",
    [
        {"v1": {}},
        {"ds": None, "v1": None},
        {"ds": {"meta_data": {"ami-launch-index": None}}},
        {"ds": {"meta_data": ["ami-launch-index"]}},
    ],
)
def test_a_cloud_that_does_not_say_which_machine_it_is_is_an_error_that_says_so(
    tmp_path: Path, machine: Any
) -> None:
    with pytest.raises(ConfigError, match=r"instance-data\.json: ds.meta_data has no ami-launch"):
        read(tmp_path, GOOD, machine)


def test_the_only_machine_of_a_launch_need_not_be_told_by_its_cloud(tmp_path: Path) -> None:
    alone = {**GOOD, "launch_index": 0}
    says_nothing = {"ds": {"meta_data": {"instance-id": "i-9"}}, "v1": {}}
    config = read(tmp_path, alone, says_nothing)
    assert (config.node_id, config.cloud_id) == ("l1-0", "i-9")
    assert read(tmp_path, alone, EC2_DATA).index == 3, "what the cloud says goes before"


@pytest.mark.parametrize("index", ["x", True, 1.5, [0], -1])
def test_an_index_that_is_no_number_is_refused(tmp_path: Path, index: Any) -> None:
    with pytest.raises(ConfigError, match="index"):
        read(tmp_path, GOOD, {"ds": {"meta_data": {"ami-launch-index": index}}})


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nothing can't be read: No such file"):
        read_config(tmp_path / "nothing", tmp_path / "x", tmp_path)


def test_what_is_not_json_is_said_without_its_text(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not JSON") as problem:
        read(tmp_path, "token: very-secret-token")
    assert "very-secret" not in str(problem.value)


def test_no_secret_is_in_the_repr(tmp_path: Path) -> None:
    assert "very-secret" not in repr(read(tmp_path))
