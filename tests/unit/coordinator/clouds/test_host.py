"""A driver hosted in a process of its own: deadlines, deaths, and nobody waits for another."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from agent.wire import to_wire
from coordinator.clouds.base import CloudInstance, MachineState
from coordinator.clouds.host import DriverHost
from coordinator.errors import (
    ConfigProblem,
    CredentialsRejected,
    InsufficientCapacity,
    LaunchRefused,
    RetryLater,
)
from coordinator.provisioner.cloud_process import CloudProcess
from coordinator.testing import eventually, make_request

#: A driver that does what the launch id says, and waits for files to appear.
DRIVER = """
import os, time
from pathlib import Path
from coordinator import errors
from coordinator.clouds.base import CloudInstance, MachineState

class Throttled(errors.RetryLater):
    pass

class Scripted:
    consistency_window = 1.5
    batches = False
    user_data_form = "cloud-init"

    def __init__(self, place):
        self.place = place

    @classmethod
    def from_settings(cls, settings, state_dir):
        if "wrong" in settings:
            raise errors.ConfigProblem([errors.Problem(key="wrong", what="is wrong", remedy="no")])
        if "slow" in settings:
            time.sleep(60)
        return cls(state_dir)

    def launch(self, request):
        name = request.launch_id
        if name.startswith("wait"):
            (self.place / f"{name}.begun").touch()
            while not (self.place / f"{name}.go").exists():
                time.sleep(0.01)
            (self.place / f"{name}.done").touch()
        elif name == "exit":
            os._exit(3)
        elif name == "defect":
            {}["key"]
        elif name == "throttled":
            raise Throttled("slow down")
        elif hasattr(errors, name):
            raise getattr(errors, name)("said the cloud")
        else:
            (self.place / name).write_text(request.user_data)

    def list_instances(self, run, launch_ids=None):
        return [CloudInstance(cloud_id="c1", run=run, pool="p", launch_id=str(launch_ids),
                index=0, state=MachineState.GONE, addresses=("10.0.0.1", "::1"), price=0.5)]

    def terminate(self, cloud_ids):
        (self.place / "terminated").write_text(" ".join(cloud_ids))

    def console_output(self, cloud_id):
        return None if cloud_id == "none" else f"console of {cloud_id} ü"
"""

EXPLAINING = (
    DRIVER.replace("class Scripted", "class Plain")
    + """
class Scripted(Plain):
    def boot_status(self, cloud_id):
        return None if cloud_id == "none" else f"status: done, {cloud_id}"
