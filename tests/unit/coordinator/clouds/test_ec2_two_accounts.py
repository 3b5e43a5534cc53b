"""The boot tool and the provisioner of one run, each with an account of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from coordinator.clouds.base import CloudInstance
from coordinator.clouds.ec2 import Ec2Cloud
from coordinator.errors import CredentialsRejected
from coordinator.testing import make_request
from tests.hard_ec2 import HardEc2
from tests.hard_ec2.account import IMAGE

RUN = "run-1"


@pytest.fixture
def accounts() -> Iterator[tuple[HardEc2, HardEc2]]:
    """The boot tool's and the provisioner's: each knows one key only."""
    with HardEc2(seed=1) as base, HardEc2(seed=2) as workers:
        base.account.credentials = {"AKIABASE": ""}
        workers.account.credentials = {"AKIAWORKERS": ""}
        yield base, workers


def cloud_of(account: HardEc2, key: str, directory: Path) -> Ec2Cloud:
    settings = {
        "region": "us-east-1",
        "endpoint": account.url,
        "access_key": key,
        "secret_key": "topsecret",
        "image": IMAGE,
        "type": "t3.small",
        "consistency_window": "0",
    }
    return Ec2Cloud.from_settings(settings, directory)


def ids(listed: list[CloudInstance] | tuple[CloudInstance, ...]) -> set[str]:
    return {one.cloud_id for one in listed}


def test_each_sees_and_ends_only_its_own_account_s_machines_of_the_same_run(
    accounts: tuple[HardEc2, HardEc2], tmp_path: Path
) -> None:
    base, workers = accounts
    boot_tool = cloud_of(base, "AKIABASE", tmp_path / "boot-tool")
    provisioner = cloud_of(workers, "AKIAWORKERS", tmp_path / "provisioner")
    # The very same launch id: a token of one account means nothing to the other.
    boot_tool.launch(make_request("l", run=RUN, pool="_base"))
    provisioner.launch(make_request("l", run=RUN, count=3))
    assert (len(base.machines), len(workers.machines)) == (1, 3)

    listed = tuple(provisioner.list_instances(RUN))
    assert ids(listed) == {machine.cloud_id for machine in workers.machines}
    provisioner.terminate([*ids(listed), *(machine.cloud_id for machine in base.machines)])
    assert (len(base.machines), len(workers.machines)) == (1, 0)
    assert len(tuple(boot_tool.list_instances(RUN))) == 1


def test_the_key_of_one_account_opens_nothing_in_the_other(
    accounts: tuple[HardEc2, HardEc2], tmp_path: Path
) -> None:
    base, workers = accounts
    for account, key in ((base, "AKIAWORKERS"), (workers, "AKIABASE")):
        with pytest.raises(CredentialsRejected) as rejected:
            cloud_of(account, key, tmp_path / key).launch(make_request("l", run=RUN))
        assert key not in str(rejected.value) and not account.machines
