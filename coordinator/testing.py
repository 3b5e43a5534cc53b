"""For whoever tests this system or a plugin of it: a clock, builders, driver contract tests.

Plugin authors inherit ``CloudDriverContract`` in a test module of their own:

    class TestMyCloud(CloudDriverContract):
        def make_driver(self):
            return MyCloud(self.account)

        def wait(self, seconds):
            time.sleep(seconds)
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any
from uuid import uuid4

from coordinator.clouds.base import CloudDriver, CloudInstance, LaunchRequest, MachineState
from coordinator.errors import LaunchRefused


class FakeClock:
    """A clock that moves when it is told to. Call it for the time, epoch seconds."""

    def __init__(self, now: float = 1_000_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> float:
        """Let ``seconds`` pass; gives the new time."""
        self.now += seconds
        return self.now


def eventually(
    condition: Callable[[], Any], timeout: float = 10.0, pause: float = 0.02, what: str = ""
) -> Any:
    """The first true value of ``condition()``. AssertionError after ``timeout`` seconds.

    A test waits with this for another process; it never sleeps for a fixed time. ``pause``:
    seconds between two looks, more where a look takes long: others have the processors, too.
    """
    deadline = time.monotonic() + timeout
    while True:
        began = time.monotonic()
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout:g} s: {what or condition}")
        time.sleep(max(pause, min(2 * (time.monotonic() - began), 0.3)))


def make_request(launch_id: str = "launch-1", **changes: Any) -> LaunchRequest:
    """A LaunchRequest for one machine, with ``changes``."""
    request = LaunchRequest(
        launch_id=launch_id, run="run-1", pool="sleepers", count=1, user_data='{"version": 1}'
    )
    return replace(request, **changes)


class CloudDriverContract:
    """What every cloud driver must do. Inherit it and write the two methods below.

    A contract test asserts what the cloud lists, never which calls were made. ``patience``
    is how long, in the cloud's own time, a change may take on top of the driver's
    ``consistency_window``; ``settings`` are template keys that a launch needs.
    """

    patience: float = 30.0
    settings: dict[str, str] = {}

    def make_driver(self) -> CloudDriver:
        """A new driver object; all of one test's open the *same* cloud."""
        raise NotImplementedError

    def wait(self, seconds: float) -> None:
        """Let ``seconds`` of the cloud's time pass: sleep, or advance its clock."""
        raise NotImplementedError

    # -------------------------------------------------------------- around each test

    def setup_method(self) -> None:
        self.run = f"run-{uuid4().hex[:8]}"
        self._runs = [self.run]

    def teardown_method(self) -> None:
        self._settle()
        for run in self._runs:
            left = [m.cloud_id for m in self._live(run)]
            if left:
                self.make_driver().terminate(left)

    # -------------------------------------------------------------- launching

    def test_a_launch_shows_in_the_listing_with_its_tags(self) -> None:
        request = self._request(pool="sleepers")
        before = self.make_driver().list_instances(self.run)
        self.make_driver().launch(request)
        [machine] = self._listed(1)
        assert not before
        assert machine.cloud_id
        assert machine.run == self.run
        assert machine.pool == "sleepers"
        assert machine.launch_id == request.launch_id
        assert machine.index == 0

    def test_a_batch_has_each_index_once(self) -> None:
        if not self.make_driver().batches:
            return
        self.make_driver().launch(self._request(count=3))
        machines = self._listed(3)
        assert sorted(m.index for m in machines) == [0, 1, 2]
        assert len({m.cloud_id for m in machines}) == 3

    def test_a_repeated_launch_id_launches_nothing_more(self) -> None:
        driver, request = self.make_driver(), self._request()
        driver.launch(request)
        driver.launch(request)
        first = self._listed(1)
        driver.launch(request)
        self.make_driver().launch(request)
        self._settle()
        assert [m.cloud_id for m in self._live()] == [m.cloud_id for m in first]

    def test_the_same_launch_at_the_same_time_from_several_callers_happens_once(self) -> None:
        count = 2 if self.make_driver().batches else 1
        request = self._request(count=count)
        drivers = [self.make_driver() for _ in range(4)]
        _at_once([partial(driver.launch, request) for driver in drivers])
        self._listed(count)
        self._settle()
        assert sorted(m.index for m in self._live()) == list(range(count))

    def test_one_driver_launches_lists_and_terminates_at_the_same_time(self) -> None:
        driver = self.make_driver()
        driver.launch(self._request())
        [old] = self._listed(1)
        requests = [self._request() for _ in range(3)]
        _at_once(
            [
                *(partial(driver.launch, request) for request in requests),
                lambda: driver.list_instances(self.run),
                lambda: driver.terminate([old.cloud_id]),
            ]
        )
        wanted = {request.launch_id for request in requests}
        self._until(lambda: {m.launch_id for m in self._live()} == wanted)

    def test_user_data_may_be_long_and_in_any_script(self) -> None:
        text = '{"note": "Grüße, 世界, 🚀, \\u0000, %(x)s, {{ x }}, $HOME, `id`, \'quoted\'"}\n'
        self.make_driver().launch(self._request(user_data=text + " " * 12_000))
        self._listed(1)

    def test_a_launch_id_of_another_run_is_refused_and_touches_nothing(self) -> None:
        request = self._request()
        self.make_driver().launch(request)
        try:
            self.make_driver().launch(replace(request, run=self._other_run()))
        except LaunchRefused:
            refused = True
        else:
            refused = False
        assert refused
        assert self._listed(1)

    # -------------------------------------------------------------- listing

    def test_a_listing_can_be_limited_to_launch_ids(self) -> None:
        driver = self.make_driver()
        requests = [self._request(), self._request()]
        for request in requests:
            driver.launch(request)
        self._listed(2)
        wanted = requests[1].launch_id
        assert [m.launch_id for m in driver.list_instances(self.run, [wanted])] == [wanted]
        assert not driver.list_instances(self.run, [])
        assert not driver.list_instances(self.run, ["launch-nobody-made"])

    def test_another_run_is_neither_listed_nor_touched(self) -> None:
        driver, other = self.make_driver(), self._other_run()
        driver.launch(self._request(run=other))
        driver.launch(self._request())
        [ours] = self._listed(1)
        [theirs] = self._live(other)
        driver.terminate([ours.cloud_id])
        self._until(lambda: not self._live())
        self._settle()
        assert [m.cloud_id for m in self._live(other)] == [theirs.cloud_id]

    def test_an_unknown_run_has_no_machines(self) -> None:
        assert not self.make_driver().list_instances("run-nobody-made")

    # -------------------------------------------------------------- terminating

    def test_a_terminated_machine_goes_and_its_neighbour_stays(self) -> None:
        driver = self.make_driver()
        driver.launch(self._request())
        driver.launch(self._request())
        first, second = self._listed(2)
        driver.terminate([first.cloud_id])
        self._until(lambda: [m.cloud_id for m in self._live()] == [second.cloud_id])

    def test_terminating_again_is_no_error(self) -> None:
        driver = self.make_driver()
        driver.launch(self._request())
        [machine] = self._listed(1)
        driver.terminate([machine.cloud_id])
        driver.terminate([machine.cloud_id])
        self._until(lambda: not self._live())
        self.make_driver().terminate([machine.cloud_id])

    def test_terminating_unknown_or_no_machines_is_no_error(self) -> None:
        driver = self.make_driver()
        driver.launch(self._request())
        [machine] = self._listed(1)
        driver.terminate([unknown_id(machine.cloud_id)])
        driver.terminate([])
        self._settle()
        assert self._live()

    def test_a_terminated_launch_never_starts_again(self) -> None:
        driver, request = self.make_driver(), self._request()
        driver.launch(request)
        [machine] = self._listed(1)
        driver.terminate([machine.cloud_id])
        self._until(lambda: not self._live())
        driver.launch(request)
        self.make_driver().launch(request)
        self._settle()
        assert not self._live()

    def test_the_console_of_an_unknown_machine_is_no_error(self) -> None:
        driver = self.make_driver()
        driver.launch(self._request())
        [machine] = self._listed(1)
        known = driver.console_output(machine.cloud_id)
        assert known is None or isinstance(known, str)
        assert not driver.console_output(f"{machine.cloud_id}0")

    # -------------------------------------------------------------- inside

    def _request(self, **changes: Any) -> LaunchRequest:
        launch_id = f"launch-{uuid4().hex[:12]}"
        return make_request(launch_id, **{"run": self.run, "settings": self.settings, **changes})

    def _other_run(self) -> str:
        self._runs.append(f"run-{uuid4().hex[:8]}")
        return self._runs[-1]

    def _live(self, run: str | None = None) -> Sequence[CloudInstance]:
        ended = {MachineState.GONE, MachineState.STOPPING}
        found = self.make_driver().list_instances(run or self.run)
        return [machine for machine in found if machine.state not in ended]

    def _listed(self, count: int) -> Sequence[CloudInstance]:
        self._until(lambda: len(self._live()) >= count)
        self._settle()  # the next listing may come from a replica that is behind
        machines = self._live()
        assert len(machines) == count
        return machines

    def _settle(self) -> None:
        """Until everything that was done so far must be in the listing."""
        self.wait(self.make_driver().consistency_window)

    def _until(self, condition: Callable[[], Any]) -> Any:
        left = self.patience + self.make_driver().consistency_window
        while not (value := condition()):
            assert left > 0, "the cloud did not get there in time"
            self.wait(0.1)
            left -= 0.1
        return value


def unknown_id(cloud_id: str) -> str:
    """An id that no machine has: the shape of an id is the cloud's own, so of a known one."""
    end = "".join(
        str((int(letter, 36) + 1) % 10) if letter.isascii() and letter.isalnum() else letter
        for letter in cloud_id[-6:]
    )
    return cloud_id[:-6] + end


def _at_once(calls: Sequence[Callable[[], object]]) -> None:
    """Run ``calls`` in threads of their own; raises the first error of any."""
    start = threading.Barrier(len(calls))
    errors: list[Exception] = []

    def one(call: Callable[[], object]) -> None:
        start.wait()
        try:
            call()
        except Exception as problem:
            errors.append(problem)

    threads = [threading.Thread(target=one, args=(call,), daemon=True) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads), "a call did not return"
    if errors:
        raise errors[0]