"""
)

SETTINGS = {"driver": "scripted_driver:Scripted"}


@pytest.fixture
def place(tmp_path, monkeypatch):
    (tmp_path / "scripted_driver.py").write_text(DRIVER)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    return tmp_path


@pytest.fixture
def make_cloud(place):
    clouds = []

    def make(deadlines=None, **settings):
        clouds.append(CloudProcess("far", {**SETTINGS, **settings}, place, deadlines))
        return clouds[-1]

    yield make
    pids = [cloud.pid for cloud in clouds if cloud.pid]
    for cloud in clouds:
        cloud.close()
    for pid in pids:
        eventually(lambda pid=pid: not is_running(pid))


def is_running(pid):
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return text[text.rindex(")") + 2] not in "ZX"


def in_thread(call):
    """Runs ``call``; the dict that is returned has its outcome once it ended."""
    outcome = {}

    def run():
        try:
            outcome["result"] = call()
        except Exception as problem:
            outcome["error"] = problem

    threading.Thread(target=run, daemon=True).start()
    return outcome


# ------------------------------------------------------------------ calls


def test_a_hosted_driver_says_what_it_is(make_cloud):
    cloud = make_cloud()
    assert cloud.consistency_window == 1.5
    assert cloud.batches is False
    assert cloud.user_data_form == "cloud-init"


def test_values_come_through_unchanged_in_both_directions(make_cloud, place):
    cloud = make_cloud()
    cloud.launch(make_request("plain", user_data="ü \u2028 \x00 \n" + "x" * 1_000_000))
    assert (place / "plain").read_text() == "ü \u2028 \x00 \n" + "x" * 1_000_000
    assert cloud.list_instances("r", ["l"]) == [
        CloudInstance(
            cloud_id="c1",
            run="r",
            pool="p",
            launch_id="['l']",
            index=0,
            state=MachineState.GONE,
            addresses=("10.0.0.1", "::1"),
            price=0.5,
        )
    ]
    assert cloud.list_instances("r")[0].launch_id == "None"
    cloud.terminate(["a", "b"])
    assert (place / "terminated").read_text() == "a b"
    assert cloud.console_output("c1") == "console of c1 ü"
    assert cloud.console_output("none") is None
    assert cloud.boot_status("c1") is None, "this driver can't tell"


def test_a_driver_that_explains_boots_is_asked(make_cloud, place):
    (place / "scripted_driver.py").write_text(EXPLAINING)
    cloud = make_cloud()
    assert cloud.boot_status("c1") == "status: done, c1"
    assert cloud.boot_status("none") is None


@pytest.mark.parametrize(
    "kind", [RetryLater, InsufficientCapacity, LaunchRefused, CredentialsRejected]
)
def test_errors_keep_their_class_and_text(make_cloud, kind):
    with pytest.raises(kind, match="said the cloud"):
        make_cloud().launch(make_request(kind.__name__))


def test_a_drivers_own_kind_of_error_is_the_nearest_of_ours(make_cloud):
    with pytest.raises(RetryLater, match="slow down"):
        make_cloud().launch(make_request("throttled"))


def test_a_defect_of_the_driver_is_named_and_tried_again(make_cloud):
    cloud = make_cloud()
    with pytest.raises(RetryLater, match="KeyError"):
        cloud.launch(make_request("defect"))
    assert cloud.list_instances("r")


def test_wrong_settings_are_named_when_it_is_made(make_cloud):
    with pytest.raises(ConfigProblem) as problem:
        make_cloud(wrong="x")
    assert [(p.key, p.what, p.remedy) for p in problem.value.problems] == [
        ("wrong", "is wrong", "no")
    ]


def test_an_unknown_driver_is_named_with_the_nearest(place):
    with pytest.raises(ConfigProblem, match="clouds.far.driver.*did you mean 'process'"):
        CloudProcess("far", {"driver": "proces"}, place)


# ------------------------------------------------------------------ nobody waits for another


def test_launches_that_hang_keep_neither_listing_nor_termination_waiting(make_cloud, place):
    cloud = make_cloud()
    names = [f"wait-{i}" for i in range(6)]  # more than there are threads for launches
    outcomes = [in_thread(lambda n=n: cloud.launch(make_request(n))) for n in names]
    eventually(lambda: len(list(place.glob("*.begun"))) >= 4)
    cloud.terminate(["a"])
    assert cloud.list_instances("r")
    assert not any(outcomes)
    for name in names:
        (place / f"{name}.go").touch()
    eventually(lambda: all(outcomes))
    assert [outcome["result"] for outcome in outcomes] == [None] * 6


def test_answers_find_their_callers_when_many_call_at_the_same_time(make_cloud):
    cloud = make_cloud()
    outcomes = {
        number: in_thread(lambda n=number: cloud.console_output(f"c{n}")) for number in range(50)
    }
    eventually(lambda: all(outcomes.values()))
    assert all(o["result"] == f"console of c{n} ü" for n, o in outcomes.items())


# ------------------------------------------------------------------ deadlines and deaths


def test_a_call_that_takes_too_long_is_given_up_and_the_next_works(make_cloud, place):
    cloud = make_cloud({"launch": 0.5})
    first = cloud.pid
    with pytest.raises(RetryLater, match=r"cloud far: launch took longer than 0.5 s"):
        cloud.launch(make_request("wait-0"))
    assert cloud.list_instances("r")
    assert cloud.pid != first
    eventually(lambda: not is_running(first))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_driver_that_is_killed_lets_its_callers_go_and_the_next_call_works(
    make_cloud, place, number
):
    cloud = make_cloud()
    outcome = in_thread(lambda: cloud.launch(make_request("wait-0")))
    eventually((place / "wait-0.begun").exists)
    os.kill(cloud.pid, number)
    eventually(lambda: outcome)
    assert isinstance(outcome["error"], RetryLater)
    assert cloud.list_instances("r")


def test_a_driver_that_exits_by_itself_is_retried_later(make_cloud):
    cloud = make_cloud()
    with pytest.raises(RetryLater, match="its process ended"):
        cloud.launch(make_request("exit"))
    assert cloud.list_instances("r")


def test_a_driver_that_is_stopped_is_replaced_after_the_deadline(make_cloud):
    cloud = make_cloud({"list_instances": 10, "launch": 0.5})
    first = cloud.pid
    os.kill(first, signal.SIGSTOP)
    with pytest.raises(RetryLater):
        cloud.launch(make_request("plain", user_data="x" * 5_000_000))  # more than a buffer
    eventually(lambda: not is_running(first))

    def answers():
        with suppress(RetryLater):  # on a busy machine the next one may start slowly, too
            return cloud.list_instances("r")

    eventually(answers, timeout=30)


def test_a_driver_that_does_not_become_ready_in_time_is_retried_later(place):
    with pytest.raises(RetryLater, match="not become ready in time"):
        CloudProcess("far", {**SETTINGS, "slow": "x"}, place, {"start": 0.5})


PROVISIONER = """
import sys, threading
from pathlib import Path
from coordinator.provisioner.cloud_process import CloudProcess
from coordinator.testing import make_request
inherited = open(sys.argv[2])
cloud = CloudProcess("far", {"driver": "scripted_driver:Scripted", "key": "s3cret"},
                     Path(sys.argv[1]))
for name in ("wait-0", "wait-1", "wait-2", "wait-3", "wait-4"):
    threading.Thread(target=cloud.launch, args=(make_request(name),), daemon=True).start()
