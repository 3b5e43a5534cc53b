"""Machines of hard-mode EC2 that really boot, as processes and as containers of this host."""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from coordinator.clouds.process import ProcessCloud, kill_machine, machine_processes
from coordinator.errors import ConfigProblem, NotFound
from coordinator.testing import eventually
from tests.hard_ec2 import HardEc2, Machine
from tests.hard_ec2.boots import RUN, BootsOn, Ec2Containers
from tests.hard_ec2.test_hard_ec2 import client_of, listed, run

USER_DATA = """#cloud-config
write_files:
- path: /etc/epu/agent.json
  content: '{"who": "an agent"}'
"""


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[HardEc2]:
    words = '["/bin/sh", "-c", "cat user-data.json instance-data.json; exec sleep 600"]'
    boots = BootsOn(ProcessCloud.from_settings({"agent_command": words}, tmp_path))
    with HardEc2() as ec2:
        ec2.world.boots = boots
        yield ec2
        boots.close()
    assert not boots.problems
    assert not any(running(tmp_path, directory.name) for directory in tmp_path.iterdir())


def running(root: Path, node: str) -> int:
    """How many processes a machine has now."""
    try:
        return len(machine_processes(root, node))
    except NotFound:
        return 0


def node_of(machine: Machine) -> str:
    return f"{machine.reservation}-{machine.index}"


def test_what_is_launched_runs_until_it_is_terminated(processes: HardEc2, tmp_path: Path) -> None:
    client = client_of(processes)
    run(client, 2, UserData=gzip.compress(USER_DATA.encode()))
    first, second = processes.machines
    eventually(lambda: running(tmp_path, node_of(first)) and running(tmp_path, node_of(second)), 30)
    client.terminate_instances(InstanceIds=[first.cloud_id])
    eventually(lambda: not running(tmp_path, node_of(first)), 30)
    assert running(tmp_path, node_of(second))


def test_what_is_terminated_while_it_boots_does_not_stay(
    processes: HardEc2, tmp_path: Path
) -> None:
    client = client_of(processes)
    [machine] = run(client, UserData=USER_DATA)
    client.terminate_instances(InstanceIds=[machine["InstanceId"]])
    processes.world.boots.close()  # type: ignore[attr-defined]
    assert not running(tmp_path, node_of(processes.world.history[0]))


def test_a_machine_that_dies_is_terminated_for_ec2(processes: HardEc2, tmp_path: Path) -> None:
    client = client_of(processes)
    [machine] = run(client, UserData=USER_DATA)
    processes.world.boots.local_id(processes.machines[0])  # type: ignore[attr-defined]
    kill_machine(tmp_path, node_of(processes.machines[0]))
    eventually(lambda: listed(client)[machine["InstanceId"]] == "terminated", 30)


def test_cloud_init_reads_the_user_data_and_the_launch_index(tmp_path: Path) -> None:
    try:
        cloud = Ec2Containers.from_settings({}, tmp_path)
    except ConfigProblem as problem:
        pytest.fail(str(problem)) if os.environ.get("CI") else pytest.skip(str(problem))
    boots = BootsOn(cloud)
    user_data = """#cloud-config
runcmd:
- [sh, -c, "grep -o 'launch.index.*' /run/cloud-init/instance-data.json"]
"""
    with HardEc2() as ec2:
        ec2.world.boots = boots
        client = client_of(ec2)
        [machine] = [one for one in run(client, 2, UserData=user_data) if one["AmiLaunchIndex"]]

        def said() -> Any:
            return client.get_console_output(InstanceId=machine["InstanceId"]).get("Output")

        eventually(
            lambda: 'launch-index": 1' in (said() or ""), 60, what="the console says the index"
        )
        boots.close()
        assert not boots.problems
        assert not [one for one in cloud.list_instances(RUN) if one.state.value != "GONE"]
