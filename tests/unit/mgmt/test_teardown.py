"""Teardown: what protects workers, what resumes, what the receipt says."""

from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from agent.rpc_client import CallTimeout, RemoteError, UnknownService
from coordinator.errors import EpuError
from mgmt import teardown
from mgmt.exit_codes import WorkersRemain, verdict
from mgmt.teardown import Clock, Teardown, Wishes
from mgmt.teardown_record import (
    Inventory,
    Listing,
    Machine,
    Step,
    StepState,
    progress_text,
    record_of,
)


class World:
    """A run: workers in a cloud, a coordinator that ends them, levels below.

    ``pace``: how many looks at the progress a worker needs to go. Time is simulated.
    """

    def __init__(self, directory: Path, workers: int = 3, pace: int = 1) -> None:
        self.directory = directory
        self.machines = [f"l-{index}" for index in range(workers)]
        self.base_services = ["broker", "provisioner", "epu-sleeper"]
        self.pace = pace
        self.time = 1000.0
        self.done: list[str] = []
        self.name_is_free = False
        self.ended_by_clouds = 0
        self.said: list[str] = []
        self.coordinator_answers = True
        self.cloud_answers = True
        self.forgets: set[str] = set()
        self.fails_at = ""
        self.adopted: list[str] = []
        #: Node id -> for how many questions it goes on after its cloud called it gone.
        self.denied: dict[str, int] = {}
        self.drain_timeout = 60.0
        self.window = 0.0
        self.hidden_until = 0.0

    # the coordinator
    def call(self, service: str, method: str, *args: Any, timeout: float) -> Any:
        if not self.coordinator_answers:
            self.time += 0.1
            raise UnknownService(f"nobody answers for '{service}'")
        if method == "live_nodes":
            return [{"node_id": name, "pool": "p"} for name in self.machines]
        if method == "freeze":
            self.done.append("freeze")
            return None
        if method == "terminate_all":
            self.done.append("terminate_all now" if args[0] else "terminate_all")
            return self._progress()
        if method == "stop_denied":
            self.denied = {name: left - 1 for name, left in self.denied.items() if left > 0}
            known = {"cloud": "here", "cloud_id": None, "drain_timeout": self.drain_timeout}
            return [{"node_id": name, **known} for name in self.denied]
        assert method == "progress"
        if any(step.startswith("terminate_all") for step in self.done):
            self.machines = self.machines[self.pace :]
        return self._progress()

    def _progress(self) -> dict[str, Any]:
        known = [name for name in self.machines if name not in self.forgets]
        states = {"TERMINATING": len(known)}
        return {"remaining": known, "done": not known, "states": states, "adopted": self.adopted}

    # the base
    def services(self) -> list[str]:
        return list(self.base_services)

    def terminate(self, leave_workers: bool) -> None:
        if self.fails_at == "levels":
            raise EpuError("service broker: its terminate program failed")
        self.done.append("levels")
        self.base_services = []
        self.coordinator_answers = False

    def workers_are_gone(self) -> None:
        self.name_is_free = True

    def end_machines(self, listing: Listing) -> None:
        self.ended_by_clouds = len(listing.machines)
        ended = {machine.node_id for machine in listing.machines}
        self.machines = [name for name in self.machines if name not in ended]

    def list_clouds(self) -> Listing:
        if not self.cloud_answers:
            return Listing(problems={"here": "credentials rejected"})
        machines = tuple(
            Machine(cloud="here", cloud_id=f"m-{name}", pool="p", node_id=name)
            for name in self.machines
            if self.time >= self.hidden_until
        )
        return Listing(machines=machines, window=self.window)

    def sleep(self, seconds: float) -> None:
        self.time += seconds

    def teardown(self, say: Any = None) -> Teardown:
        return Teardown(
            run="demo",
            directory=self.directory,
            base=self,
            list_clouds=self.list_clouds,
            end_machines=self.end_machines,
            call=self.call,
            say=say or self.said.append,
            clock=Clock(now=lambda: self.time, monotonic=lambda: self.time, sleep=self.sleep),
        )

    def kept(self) -> Any:
        return record_of(json.loads((self.directory / "teardown.json").read_text()))


