"""One history out of several event logs."""

from __future__ import annotations

from typing import Any

from agent.messages import Event
from agent.rpc_client import CallTimeout, UnknownService
from agent.wire import to_wire
from mgmt import history


def event(source: str, sequence: int, time: float, name: str = "x", **other: Any) -> Event:
    return Event(time=time, source=source, sequence=sequence, name=name, **other)


class Logs:
    """Event logs of components, answering page by page as the real ones do."""

    def __init__(self, *events: Event, silent: tuple[str, ...] = ()) -> None:
        self.events = events
        self.silent = silent
        self.pages = 0

    def __call__(self, service: str, method: str, since: int, limit: int, *, timeout: float) -> Any:
        assert method == "events"
        self.pages += 1
        if service in self.silent:
            raise UnknownService(f"nobody answers for '{service}'")
        own = [one for one in self.events if one.source == service and one.sequence > since]
        ordered = sorted(own, key=lambda one: one.sequence)
        return to_wire(ordered[limit:] if limit < 0 else ordered[:limit])


def names(found: dict[str, Any]) -> list[str]:
    return [one["name"] for one in found["events"]]


def test_events_are_merged_by_time_then_source_then_sequence():
    logs = Logs(
        event("provisioner", 1, 10.0, "c"),
        event("controller", 1, 9.0, "a"),
        event("controller", 2, 10.0, "b"),
        event("provisioner", 2, 11.0, "d"),
    )
    assert names(history.events(logs)) == ["a", "b", "c", "d"]


def test_a_clock_that_was_set_back_does_not_reorder_one_components_events():
    logs = Logs(event("controller", 1, 100.0, "first"), event("controller", 2, 40.0, "second"))
    assert names(history.events(logs)) == ["first", "second"]


def test_a_source_that_does_not_answer_is_named():
    found = history.events(Logs(event("controller", 1, 1.0), silent=("provisioner",)))
    assert found["missing"] == {"provisioner": "nobody answers for 'provisioner'"}
    assert len(found["events"]) == 1


def test_filters_are_all_applied():
    logs = Logs(
        event("controller", 1, 5.0, "old", pool="p", node="n"),
        event("controller", 2, 15.0, "fits", pool="p", node="n"),
        event("controller", 3, 15.0, "other", pool="q", node="n"),
        event("controller", 4, 15.0, "other", pool="p", node="m"),
    )
    assert names(history.events(logs, since=10.0, pool="p", node="n")) == ["fits"]
    assert names(history.events(logs, name="old")) == ["old"]


def test_the_newest_are_kept_and_the_omitted_counted():
    logs = Logs(*(event("controller", n, float(n), str(n)) for n in range(1, 6)))
    found = history.events(logs, limit=2)
    assert names(found) == ["4", "5"]
    assert found["omitted"] == 3


def test_what_came_after_a_cursor_is_read_page_by_page():
    logs = Logs(*(event("sensors", n, float(n)) for n in range(1, 2501)))
    found = history.events(logs, limit=10_000, after={"sensors": 1})
    assert len(found["events"]) == 2499
    assert logs.pages == len(history.SOURCES) - 1 + 3


def test_of_a_full_log_the_newest_are_read_in_one_go():
    logs = Logs(*(event("sensors", n, float(n), str(n)) for n in range(1, 20_001)))
    found = history.events(logs, limit=2)
    assert names(found) == ["19999", "20000"] and not found["missing"]
    assert logs.pages == len(history.SOURCES)


def test_pages_that_came_before_the_deadline_are_kept_and_the_cursor_goes_on_from_there():
    logs = Logs(*(event("sensors", n, float(n)) for n in range(1, 2501)))

    def slow(service: str, *rest: Any, timeout: float) -> Any:
        if service == "sensors" and rest[1] > 1500:
            raise CallTimeout("no answer in time")
        return logs(service, *rest, timeout=timeout)

    found = history.events(slow, limit=10_000, after={"sensors": 1})
    assert found["cursor"]["sensors"] == len(found["events"]) + 1 == 2001


def test_the_cursor_of_an_answer_gives_only_what_is_new():
    first = [event("controller", 1, 1.0, "a"), event("provisioner", 7, 2.0, "b")]
    found = history.events(Logs(*first))
    later = Logs(*first, event("provisioner", 8, 3.0, "c"))
    again = history.events(later, after=found["cursor"])
    assert names(again) == ["c"]
    assert again["cursor"] == {"controller": 1, "provisioner": 8}


def test_an_event_carries_its_id():
    assert history.events(Logs(event("controller", 4, 1.0)))["events"][0]["id"] == "controller:4"
