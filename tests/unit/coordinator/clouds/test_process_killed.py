"""A launch killed with SIGKILL at *every* point of it, repeated: never two, never none."""

import subprocess
import sys
from pathlib import Path

import pytest

from coordinator.clouds import process_launcher
from coordinator.clouds.base import MachineState
from coordinator.clouds.process import ProcessCloud, machine_processes
from coordinator.clouds.process_table import RunningProcess, send_signal
from coordinator.testing import eventually, make_request

NODE = "launch-1-0"

#: Kills its own process at the n-th thing it does to the world outside.
KILLED_AT = """
import os as _os, signal as _signal, sys as _sys
def _watch(left, world=("open", "os.", "subprocess.", "fcntl.")):
    def hook(event, arguments):
        nonlocal left
        if event.startswith(world) and not (event == "open" and "/lib/" in str(arguments[0])):
            left -= 1
            if left < 0:
                _os.kill(_os.getpid(), _signal.SIGKILL)
    _sys.addaudithook(hook)
"""

CALLER = """
from pathlib import Path
from coordinator.clouds import process_launcher, process_start
from coordinator.clouds.process import ProcessCloud
from coordinator.testing import make_request
cloud = ProcessCloud(Path(_sys.argv[2]), ["/bin/sleep", "600"])
request = make_request()
_watch(int(_sys.argv[1]))
cloud.launch(request)
"""


def test_killing_whoever_launches_at_any_point_leaves_one_machine(root, supervisords_of):
    points = 0
    while True:
        root_here = root / str(points)
        killed = subprocess.run(
            [sys.executable, "-c", KILLED_AT + CALLER, str(points), str(root_here)], timeout=60
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
        points += 1
    assert points > 15  # the hook does see something


def test_killing_the_launcher_at_any_point_never_starts_two(
    cloud, root, supervisords_of, tmp_path, monkeypatch
):
    original = Path(process_launcher.__file__).read_text()
    points = 0
    while True:
        script = tmp_path / f"launcher-{points}.py"
        hook = KILLED_AT + f"_watch({points})\n"
        script.write_text(hook + original)
        monkeypatch.setattr(process_launcher, "__file__", str(script))
        request = make_request(f"launch-{points}")
        finished = True
        try:
            cloud.launch(request)
        except Exception:
            finished = False
        monkeypatch.undo()
        cloud.launch(request)
        [machine] = cloud.list_instances("run-1")
        running = supervisords_of(f"launch-{points}-0")
        # Killed between fork and exec, the machine failed at its very start: that is GONE.
        expected = {MachineState.RUNNING: 1, MachineState.GONE: 0}[machine.state]
        assert running == expected, f"killed at point {points}"
        cloud.terminate([machine.cloud_id])
        if finished and machine.state is MachineState.RUNNING:
            break
        points += 1
    assert points > 5


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
        table = cloud._table
        assert child.pid not in {p.pid for p in table.of([mark])}
        child.stdin.write(b"\n")
        child.stdin.close()
        eventually(lambda: child.pid in {p.pid for p in table.of([mark])})
        assert child.pid in {p.pid for p in machine_processes(root, NODE)}
    finally:
        child.kill()
        child.wait()