print(cloud.pid, flush=True)
threading.Event().wait()
"""


@pytest.fixture
def provisioner(place):
    (place / "private").write_text("")
    process = subprocess.Popen(
        [sys.executable, "-c", PROVISIONER, str(place), str(place / "private")],
        stdout=subprocess.PIPE,
        text=True,
    )
    host = int(process.stdout.readline())
    yield process, host
    process.kill()
    process.wait()
    for number in range(5):  # else the host waits for its calls
        (place / f"wait-{number}.go").touch()
    eventually(lambda: not is_running(host))


def test_a_host_ends_with_its_provisioner_and_finishes_the_running_calls(provisioner, place):
    process, host = provisioner
    eventually(lambda: len(list(place.glob("*.begun"))) == 4)
    begun = {file.stem for file in place.glob("*.begun")}
    process.kill()
    process.wait()
    assert is_running(host)
    for number in range(5):
        (place / f"wait-{number}.go").touch()
    eventually(lambda: not is_running(host))
    assert {file.stem for file in place.glob("*.done")} >= begun


@pytest.fixture
def host_here(place, monkeypatch):
    """``host_here(finishing, "wait-0", …)``: a host in this process with these calls sent."""
    monkeypatch.syspath_prepend(str(place))
    ours, theirs = socket.socketpair()

    def build(finishing, *launches):
        host = DriverHost(theirs, finishing=finishing)
        hosting = threading.Thread(target=host.serve, daemon=True)
        hosting.start()
        settings = {"driver": "scripted_driver:Scripted"}
        lines = [{"name": "far", "settings": settings, "state_dir": str(place)}]
        for number, name in enumerate(launches, start=1):
            request = to_wire(make_request(name))
            lines.append({"id": number, "method": "launch", "arguments": {"request": request}})
        ours.sendall(b"".join(json.dumps(line).encode() + b"\n" for line in lines))
        return host, hosting, ours

    yield build
    for file in place.glob("*.begun"):
        file.with_suffix(".go").touch()
    ours.close()
    theirs.close()


def test_a_host_does_not_wait_for_ever_for_a_call_that_hangs(host_here, place):
    _, hosting, ours = host_here(0.1, "wait-never")
    eventually(lambda: (place / "wait-never.begun").exists())
    ours.close()
    eventually(lambda: not hosting.is_alive())
    assert not (place / "wait-never.done").exists()


def test_calls_that_nobody_began_are_dropped_at_the_streams_end(host_here, place):
    names = [f"wait-{number}" for number in range(6)]
    host, hosting, ours = host_here(60.0, *names)
    eventually(lambda: len(list(place.glob("*.begun"))) == 4)
    begun = {file.stem for file in place.glob("*.begun")}
    ours.close()
    eventually(host.is_ending)
    for name in names:
        (place / f"{name}.go").touch()
    eventually(lambda: not hosting.is_alive())
    assert {file.stem for file in place.glob("*.done")} == begun


def test_a_host_inherits_no_file_and_shows_no_setting(provisioner, place):
    _, host = provisioner
    targets = [os.readlink(fd) for fd in Path(f"/proc/{host}/fd").iterdir()]
    assert not [target for target in targets if "private" in target]
    assert sum(target.startswith("socket:") for target in targets) == 1
    assert "s3cret" not in Path(f"/proc/{host}/cmdline").read_text()
    assert "s3cret" not in Path(f"/proc/{host}/environ").read_text()


GREEN = """
import eventlet
eventlet.monkey_patch()
import json, sys, time
from pathlib import Path
from coordinator.errors import RetryLater
from coordinator.provisioner.cloud_process import CloudProcess
from coordinator.testing import make_request

place = Path(sys.argv[1])
cloud = CloudProcess("far", {"driver": "scripted_driver:Scripted"}, place, {"launch": 3.0})
ticks = 0
def tick():
    global ticks
    while True:
        eventlet.sleep(0.01)
        ticks += 1
eventlet.spawn(tick)

def slow():
    try:
        cloud.launch(make_request("wait-never"))
    except RetryLater as problem:
        return str(problem)

launch = eventlet.spawn(slow)
while not (place / "wait-never.begun").exists():
    eventlet.sleep(0.01)
callers = [eventlet.spawn(cloud.console_output, f"c{n}") for n in range(30)]
consoles = [caller.wait() for caller in callers]
cloud.terminate(["a"])
before, first = ticks, cloud.pid
said = launch.wait()
answered_after = len(cloud.list_instances("r"))
print(json.dumps({"consoles": consoles, "said": said, "ticked": ticks - before,
                  "after": answered_after, "new": cloud.pid != first}))
cloud.close()
"""


def test_greenlets_call_at_the_same_time_and_none_blocks_the_others(place):
    done = subprocess.run(
        [sys.executable, "-c", GREEN, str(place)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["consoles"] == [f"console of c{n} ü" for n in range(30)]
    assert "longer than 3 s" in told["said"]
    assert told["ticked"] > 10  # the hub turned while a call was waiting for its deadline
    assert told["after"] == 1
    assert told["new"]
