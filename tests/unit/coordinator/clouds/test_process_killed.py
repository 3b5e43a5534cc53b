"""A launch killed with SIGKILL at *every* point of it, repeated: never two, never none."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from coordinator.clouds import machine_launcher
from coordinator.clouds.base import MachineState
from coordinator.clouds.machine_directory import MachineDirectory
from coordinator.clouds.process import ProcessCloud, machine_processes
from coordinator.clouds.process_table import ProcessTable, RunningProcess, send_signal
from coordinator.errors import RetryLater
from coordinator.testing import eventually, make_request

NODE = "launch-1-0"

#: Kills its own process, or only the child that it forked, at the n-th thing that it does to
#: the world outside.
KILLED_AT = """
import os as _os, signal as _signal, sys as _sys
def _watch(left, who="self", world=("open", "os.", "subprocess.", "fcntl.")):
    own = _os.getpid()
    def hook(event, arguments):
        nonlocal left
        if event == "os.kill" or (who == "self") != (_os.getpid() == own):
            return
        if event.startswith(world) and not (event == "open" and "/lib/" in str(arguments[0])):
            left -= 1
            if left < 0:
                _os.kill(_os.getpid(), _signal.SIGKILL)
    _sys.addaudithook(hook)
"""

CALLER = """
from pathlib import Path
from coordinator.clouds import machine_launcher
from coordinator.clouds.process import ProcessCloud
from coordinator.testing import make_request
cloud = ProcessCloud(Path(_sys.argv[2]), ["/bin/sleep", "600"])
request = make_request()
_watch(int(_sys.argv[1]))
"""


def test_killing_whoever_launches_at_any_point_leaves_one_machine(root, supervisords_of):
    points = 0
    while True:
        root_here = root / str(points)
        killed = subprocess.run(
            [
                sys.executable,
                "-c",
                KILLED_AT + CALLER + "cloud.launch(request)",
                str(points),
                str(root_here),
            ],
            timeout=60,
        )
        cloud = ProcessCloud(root_here, ["/bin/sleep", "600"])
        cloud.launch(make_request())
        [machine] = cloud.list_instances("run-1")
        assert machine.state is MachineState.RUNNING, f"killed at point {points}"
        assert supervisords_of(f"{points}/{NODE}") == 1, f"killed at point {points}"
        cloud.terminate([machine.cloud_id])
        assert not supervisords_of(f"{points}/{NODE}"), f"killed at point {points}"
        if killed.returncode == 0:
            break
        assert killed.returncode == -signal.SIGKILL
        points += 1
    assert points > 15  # the hook does see something


@pytest.mark.parametrize("who", ["self", "child"])
def test_killing_the_launcher_at_any_point_never_starts_two(
    cloud, supervisords_of, tmp_path, monkeypatch, who
):
    original = Path(machine_launcher.__file__).read_text()
    points, states = 0, []
    while True:
        script = tmp_path / f"launcher-{points}.py"
        script.write_text(f"{KILLED_AT}_watch({points}, {who!r})\n{original}")
        monkeypatch.setattr(machine_launcher, "__file__", str(script))
        request = make_request(f"launch-{points}")
        killed = False
        try:
            cloud.launch(request)
        except RetryLater:
            killed = True
        monkeypatch.undo()
        cloud.launch(request)
        assert supervisords_of(f"launch-{points}-0") <= 1, f"killed at point {points}"
        # A child that is killed before its exec is a machine that failed at its start: GONE,
        # once it has gone through its end.
        eventually(
            lambda n=f"launch-{points}-0": (
                (supervisords_of(n), cloud.list_instances("run-1")[0].state)
                in ((0, MachineState.GONE), (1, MachineState.RUNNING))
            ),
            what=f"one machine or none when killed at point {points}",
        )
        [machine] = cloud.list_instances("run-1")
        states.append(machine.state)
        cloud.terminate([machine.cloud_id])
        if machine.state is MachineState.RUNNING and not killed:
            break
        points += 1
    assert points > 2
    assert set(states[:-1]) == {MachineState.RUNNING if who == "self" else MachineState.GONE}


def test_a_launcher_holds_the_lock_when_whoever_started_it_is_dead(cloud, root, tmp_path):
    script = tmp_path / "slow_launcher.py"
    original = Path(machine_launcher.__file__).read_text()
    script.write_text(
        f"import time; open({str(tmp_path / 'begun')!r}, 'w'); time.sleep(1)\n{original}"
    )
    source = f"machine_launcher.__file__ = {str(script)!r}\ncloud.launch(request)"
    caller = subprocess.Popen(
        [sys.executable, "-c", KILLED_AT + CALLER + source, "1000", str(root)],
    )
    eventually((tmp_path / "begun").exists)
    caller.kill()
    caller.wait()
    assert MachineDirectory(root, NODE).is_locked()
    assert [m.state for m in cloud.list_instances("run-1")] == [MachineState.PENDING]
    cloud.launch(make_request())  # waits for it
    assert [m.state for m in cloud.list_instances("run-1")] == [MachineState.RUNNING]


def test_a_signal_never_reaches_a_later_process_of_the_same_pid():
    child = subprocess.Popen(["/bin/sleep", "600"])
    try:
        earlier = RunningProcess(child.pid, 1, 0, 0, "sleep", None)
        assert not send_signal(earlier, 9)
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(0.2)
    finally:
        child.kill()
        child.wait()


def test_a_mark_is_read_anew_after_a_process_executed_another_program(cloud, root):
    """The start time stays at exec and the mark may change: it must not be remembered."""
    cloud.launch(make_request())
    [machine] = cloud.list_instances("run-1")
    mark = machine.cloud_id.partition(".")[2]
    source = (
        "import os, sys; print('before', flush=True); sys.stdin.readline()\n"
        f"os.execve('/bin/sleep', ['sleep', '600'], {{'EPU_MARK': '{mark}'}})"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", source],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        child.stdout.readline()
        table = ProcessTable()
        assert child.pid not in {p.pid for p in table.of([mark])}
        child.stdin.write(b"\n")
        child.stdin.close()
        eventually(lambda: child.pid in {p.pid for p in table.of([mark])})
        assert child.pid in {p.pid for p in machine_processes(root, NODE)}
    finally:
        child.kill()
        child.wait()
