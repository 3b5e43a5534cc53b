"""Finding RabbitMQ's start script, and what a node is started with."""

from __future__ import annotations

from pathlib import Path

import pytest

from mgmt.broker_files import BrokerFiles, NodeIdentity, Ports
from mgmt.broker_launch import config_text, node_environment, server_script

IDENTITY = NodeIdentity(name="epu-1@localhost", mark="m-1", vhost="epu", ports=Ports(1, 2, 3))


def _program(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def test_debians_wrapper_is_passed_by(tmp_path: Path) -> None:
    real = _program(tmp_path / "lib/bin/rabbitmq-server")
    wrapper = _program(tmp_path / "lib/bin/rabbitmq-script-wrapper")
    (tmp_path / "sbin").mkdir()
    (tmp_path / "sbin/rabbitmq-server").symlink_to(wrapper)
    assert server_script(search=str(tmp_path / "sbin")) == real


def test_a_script_without_wrapper_is_used_as_it_is(tmp_path: Path) -> None:
    real = _program(tmp_path / "sbin/rabbitmq-server")
    assert server_script(search=str(tmp_path / "sbin")) == real


def test_a_script_can_be_named_and_nothing_else_is_then_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = _program(tmp_path / "rabbitmq-server")
    monkeypatch.setenv("EPU_RABBITMQ_SERVER", str(real))
    assert server_script() == real
    monkeypatch.setenv("EPU_RABBITMQ_SERVER", str(tmp_path / "missing"))
    assert server_script() is None


def test_a_node_gets_nothing_of_the_callers_environment_that_configures_rabbitmq(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RABBITMQ_NODE_PORT", "5672")
    monkeypatch.setenv("ERL_FLAGS", "-setcookie foreign")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    environment = node_environment(BrokerFiles(tmp_path), IDENTITY)
    assert not {"RABBITMQ_NODE_PORT", "ERL_FLAGS", "AWS_SECRET_ACCESS_KEY"} & set(environment)
    assert environment["EPU_BROKER_NODE"] == "m-1"


def test_every_listener_is_told_to_keep_to_loopback(tmp_path: Path) -> None:
    config = config_text(BrokerFiles(tmp_path), IDENTITY).splitlines()
    assert "listeners.tcp.local = 127.0.0.1:1" in config
    assert "management.tcp.ip = 127.0.0.1" in config
    machine = node_environment(BrokerFiles(tmp_path), IDENTITY)
    assert "inet_dist_use_interface {127,0,0,1}" in machine["RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS"]
