"""A container's launch killed with SIGKILL here and there, repeated: never two, never none."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from coordinator.clouds import container_start, machine_launcher
from coordinator.clouds.base import MachineState
from coordinator.clouds.container import ContainerCloud
from coordinator.clouds.machine_directory import RECORD
from coordinator.clouds.process_table import ProcessTable, is_first_of_its_machine
from coordinator.errors import RetryLater
from coordinator.testing import eventually, make_request

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="containers take root")

NODE = "launch-1-0"
SETTINGS = {"boot_command": '["/bin/true"]'}

#: Kills its own process, or only the child that it forked, at the n-th thing that it does to
#: the world outside; or counts those things and says how many there were.
WATCH = """
import os as _os, signal as _signal, sys as _sys
def _watch(left, who="self", world=("open", "os.", "subprocess.", "fcntl.", "ctypes.dlsym")):
    own, seen = _os.getpid(), 0
    def hook(event, arguments):
        nonlocal seen
        if event == "os.kill" or (who == "self") != (_os.getpid() == own):
            return
        if event.startswith(world) and not (event == "open" and "/lib/" in str(arguments[0])):
            seen += 1
            if seen > left >= 0:
                _os.kill(_os.getpid(), _signal.SIGKILL)
                _os._exit(137)  # the first process of a machine can't kill itself
    _sys.addaudithook(hook)
    return lambda: seen
"""

CALLER = """
from pathlib import Path
from coordinator.clouds.container import ContainerCloud
from coordinator.testing import make_request
cloud = ContainerCloud.from_settings({"boot_command": '["/bin/true"]'}, Path(_sys.argv[2]))
seen = _watch(int(_sys.argv[1]))
cloud.launch(make_request())
print(seen())
"""


@pytest.fixture
def place(tmp_path):
    """A directory for many clouds' machines, all of which are ended."""
    yield tmp_path
    records = [json.loads(file.read_text()) for file in tmp_path.rglob(RECORD)]
    table = ProcessTable()
    marks = [record["mark"] for record in records]
    table.end(marks, timeout=20)
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()


def call(point, root):
    words = [sys.executable, "-c", WATCH + CALLER, str(point), str(root)]
    return subprocess.run(words, timeout=60, capture_output=True, text=True)


def inits_of(root):
    """How many first processes of the machine there are."""
    mark = json.loads((root / NODE / RECORD).read_text())["mark"]
    return sum(is_first_of_its_machine(process.pid) for process in ProcessTable().of([mark]))


def test_killing_whoever_launches_at_any_point_leaves_one_machine(place):
    total = int(call(-1, place / "counted").stdout)
    assert total > 100  # the hook does see something
    # Most points are files of the disk, one like another; at the end a process is started.
    for point in [0, 4, *range(10, total - 12, total // 3), *range(total - 12, total, 3)]:
        root = place / str(point)
        killed = call(point, root)
        assert killed.returncode == -signal.SIGKILL
        cloud = ContainerCloud.from_settings(SETTINGS, root)
        cloud.launch(make_request())
        [machine] = cloud.list_instances("run-1")
        assert machine.state is MachineState.RUNNING, f"killed at point {point}"
        eventually(lambda m=machine, c=cloud: "ended well" in c.console_output(m.cloud_id))
        assert inits_of(root) == 1, f"killed at point {point}"
        cloud.terminate([machine.cloud_id])
        assert inits_of(root) == 0, f"killed at point {point}"


@pytest.mark.parametrize("who", ["self", "child"])
@pytest.mark.parametrize("what", ["launcher", "setup"])
def test_killing_what_starts_a_machine_at_any_point_never_starts_two(
    place, tmp_path, monkeypatch, what, who
):
    original = Path(machine_launcher.__file__).read_text()
    plain = container_start.script
    states = []
    point = 0
    while MachineState.RUNNING not in states[-2:] or what == "launcher":
        watch = f"{WATCH}_watch({point}, {who!r})\n"
        if what == "launcher":
            killing = tmp_path / f"launcher-{point}.py"
            killing.write_text(watch + original)
            monkeypatch.setattr(machine_launcher, "__file__", str(killing))
        else:
            monkeypatch.setattr(
                container_start, "script", lambda m, w=watch: killing_in(plain, m, w)
            )
        root = place / str(point)
        cloud = ContainerCloud.from_settings(SETTINGS, root)
        killed = False
        try:
            cloud.launch(make_request())
        except RetryLater:
            killed = True
        monkeypatch.undo()
        cloud.launch(make_request())
        eventually(
            lambda r=root, c=cloud: (
                (inits_of(r), c.list_instances("run-1")[0].state)
                in ((0, MachineState.GONE), (1, MachineState.RUNNING))
            ),
            what=f"one machine or none when killed at point {point}",
        )
        [machine] = cloud.list_instances("run-1")
        states.append(machine.state)
        cloud.terminate([machine.cloud_id])
        assert inits_of(root) == 0
        if what == "launcher" and machine.state is MachineState.RUNNING and not killed:
            break
        point += 1 if what == "launcher" else 4
        assert point < 200
    assert len(states) > 2


def killing_in(plain, module, watch):
    *words, source, top = plain(module)
    return [*words, f"{watch}{source}", top]