def test_workers_go_first_then_the_levels_and_the_receipt_says_nothing_is_left(tmp_path):
    world = World(tmp_path)
    receipt = world.teardown().perform(Wishes())
    assert world.done == ["freeze", "terminate_all", "levels"]
    assert receipt.before == Inventory(
        workers=("l-0", "l-1", "l-2"), services=("broker", "provisioner", "epu-sleeper")
    )
    assert receipt.clean
    assert receipt.ended_at > receipt.started_at
    written = json.loads((tmp_path / "receipt.json").read_text())
    assert written["clean"] is True
    assert written["left"] == {"workers": [], "services": []}
    assert stat.S_IMODE((tmp_path / "receipt.json").stat().st_mode) == 0o600


def test_machines_that_people_booted_are_in_the_receipt_as_left_to_their_owners(tmp_path):
    world = World(tmp_path)
    world.adopted = ["p-a1-0", "p-a1-1"]
    receipt = world.teardown().perform(Wishes())
    assert receipt.clean and receipt.adopted == ("p-a1-0", "p-a1-1")
    assert json.loads((tmp_path / "receipt.json").read_text())["adopted"] == world.adopted
    text = "\n".join(receipt.lines())
    assert "machines left to their owners: p-a1-0, p-a1-1" in text
    assert "adopted" not in "\n".join(World(tmp_path / "b").teardown().perform(Wishes()).lines())


def test_workers_that_do_not_go_in_time_leave_the_base_standing(tmp_path):
    world = World(tmp_path, pace=0)
    with pytest.raises(WorkersRemain, match="base system was left standing"):
        world.teardown().perform(Wishes(timeout=30))
    assert "levels" not in world.done
    assert world.services()
    assert not (tmp_path / "receipt.json").exists()
    assert world.kept().steps[Step.CONFIRM_WORKERS.value].state is StepState.FAILED


def test_running_it_again_goes_on_and_counts_from_the_first_attempt(tmp_path):
    world = World(tmp_path, pace=0)
    with pytest.raises(WorkersRemain):
        world.teardown().perform(Wishes(timeout=30))
    world.pace = 3
    receipt = world.teardown().perform(Wishes(now=True))
    assert world.done == ["freeze", "terminate_all", "freeze", "terminate_all now", "levels"]
    assert receipt.attempts == 2
    assert list(receipt.steps) == [step.value for step in Step][:-1], "in their order"
    assert receipt.started_at == 1000.0
    assert receipt.before.workers == ("l-0", "l-1", "l-2")


def test_a_worker_that_the_provisioner_forgot_but_the_cloud_lists_holds_everything(tmp_path):
    world = World(tmp_path, pace=0)
    world.forgets = {"l-0", "l-1", "l-2"}
    with pytest.raises(WorkersRemain, match="still listed: l-0"):
        world.teardown().perform(Wishes(timeout=5))
    assert "levels" not in world.done


def test_a_cloud_that_cannot_be_listed_is_never_nothing_left(tmp_path):
    world = World(tmp_path, workers=0)
    world.cloud_answers = False
    with pytest.raises(WorkersRemain, match="can't be listed: credentials rejected"):
        world.teardown().perform(Wishes(timeout=5))
    assert "levels" not in world.done


def test_without_a_provisioner_but_with_workers_it_refuses(tmp_path):
    world = World(tmp_path)
    world.coordinator_answers = False
    with pytest.raises(WorkersRemain, match="provisioner can't be asked.*l-0"):
        world.teardown().perform(Wishes())
    assert world.done == []
    assert world.time - 1000 < 10


