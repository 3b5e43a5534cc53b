"""Base machines of the process cloud: no agent, and programs that come from outside."""

import subprocess

import pytest

from coordinator.clouds.base import MachineState
from coordinator.clouds.process import ProcessCloud, kill_machine, machine_processes
from coordinator.errors import NotFound
from coordinator.testing import eventually, make_request

RUN = "run-1"
NODE = "launch-1-0"


@pytest.fixture
def base(root):
    """A cloud with the agent of this installation, and one machine without user-data."""
    cloud = ProcessCloud.from_settings({}, root)
    cloud.launch(make_request(user_data=""))
    return cloud


def cloud_id(cloud):
    (machine,) = cloud.list_instances(RUN)
    return machine.cloud_id


def start(command, **more):
    return subprocess.Popen(
        command.words, env=command.environment, cwd=command.directory, start_new_session=True,
        **more,
    )  # fmt: skip


def test_a_machine_without_user_data_is_its_supervisord_and_no_agent(base, root):
    (machine,) = base.list_instances(RUN)
    assert machine.state is MachineState.RUNNING
    log = root / NODE / "logs" / "supervisord.log"
    eventually(lambda: log.exists() and "supervisord started" in log.read_text())
    assert len(machine_processes(root, NODE)) == 1
    assert "[program:agent]" not in (root / NODE / "supervisord.conf").read_text()


def test_a_program_has_the_machines_directory_and_environment_and_nothing_of_ours(
    base, root, monkeypatch
):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    words = ["sh", "-c", 'pwd; echo "$1 $X $EPU_NODE_ID ${AWS_SECRET_ACCESS_KEY-none}"', "sh", "$A"]
    command = base.exec_command(cloud_id(base), words, {"X": "a b", "EPU_NODE_ID": "forged"})
    said = start(command, stdout=subprocess.PIPE).communicate(timeout=10)[0].decode()
    assert said.splitlines() == [str(root / NODE), f"$A a b {NODE} none"]


def test_a_program_and_what_it_leaves_behind_are_ended_with_the_machine(base, root):
    words = ["sh", "-c", "setsid sleep 987 & echo ready; exec sleep 986"]
    found = start(base.exec_command(cloud_id(base), words, {}), stdout=subprocess.PIPE)
    assert found.stdout.readline() == b"ready\n"
    eventually(lambda: len(machine_processes(root, NODE)) == 3)
    base.terminate([cloud_id(base)])
    assert found.wait(10) < 0
    found.stdout.close()
    assert machine_processes(root, NODE) == []


def test_a_machine_that_is_gone_takes_no_program(base, root):
    name = cloud_id(base)
    kill_machine(root, NODE)
    with pytest.raises(NotFound, match="is gone"):
        base.exec_command(name, ["true"], {})
    base.terminate([name])
    for gone in (name, "nonsense", name[:-1] + ("0" if name[-1] != "0" else "1")):
        with pytest.raises(NotFound):
            base.exec_command(gone, ["true"], {})


def test_asking_starts_nothing(base, root):
    before = len(machine_processes(root, NODE))
    base.exec_command(cloud_id(base), ["sleep", "987"], {})
    assert len(machine_processes(root, NODE)) == before
