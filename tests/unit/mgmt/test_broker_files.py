"""The small files in a broker's directory, and its ports."""

from __future__ import annotations

import socket
import stat
import time
from pathlib import Path

import pytest

from agent.messages import BrokerAccess, BrokerAccount
from mgmt.broker_files import BrokerFiles, NodeIdentity, Ports, choose_ports, write_private


def test_a_private_file_is_replaced_whole_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "accounts.json"
    path.write_text("old")
    path.chmod(0o644)
    write_private(path, "new")
    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["accounts.json"]


def test_a_draft_that_a_crash_left_behind_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / ".accounts.json.new").write_text("half")
    write_private(tmp_path / "accounts.json", "whole")
    assert (tmp_path / "accounts.json").read_text() == "whole"


def test_identity_and_access_come_back_as_they_were_written(tmp_path: Path) -> None:
    files = BrokerFiles(tmp_path)
    assert files.read_identity() is None
    assert files.read_access() is None
    identity = NodeIdentity(name="n@localhost", mark="m", vhost="v", ports=Ports(1, 2, 3))
    access = BrokerAccess(
        host="127.0.0.1",
        port=1,
        vhost="v",
        accounts={"enrol": BrokerAccount(user="enrol", password="p")},
    )
    files.write_identity(identity)
    files.write_access(access)
    assert files.read_identity() == identity
    assert files.read_access() == access


def test_ports_are_three_and_outside_the_range_of_source_ports() -> None:
    ports = choose_ports()
    chosen = {ports.amqp, ports.management, ports.distribution}
    low, high = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    assert len(chosen) == 3
    assert not any(low <= port <= high for port in chosen)
    assert ports.taken() == []


def test_a_port_with_a_listener_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        free = choose_ports()
        assert Ports(free.amqp, port, free.distribution).taken() == [port]


def test_the_later_of_two_commands_waits_only_until_its_deadline(tmp_path: Path) -> None:
    files = BrokerFiles(tmp_path)
    with (
        files.only_one(time.monotonic() + 10),
        pytest.raises(TimeoutError),
        files.only_one(time.monotonic()),
    ):
        pytest.fail("two commands at the same time")
    with files.only_one(time.monotonic()):
        pass