def test_without_a_provisioner_and_without_workers_the_levels_go(tmp_path):
    world = World(tmp_path, workers=0)
    world.coordinator_answers = False
    assert world.teardown().perform(Wishes()).clean
    assert world.done == ["levels"]


def test_a_provisioner_that_comes_back_within_seconds_is_waited_for(tmp_path):
    world = World(tmp_path)
    world.coordinator_answers = False

    def sleep(seconds: float) -> None:
        world.time += seconds
        world.coordinator_answers = world.time > 1003

    world.sleep = sleep  # type: ignore[method-assign]
    assert world.teardown().perform(Wishes()).clean
    assert "terminate_all" in world.done


def test_a_controller_that_does_not_answer_does_not_stop_a_teardown(tmp_path):
    world = World(tmp_path)
    answer = world.call

    def call(service: str, method: str, *args: Any, timeout: float) -> Any:
        if service == "controller":
            world.done.append("freeze")
            raise CallTimeout("no answer")
        return answer(service, method, *args, timeout=timeout)

    world.call = call  # type: ignore[method-assign]
    assert world.teardown().perform(Wishes()).clean
    assert "does not answer" in world.kept().steps[Step.FREEZE.value].detail


def test_a_provisioner_that_fails_for_a_moment_while_workers_go_is_asked_again(tmp_path):
    world = World(tmp_path)
    answer = world.call
    failures = iter([RemoteError("OperationalError", "database is locked")])

    def call(service: str, method: str, *args: Any, timeout: float) -> Any:
        if method == "progress" and (failure := next(failures, None)):
            raise failure
        return answer(service, method, *args, timeout=timeout)

    world.call = call  # type: ignore[method-assign]
    assert world.teardown().perform(Wishes()).clean


def test_a_level_that_cannot_be_ended_is_an_error_and_can_be_tried_again(tmp_path):
    world = World(tmp_path)
    world.fails_at = "levels"
    with pytest.raises(EpuError, match="terminate program failed"):
        world.teardown().perform(Wishes())
    assert not (tmp_path / "receipt.json").exists()
    world.fails_at = ""
    assert world.teardown().perform(Wishes()).clean


def test_a_second_teardown_of_a_gone_system_finds_the_receipt_and_touches_nothing(tmp_path):
    world = World(tmp_path)
    assert world.teardown().earlier_receipt() is None
    world.teardown().perform(Wishes())
    before = (tmp_path / "receipt.json").read_bytes()
    again = world.teardown().earlier_receipt()
    assert again is not None
    assert again["run"] == "demo"
    assert (tmp_path / "receipt.json").read_bytes() == before


def test_an_old_receipt_does_not_hide_a_machine_that_came_back(tmp_path):
    world = World(tmp_path)
    world.teardown().perform(Wishes())
    world.machines = ["l-9"]
    assert world.teardown().earlier_receipt() is None
    assert world.teardown().perform(Wishes()).document()["clean"]
    assert not world.machines and world.ended_by_clouds == 1


def test_workers_left_on_purpose_are_in_the_receipt(tmp_path):
    world = World(tmp_path)
    receipt = world.teardown().perform(Wishes(leave_workers=True))
    assert world.done == ["levels"]
    assert not receipt.clean
    assert receipt.left.workers == ("l-0", "l-1", "l-2")
    assert "(left on purpose)" in "\n".join(receipt.lines())


def test_a_preview_changes_nothing(tmp_path):
    world = World(tmp_path)
    there = world.teardown().preview()
    assert there.workers == ("l-0", "l-1", "l-2")
    assert world.done == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kill_at", range(1, 9))
