"""The life of a private broker node: real processes, real ports, real kills."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import amqp
import pytest

from agent.messages import BrokerAccess
from coordinator.errors import ConfigProblem
from coordinator.registrar.broker_accounts import BrokerAccounts
from mgmt.broker import BrokerUnavailable, broker_status, start_broker, stop_broker
from mgmt.broker_files import BrokerFiles, NodeIdentity, choose_ports
from mgmt.broker_launch import node_environment, server_script
from mgmt.broker_processes import NodeProcess, end_node, node_processes, send_signal
from tests.private_broker import kill_broker

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(240),
    pytest.mark.skipif(
        server_script() is None and not os.environ.get("CI"),
        reason="rabbitmq-server is not installed (apt-get install rabbitmq-server)",
    ),
]


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    """A directory with a space in its name; its node is ended whatever the test does."""
    place = tmp_path / "a broker"
    yield place
    for process in _processes(place):
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGCONT)
    kill_broker(place)


def _processes(directory: Path) -> tuple[NodeProcess, ...]:
    identity = BrokerFiles(directory).read_identity()
    return () if identity is None else node_processes(identity.mark)


def _beam(directory: Path) -> NodeProcess:
    (beam,) = [one for one in _processes(directory) if one.name == "beam.smp"]
    return beam


def _listeners(processes: tuple[NodeProcess, ...]) -> set[tuple[str, int]]:
    """(address, port) of every TCP listener of these processes, from the kernel."""
    inodes = set()
    for process in processes:
        for descriptor in Path(f"/proc/{process.pid}/fd").iterdir():
            with suppress(OSError):
                inodes.add(os.readlink(descriptor))
    found = set()
    for family, table in ((socket.AF_INET, "tcp"), (socket.AF_INET6, "tcp6")):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes:
                address, port = fields[1].split(":")
                words = [address[i : i + 8] for i in range(0, len(address), 8)]
                packed = b"".join(bytes.fromhex(word)[::-1] for word in words)
                found.add((socket.inet_ntop(family, packed), int(port, 16)))
    return found


def _connect(access: BrokerAccess, account: str = "coordinator") -> Any:
    who = access.accounts[account]
    connection = amqp.Connection(
        host=f"{access.host}:{access.port}",
        userid=who.user,
        password=who.password,
        virtual_host=access.vhost,
        connect_timeout=5,
        read_timeout=5,
    )
    connection.connect()
    return connection


def test_a_node_outlives_its_starter_listens_on_loopback_only_and_ends_without_a_trace(
    directory: Path, eventually: Callable[..., Any]
) -> None:
    # Neighbours: programs on the ports that RabbitMQ and epmd would take by themselves.
    with ExitStack() as neighbours:
        for port in (5672, 15672, 25672, 4369):
            with suppress(OSError):
                neighbours.enter_context(socket.create_server(("127.0.0.1", port)))
        program = (
            "import sys, pathlib; from mgmt.broker import start_broker;"
            "start_broker(pathlib.Path(sys.argv[1]), say=print)"
        )
        # Would wait for ever if the node held the starter's output open.
        starter = subprocess.run(
            [sys.executable, "-c", program, str(directory)],
            capture_output=True,
            text=True,
            timeout=90,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        assert starter.returncode == 0, starter.stderr
    assert "is running at amqp://127.0.0.1:" in starter.stdout

    access = BrokerFiles(directory).read_access()
    assert access is not None
    identity = BrokerFiles(directory).read_identity()
    assert identity is not None
    status = broker_status(directory)
    assert (status.state, status.address) == ("running", access.public_url)
    assert status.pid == _beam(directory).pid
    assert os.getsid(status.pid) != os.getsid(0)

    ports = (identity.ports.amqp, identity.ports.management, identity.ports.distribution)
    assert _listeners(_processes(directory)) == {("127.0.0.1", port) for port in ports}

    # Started again: the same, and said so.
    said: list[str] = []
    assert start_broker(directory, say=said.append) == access
    assert "already running" in said[0]
    assert broker_status(directory).pid == status.pid
    with pytest.raises(ConfigProblem, match="serves the virtual host 'epu', not 'other'"):
        start_broker(directory, vhost="other")

    # Secrets: in files of their owner, in no argument list, in no log.
    for name in ("accounts.json", "definitions.json", "node.json", "home/.erlang.cookie"):
        assert stat.S_IMODE((directory / name).stat().st_mode) == 0o600, name
    secrets = [account.password for account in access.accounts.values()]
    secrets.append((directory / "home/.erlang.cookie").read_text())
    words = b"".join(Path(f"/proc/{p.pid}/cmdline").read_bytes() for p in _processes(directory))
    logs = b"".join(log.read_bytes() for log in (directory / "logs").iterdir())
    assert not [secret for secret in secrets if secret.encode() in words + logs]

    ended = _processes(directory)
    stopped = stop_broker(directory)
    assert {one.pid for one in ended} <= {one.pid for one in stopped}
    assert not any(one.killed for one in stopped)
    assert not any(process.alive for process in ended)
    assert _processes(directory) == ()
    assert identity.ports.taken() == []
    assert stop_broker(directory) == ()
    assert broker_status(directory).state == "stopped"


def test_a_node_that_was_killed_comes_back_with_ports_accounts_and_messages(
    directory: Path, eventually: Callable[..., Any]
) -> None:
    access = start_broker(directory)
    BrokerAccounts(access, "run").create_node_account("n-0", "web", [])
    with _connect(access) as connection:
        channel = connection.channel()
        channel.queue_declare("jobs", durable=True, auto_delete=False)
        channel.confirm_select()
        channel.basic_publish_confirm(amqp.Message("job 1", delivery_mode=2), "", "jobs")

    everything = _processes(directory)
    send_signal(_beam(directory), signal.SIGKILL)
    eventually(lambda: broker_status(directory).state == "stopped")
    eventually(lambda: not any(p.alive for p in everything), message="a helper lives on")

    said: list[str] = []
    assert start_broker(directory, say=said.append) == access
    assert "already" not in said[0]
    with _connect(access) as connection:
        assert connection.channel().basic_get("jobs").body == "job 1"
    assert BrokerAccounts(access, "run").list_node_accounts() == ["n-0"]

    # Killed again, and another program takes the port: nobody is sent to a new one.
    identity = BrokerFiles(directory).read_identity()
    assert identity is not None
    send_signal(_beam(directory), signal.SIGKILL)
    eventually(lambda: broker_status(directory).state == "stopped")
    eventually(lambda: not identity.ports.taken(), message="the ports are not free")
    with (
        socket.create_server(("127.0.0.1", access.port)),
        pytest.raises(BrokerUnavailable, match=f"port {access.port} .* taken by another program"),
    ):
        start_broker(directory)
    assert BrokerFiles(directory).read_access() == access
    assert stop_broker(directory) == ()


def test_a_node_that_hangs_is_not_waited_for_without_end_and_can_be_stopped(
    directory: Path,
) -> None:
    start_broker(directory)
    beam = _beam(directory)
    send_signal(beam, signal.SIGSTOP)
    assert broker_status(directory).state == "starting"
    with pytest.raises(BrokerUnavailable, match="is not ready after 1 s"):
        start_broker(directory, timeout=1.0)
    assert beam.alive  # a running node is never ended by a start
    stopped = stop_broker(directory, timeout=2.0)
    assert [one.killed for one in stopped if one.pid == beam.pid] == [True]
    assert _processes(directory) == ()


def test_a_start_that_takes_too_long_says_so_and_leaves_nothing_behind(directory: Path) -> None:
    with pytest.raises(BrokerUnavailable, match=r"is not ready after 0\.5 s \(look into .*logs\)"):
        start_broker(directory, timeout=0.5)
    assert _processes(directory) == ()
    assert not (directory / "accounts.json").exists()
    assert broker_status(directory).state == "stopped"
    # What a failed first start wrote is no obstacle, not even for another virtual host.
    assert start_broker(directory, vhost="second").vhost == "second"


def test_a_node_that_ends_while_starting_is_told_with_its_last_lines(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "rabbitmq-server"
    script.write_text("#!/bin/sh\necho BOOT FAILED: the stars are wrong\nexit 1\n")
    script.chmod(0o755)
    monkeypatch.setenv("EPU_RABBITMQ_SERVER", str(script))
    with pytest.raises(BrokerUnavailable, match="ended while it was starting") as refusal:
        start_broker(directory)
    assert "the stars are wrong" in str(refusal.value)


def _as_nobody(directory: Path) -> None:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
    os.chdir("/")
    start_broker(directory)
    assert broker_status(directory).usable
    assert stop_broker(directory)


def test_an_ordinary_user_can_have_a_broker() -> None:
    """Root starts one in the other tests; here it is user 65534 ("nobody")."""
    if os.geteuid() != 0:
        pytest.skip("this user is an ordinary one: the other tests show it")
    place = Path(tempfile.mkdtemp())
    os.chown(place, 65534, 65534)
    # Forked, not started: the interpreter may be in a directory of root's.
    child = multiprocessing.get_context("fork").Process(target=_as_nobody, args=(place / "broker",))
    try:
        child.start()
        child.join(120)
        assert child.exitcode == 0
        assert (place / "broker" / "accounts.json").stat().st_uid == 65534
    finally:
        child.kill()
        stop_broker(place / "broker")
        shutil.rmtree(place)


def test_what_rabbitmq_starts_each_minute_to_wake_epmd_wakes_none(tmp_path: Path) -> None:
    """Its words are those of ``rabbit_nodes_common:ensure_epmd``; epmd would outlive it."""
    identity = NodeIdentity("epu-1@localhost", str(uuid.uuid4()), "epu", choose_ports())
    files = BrokerFiles(tmp_path)
    files.home.mkdir()
    environment = node_environment(files, identity)
    environment["ERL_EPMD_PORT"] = str(identity.ports.amqp)
    words = "erl -boot no_dot_erlang -sname epmd-starter-1 -noinput -s erlang halt"
    done = subprocess.run(words.split(), env=environment, timeout=30, cwd=tmp_path)
    left = node_processes(identity.mark)
    end_node(identity.mark, 5.0)
    assert left == ()
    assert done.returncode == 0


# ------------------------------------------------------------------ what can be wrong


def test_without_rabbitmq_the_package_is_named(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EPU_RABBITMQ_SERVER", str(tmp_path / "missing"))
    with pytest.raises(BrokerUnavailable, match="apt-get install rabbitmq-server"):
        start_broker(directory)


def test_without_erlang_in_path_this_is_said(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BrokerUnavailable, match="erl is not in PATH"):
        start_broker(directory)


def test_a_place_that_is_no_directory_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "broker"):
        with pytest.raises(BrokerUnavailable, match="choose a directory that you can write"):
            start_broker(place)
    assert broker_status(tmp_path / "nothing").state == "absent"
    assert stop_broker(tmp_path / "nothing") == ()


def test_a_full_disk_is_told_before_anything_is_started(tmp_path: Path) -> None:
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(tmp_path)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a small disk can be made by root only")
    try:
        with pytest.raises(BrokerUnavailable, match=r"only 8 MB are free on the disk of .*needs"):
            start_broker(tmp_path / "broker")
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_a_virtual_host_that_can_not_be_is_a_problem_of_configuration(directory: Path) -> None:
    with pytest.raises(ConfigProblem, match="can't name a virtual host"):
        start_broker(directory, vhost="epu\nmanagement.tcp.ip = 0.0.0.0")


def test_a_node_listens_where_it_is_told_and_stays_in_the_foreground_until_it_is_told_to_end(
    directory: Path, eventually: Callable[..., Any]
) -> None:
    words = [sys.executable, "-m", "mgmt.cli", "broker", "start", "--foreground"]
    process = subprocess.Popen([*words, "--dir", str(directory), "--listen", "127.0.0.2"])
    try:
        access = eventually(lambda: BrokerFiles(directory).read_access(), 120, "no broker came up")
        assert access.host == "127.0.0.2" and "//127.0.0.2:" in access.management_url
        addresses = {address for address, port in _listeners(_processes(directory))}
        assert addresses == {"127.0.0.1", "127.0.0.2"}, "distribution stays on loopback"
        _connect(access).close()
        with pytest.raises(ConfigProblem, match=r"listens on 127\.0\.0\.2, not on 127\.0\.0\.1"):
            start_broker(directory, host="127.0.0.1")
        assert start_broker(directory) == access
        process.terminate()
        assert process.wait(timeout=60) == 0
        assert _processes(directory) == ()
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("host", ["0.0.0.0", "198.51.100.1", "localhost", ""])
def test_an_address_that_is_not_this_machines_is_refused_before_anything_starts(
    directory: Path, host: str
) -> None:
    with pytest.raises(ConfigProblem, match="no broker can listen on"):
        start_broker(directory, host=host)
    assert not directory.exists()
