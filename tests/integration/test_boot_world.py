"""The boot tool against real things around it: a broker, a full disk."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from threading import Event

import pytest

from agent.messages import BrokerAccess, BrokerAccount
from agent.wire import to_wire
from bootlevels.checks import REFUSED_PATIENCE, look_at, wait_until_ready
from bootlevels.plan import CheckKind, PoolCheck
from bootlevels.pool_gateway import PoolGateway

pytestmark = pytest.mark.integration


def accounts_file(directory: Path, access: BrokerAccess) -> Path:
    path = directory / "accounts.json"
    path.write_text(json.dumps(to_wire(access)))
    return path


def test_a_broker_that_knows_the_account_is_ready(broker: BrokerAccess, tmp_path: Path) -> None:
    accounts_file(tmp_path, broker)
    found = look_at(CheckKind.AMQP, "accounts.json", tmp_path, 5.0)
    assert found.ok, found.detail
    assert look_at(CheckKind.AMQP, broker.amqp_url("coordinator"), tmp_path, 5.0).ok
    password = broker.accounts["coordinator"].password
    assert password not in found.detail


@pytest.mark.parametrize("wrong", ["password", "vhost"])
def test_a_broker_that_refuses_is_given_up_long_before_the_deadline(
    broker: BrokerAccess, tmp_path: Path, wrong: str
) -> None:
    own = broker.accounts["coordinator"]
    bad = BrokerAccount(user=own.user, password="not-the-pa55word")
    access = replace(broker, vhost="no-such-vhost")
    if wrong == "password":
        access = replace(broker, accounts={"coordinator": bad})
    path = str(accounts_file(tmp_path, access))
    found = wait_until_ready(
        lambda limit: look_at(CheckKind.AMQP, path, tmp_path, limit),
        interval=0.5,
        timeout=100,
        stop=Event(),
    )
    assert found.patience == REFUSED_PATIENCE
    assert "refuses the account" in found.detail
    assert "pa55word" not in found.detail


def test_a_broker_without_a_coordinator_is_unreachable_and_not_a_hang(
    broker: BrokerAccess, tmp_path: Path
) -> None:
    with PoolGateway(accounts_file(tmp_path, broker)) as gateway:
        found = gateway.look("epu-x", PoolCheck.STABLE)
    assert (found.ok, found.unreachable) == (False, True)
    assert "controller" in found.detail


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for a record and nothing more."""
    place = tmp_path / "tiny"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)]
    try:
        done = subprocess.run(mount, capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount here")
    if done.returncode:
        pytest.skip("mounting a small file system needs root and the right to mount")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_is_one_sentence_and_leaves_nothing_running(
    tiny_disk: Path, tmp_path: Path
) -> None:
    plan = tmp_path / "plan.yaml"
    boots = "{local: true, boot: {run: 'sleep 600'}}"
    plan.write_text(f"plan: full\nlevels: [{{services: {{a: {boots}, b: {boots}}}}}]\n")
    done = subprocess.run(
        [sys.executable, "-m", "mgmt.cli", "boot", str(plan), "-q"],
        env={**os.environ, "EPU_HOME": str(tiny_disk)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "database or disk is full" in done.stderr
    assert "Traceback" not in done.stderr
    # Were anything of it still there, the file system could not be unmounted.