def test_a_teardown_that_dies_at_any_point_goes_on_when_run_again(tmp_path, kill_at):
    world = World(tmp_path)
    steps = 0

    def say(_: str) -> None:
        nonlocal steps
        steps += 1
        if steps == kill_at:
            raise KeyboardInterrupt

    try:
        world.teardown(say).perform(Wishes())
    except KeyboardInterrupt:
        receipt = world.teardown().perform(Wishes())
        assert receipt.clean
        assert receipt.before.workers in ((), ("l-0", "l-1", "l-2"))
    assert world.machines == []
    assert world.services() == []
    assert json.loads((tmp_path / "receipt.json").read_text())["clean"] is True


def test_a_record_that_was_cut_off_is_begun_anew(tmp_path):
    (tmp_path / "teardown.json").write_text('{"run": "de')
    assert World(tmp_path).teardown().perform(Wishes()).clean


def test_two_teardowns_of_one_run_do_not_work_at_the_same_time(tmp_path):
    world = World(tmp_path)
    problems: list[str] = []

    def say(_: str) -> None:
        if not problems:
            try:
                world.teardown().perform(Wishes())
            except EpuError as problem:
                problems.append(str(problem))

    world.teardown(say).perform(Wishes())
    assert problems == ["another teardown of run demo is at work"]


def test_every_step_is_an_event_in_a_log_of_its_own(tmp_path):
    World(tmp_path).teardown().perform(Wishes())
    lines = (tmp_path / "logs" / "teardown.log").read_text().splitlines()
    assert all(line.startswith("EPU_EVENT {") for line in lines)
    events = [json.loads(line.removeprefix("EPU_EVENT ")) for line in lines]
    assert [event["name"] for event in events] == [f"teardown_{step.value}" for step in Step]
    assert {event["run"] for event in events} == {"demo"}


def test_the_receipt_reads_well(tmp_path):
    lines = World(tmp_path).teardown().perform(Wishes()).lines()
    assert lines[0] == "Receipt for run demo"
    assert "3 workers (l-0, l-1, l-2) and 3 services" in lines[1]
    assert lines[2].split() == ["is", "left", "nothing"]


def test_progress_is_one_line_with_the_problems_of_clouds():
    text = progress_text(
        {
            "remaining": ["a", "b"],
            "states": {"DRAINING": 2, "RUNNING": 0, "TERMINATED": 3},
            "clouds": {"west": {"problem": "throttled"}, "here": {"problem": ""}},
        }
    )
    assert text == "2 workers left (2 DRAINING); cloud west: throttled"


