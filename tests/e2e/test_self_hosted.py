"""EPU on machines of its own: a broker and a coordinator that user-data made, and a worker."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from coordinator.clouds.base import CloudInstance
from coordinator.clouds.container import ContainerCloud
from coordinator.clouds.machine_directory import RECORD
from coordinator.clouds.process_table import ProcessTable
from coordinator.testing import make_request
from mgmt.broker_launch import server_script
from userdata_templates.render import render

#: Two machines boot, a broker and a coordinator start on them: minutes on a busy machine.
#: The same path through a launch plan (test_self_hosted_plan) is in every run; this one, which
#: looks at each machine's files and repeats its bring-up, is among the long ones.
pytestmark = [pytest.mark.soak, pytest.mark.timeout(420)]

PATIENCE = 150.0
RUN = "self-hosted"
#: Puts standard input into a file as the contract wants it: private, and there at once.
BRING = """
import os, sys
path = sys.argv[1]
with open(os.open(path + ".new", os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
    file.write(sys.stdin.read())
os.rename(path + ".new", path)
"""


class Machine:
    """One container, booted with ``template`` in the form for an image with the agent in it."""

    def __init__(self, cloud: ContainerCloud, template: str, variables: dict[str, Any]) -> None:
        self._launch_id = template
        self.user_data = render(template, "configure", {"run": RUN, **variables})
        self._cloud = cloud
        cloud.launch(
            make_request(launch_id=template, run=RUN, pool=template, user_data=self.user_data)
        )

    @property
    def listed(self) -> CloudInstance:
        [found] = self._cloud.list_instances(RUN, [self._launch_id])
        return found

    def run(self, *words: str, given: str = "") -> subprocess.CompletedProcess[str]:
        command = self._cloud.exec_command(self.listed.cloud_id, words, {})
        return subprocess.run(
            command.words,
            env=command.environment,
            cwd=command.directory,
            input=given,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def text_of(self, path: str) -> str:
        """The content of a file there; empty while it is not."""
        return self.run("cat", path).stdout


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[ContainerCloud]:
    missing = [name for name in ("cloud-init", "unshare") if shutil.which(name) is None]
    if os.geteuid() != 0 or missing or server_script() is None:
        reason = "takes root, cloud-init and rabbitmq-server"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    root = tmp_path / "machines"
    yield ContainerCloud.from_settings({}, root)
    records = [json.loads(file.read_text()) for file in root.glob(f"*/{RECORD}")]
    ProcessTable().end([record["mark"] for record in records], timeout=30)


def test_a_worker_enrols_through_a_broker_and_a_coordinator_that_user_data_made(
    cloud: ContainerCloud, tmp_path: Path, eventually: Callable[..., Any]
) -> None:
    broker = Machine(cloud, "broker", {})
    coordinator = Machine(cloud, "coordinator", {"clouds": {"here": {"driver": "process"}}})

    def console() -> str:
        machines = cloud.list_instances(RUN)
        return "\n".join(cloud.console_output(one.cloud_id) or "" for one in machines)

    made = "/var/lib/epu/broker/accounts.json"
    accounts = eventually(lambda: broker.text_of(made), PATIENCE, console)
    log = "/var/lib/epu/logs/coordinator.log"
    waits = "/etc/epu/accounts.json: is not there yet"
    eventually(lambda: waits in coordinator.text_of(log), PATIENCE, console)
    for account in json.loads(accounts)["accounts"].values():
        assert account["password"] not in broker.user_data + coordinator.user_data

    # What a person or a boot program does: see docs/user-data.md.
    for path, text in (("/etc/epu/accounts.json", accounts), ("/etc/epu/coordinator.env", "")):
        brought = coordinator.run(sys.executable, "-c", BRING, path, given=text)
        assert brought.returncode == 0, brought.stderr

    own = tmp_path / "accounts.json"
    own.write_text(accounts)
    pool = tmp_path / "pool.yaml"
    pool.write_text(
        "{template: worker, clouds: [here], engine: {type: n_preserving, preserve_n: 1}}"
    )

    def epu(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "mgmt.cli", *words, "--accounts", str(own)]
        return subprocess.run(command, capture_output=True, text=True, timeout=120)

    def said() -> str:
        return f"{console()}\n{coordinator.text_of(log)}"

    eventually(lambda: epu("pool", "add", "p", "-f", str(pool)).returncode == 0, PATIENCE, said)
    done = epu("wait", "p", "--state", "STABLE", "--timeout", "100")
    assert done.returncode == 0, done.stdout + done.stderr + said()
    [node] = json.loads(epu("nodes", "--json").stdout)["nodes"]
    assert (node["state"], node["cloud"]) == ("RUNNING", "here")

    # A second start of what user-data starts changes nothing: reboots repeat it.
    again = broker.run("/usr/local/lib/epu/bring-up")
    assert again.returncode == 0 and "this machine is a broker now" in again.stdout
    assert broker.text_of(made) == accounts
    cloud.terminate([one.cloud_id for one in cloud.list_instances(RUN)])
    assert cloud.list_instances(RUN) == []
