"""The whole way: EC2 driver, EC2's API, real user-data, real cloud-init, agent, and back.

The endpoint is hard-mode EC2, whose machines are containers of this host; all else is what
runs in production: broker, coordinator under supervisord, the driver in its own process.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.messages import agent_service
from coordinator.clouds.base import MachineState
from coordinator.errors import ConfigProblem
from mgmt.broker_launch import server_script
from tests.hard_ec2 import Fault, HardEc2, Lag
from tests.hard_ec2.account import IMAGE
from tests.hard_ec2.boots import RUN, BootsOn, Ec2Containers

#: Beside the time of the test itself, a system has to start: on a busy machine more than a minute.
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def containers(tmp_path_factory: pytest.TempPathFactory) -> Ec2Containers:
    try:
        if server_script() is None:
            raise ConfigProblem("rabbitmq-server is not installed")
        return Ec2Containers.from_settings({}, tmp_path_factory.mktemp("machines"))
    except ConfigProblem as problem:
        pytest.fail(str(problem)) if os.environ.get("CI") else pytest.skip(str(problem))


@pytest.fixture(scope="module")
def ec2(containers: Ec2Containers) -> Iterator[HardEc2]:
    boots = BootsOn(containers)
    with HardEc2() as found:
        found.world.boots = boots
        yield found
        boots.close()
    assert not boots.problems
    assert not alive(containers)


@pytest.fixture(scope="module")
def system(
    ec2: HardEc2,
    system_in: Callable[[Path, str], Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Any]:
    found = system_in(tmp_path_factory.mktemp("on-ec2"), "on-ec2")
    cloud = {
        "driver": "ec2",
        "endpoint": ec2.url,
        "region": "us-east-1",
        "access_key": "AKIATEST",
        "secret_key": "never-in-user-data",
        "agent": "configure",
        "image": IMAGE,
        "type": "c5.large",
        "consistency_window": "2",
    }
    try:
        found.start(cloud=cloud, listing_interval=1.0)
        yield found
    finally:
        found.end()


def alive(containers: Ec2Containers) -> list[str]:
    listed = containers.list_instances(RUN)
    return [one.cloud_id for one in listed if one.state is not MachineState.GONE]


def test_a_worker_of_ec2_boots_enrols_answers_and_goes(
    system: Any, ec2: HardEc2, containers: Ec2Containers, figure: Callable[[str, float], None]
) -> None:
    ec2.world.lag = Lag(seconds=1.0)
    ec2.fail_next("RunInstances", Fault.lost_reply())
    ec2.fail_next("TerminateInstances", Fault.lost_reply())
    began = time.monotonic()
    with system.pool("voyagers", 2, heartbeat_interval=1) as pool:
        nodes = system.wait(
            lambda: (found := pool.nodes()) and len(found) == 2 and found, "two nodes run", 90
        )
        figure("two nodes wanted to RUNNING", time.monotonic() - began)

        assert len(ec2.world.history) == len(alive(containers)) == 2, "no reply lost twice"
        assert {f"{one.token.partition('.')[0]}-{one.index}" for one in ec2.machines} == nodes
        for node in nodes:
            system.call(agent_service(node), "beat_now")
        said = json.dumps([one.user_data.decode(errors="replace") for one in ec2.machines])
        accounts = json.loads(system.accounts.read_text())["accounts"]
        secrets = [x["password"] for name, x in accounts.items() if name != "enrol"]
        assert not [one for one in [*secrets, "never-in-user-data"] if one in said]

        pool.set_size(0)
        system.wait(lambda: not ec2.machines and not alive(containers), "all machines end", 60)
        system.wait(lambda: not pool.records(), "all records end", 60)
    assert len(ec2.world.history) == 2