def full_disk(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Files of these names can't be written any more."""
    write = teardown.write_private

    def refuse(path: Path, content: str) -> None:
        if path.name in names:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        write(path, content)

    monkeypatch.setattr(teardown, "write_private", refuse)


def test_a_full_disk_does_not_keep_workers_and_levels_from_being_ended(tmp_path, monkeypatch):
    world = World(tmp_path)
    full_disk(monkeypatch, "teardown.json")
    (tmp_path / "logs").write_text("no directory: nothing can be logged")
    assert world.teardown().perform(Wishes()).clean
    assert world.machines == [] and world.services() == []
    warnings = [line for line in world.said if line.startswith("warning: ")]
    assert len(warnings) == 2, "one for each file, once"


def test_a_receipt_that_cannot_be_written_is_an_error_that_says_all_was_ended(
    tmp_path, monkeypatch
):
    world = World(tmp_path)
    full_disk(monkeypatch, "teardown.json", "receipt.json")
    with pytest.raises(EpuError, match="everything was ended, but the receipt") as found:
        world.teardown().perform(Wishes())
    assert verdict(found.value)[0] == 1
    assert world.machines == [] and world.services() == []


def test_clouds_that_cannot_be_asked_for_want_of_disk_leave_the_base_standing(tmp_path):
    world = World(tmp_path)

    def fail() -> Listing:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    world.list_clouds = fail  # type: ignore[method-assign]
    with pytest.raises(WorkersRemain, match="not confirmed gone"):
        world.teardown().perform(Wishes())
    assert "levels" not in world.done and world.services()


def test_workers_left_running_over_an_ended_base_are_ended_by_the_clouds(tmp_path: Path) -> None:
    """Nobody else is left to end them, and they cost money."""
    world = World(tmp_path)
    world.teardown().perform(Wishes(leave_workers=True))
    assert world.machines and not world.services() and not world.name_is_free
    receipt = world.teardown().perform(Wishes())
    assert not world.machines and world.name_is_free and world.ended_by_clouds == 3
    assert receipt.document()["clean"]


def test_a_listing_that_lags_proves_nothing_before_its_window_is_over(tmp_path: Path) -> None:
    """The provisioner is lost, and had launched something just before."""
    world = World(tmp_path, workers=2)
    world.base_services, world.coordinator_answers = [], False
    world.window, world.hidden_until = 60.0, world.time + 40
    receipt = world.teardown().perform(Wishes())
    assert not world.machines and world.ended_by_clouds == 2
    assert world.time >= world.hidden_until + world.window
    assert receipt.document()["clean"]


def test_no_time_for_a_listing_that_lags_leaves_the_base_standing(tmp_path: Path) -> None:
    world = World(tmp_path, workers=0)
    world.coordinator_answers, world.window = False, 60.0
    with pytest.raises(WorkersRemain, match="may lag 60 s"):
        world.teardown().perform(Wishes(timeout=30))
    assert world.services()


def test_workers_below_a_standing_base_are_its_provisioners_business(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.coordinator_answers = False
    with pytest.raises(WorkersRemain, match="epu repair"):
        world.teardown().perform(Wishes())
    assert world.machines and not world.ended_by_clouds


# ------------------------------------------------------------------ machines that clouds deny


def test_machines_that_their_clouds_deny_are_told_to_stop_and_are_in_the_receipt(tmp_path):
    world = World(tmp_path)
    world.denied = {"z-0": 5, "z-1": 1}
    receipt = world.teardown().perform(Wishes())
    assert receipt.clean and [(one.node_id, one.silent) for one in receipt.denied] == [
        ("z-0", True),
        ("z-1", True),
    ]
    assert world.denied == {}, "their last jobs were waited for before the broker went"
    assert "told to stop" in "\n".join(receipt.lines())
    assert json.loads((tmp_path / "receipt.json").read_text())["denied"][0]["node_id"] == "z-0"


@pytest.mark.parametrize(("now", "waits"), [(False, 65), (True, 5)])
def test_a_machine_that_does_not_stop_is_waited_for_as_long_as_a_drain_and_named(
    tmp_path, now, waits
):
    world = World(tmp_path, workers=0)
    world.denied = {"z-0": 10_000}
    began = world.time
    receipt = world.teardown().perform(Wishes(now=now))
    assert waits <= world.time - began <= waits + 5
    assert [one.silent for one in receipt.denied] == [False]
    assert "still speaking: z-0" in receipt.steps["stop_denied"].detail
    assert world.done[-1] == "levels"


def test_who_was_told_in_an_attempt_that_was_cut_short_is_in_the_receipt_of_the_next(tmp_path):
    world = World(tmp_path)
    world.denied = {"z-0": 2}
    world.cloud_answers = False
    with pytest.raises(WorkersRemain):
        world.teardown().perform(Wishes(timeout=3))
    world.cloud_answers, world.denied = True, {}
    receipt = world.teardown().perform(Wishes())
    assert [(one.node_id, one.silent) for one in receipt.denied] == [("z-0", True)]


def test_a_coordinator_that_can_not_tell_them_keeps_no_teardown_from_its_end(tmp_path):
    world = World(tmp_path)
    ask = world.call

    def of_before(service, method, *args, timeout):
        if method == "stop_denied":
            raise RemoteError("MethodNotFound", "stop_denied")
        return ask(service, method, *args, timeout=timeout)

    world.call = of_before
    receipt = world.teardown().perform(Wishes())
    assert receipt.clean and "not known" in receipt.steps["stop_denied"].detail
