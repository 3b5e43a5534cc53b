"""Events out of any log files, and a history that is completed from them."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest

from agent.messages import Event
from agent.rpc_client import BrokerUnreachable, CallTimeout, UnknownService
from agent.wire import to_wire
from coordinator.errors import NotFound
from coordinator.events import event_line
from mgmt.event_files import component_logs, distinct, events_of, read_event_files
from mgmt.run_events import Filters, LogPlace, all_from_files, ask_events, of_files, with_files


def event(source: str, sequence: int, time: float, name: str = "x", **other: Any) -> Event:
    return Event(time=time, source=source, sequence=sequence, name=name, **other)


LINE = event_line(event("controller", 1, 5.0, "decision", reason="said EPU_EVENT {x} in it"))


@pytest.mark.parametrize(
    "before", ["", "2026-01-01 10:00:00,123 INFO epu.events: ", "host epu[12]: ", "web | "]
)
def test_an_event_is_read_whatever_a_log_puts_before_it(before):
    found = events_of(before + LINE + "\n")
    assert [one.name for one in found.events] == ["decision"] and not found.broken


@pytest.mark.parametrize(
    "line", ["INFO all is well", "see EPU_EVENTs", "XEPU_EVENT {}", "grep EPU_EVENT worker.log", ""]
)
def test_what_is_no_event_is_skipped_without_a_word(line):
    found = events_of(line)
    assert not found.events and not found.broken


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (LINE[:40], "not JSON"),
        ("EPU_EVENT", "not JSON"),
        ('EPU_EVENT {"time": 1.0, "source": "x"}', "name"),
        ('EPU_EVENT {"time": "noon", "source": "x", "name": "y"}', "time"),
    ],
)
def test_a_broken_event_is_reported_with_its_place_and_why(tmp_path: Path, line, why):
    log = tmp_path / "a.log"
    log.write_text(f"fine\n{line}\n{LINE}\n")
    found = read_event_files([log])
    (told,) = found.broken
    assert told.startswith(f"{log}:2: ") and why in told
    assert len(found.events) == 1


def test_the_event_after_one_that_a_crash_cut_off_is_not_lost():
    found = events_of(LINE[:40] + " EPU_EVENT " + LINE.removeprefix("EPU_EVENT "))
    assert len(found.events) == 1 and len(found.broken) == 1


def test_packed_files_and_directories_are_read_and_other_bytes_do_no_harm(tmp_path: Path):
    (tmp_path / "deep").mkdir()
    with gzip.open(tmp_path / "deep" / "old.log.2.gz", "wt") as packed:
        packed.write(LINE + "\n")
    (tmp_path / "new.log").write_bytes(b"\xff\xfe\0\n" + LINE.encode() + b"\n")
    (tmp_path / "data.db").write_text(LINE)
    assert len(read_event_files([tmp_path]).events) == 2


def test_a_packed_file_that_was_cut_off_counts_as_far_as_it_goes(tmp_path: Path):
    log = tmp_path / "cut.log.gz"
    whole = gzip.compress((LINE + "\n").encode() * 2000)
    log.write_bytes(whole[: len(whole) - 20])
    assert read_event_files([log]).events


def test_a_file_that_is_not_there_is_not_found(tmp_path: Path):
    with pytest.raises(NotFound, match="nowhere"):
        of_files([tmp_path / "nowhere.log"], Filters())


def test_rotated_logs_of_a_component_come_oldest_first(tmp_path: Path):
    (tmp_path / "logs").mkdir()
    for name in ("controller.log", "controller.log.1", "controller.log.10", "controllers.log"):
        (tmp_path / "logs" / name).touch()
    found = [path.name for path in component_logs(tmp_path, "controller")]
    assert found == ["controller.log.10", "controller.log.1", "controller.log"]


def test_an_event_that_was_read_twice_counts_once_and_unnumbered_ones_by_what_they_say():
    numbered = event("controller", 3, 1.0)
    jobs = [event("worker", 0, 1.0, "job_end", extra={"job": name}) for name in "ab"]
    assert distinct([numbered, numbered, *jobs, jobs[0]]) == [numbered, *jobs]


# ------------------------------------------------------------------ completing a history


def place(tmp_path: Path, **logs: list[Event]) -> LogPlace:
    (tmp_path / "logs").mkdir()
    for source, events in logs.items():
        text = "".join(event_line(one) + "\n" for one in events)
        (tmp_path / "logs" / f"{source}.log").write_text(text)
    return LogPlace(state_dir=tmp_path, run_directory=tmp_path)


def answer(*events: Event, missing: dict[str, str]) -> dict[str, Any]:
    told = [{**to_wire(one), "id": one.id} for one in events]
    return {"events": told, "omitted": 0, "missing": missing, "cursor": {}}


def test_a_silent_components_file_is_read_instead_and_it_stays_named(tmp_path: Path):
    here = place(
        tmp_path,
        provisioner=[event("provisioner", 1, 2.0, "from-file", pool="p")],
        controller=[event("controller", 1, 1.0, "not-read", pool="p")],
        teardown=[event("teardown", 0, 9.0, "other-pool")],
    )
    told = answer(event("controller", 2, 3.0, "told", pool="p"), missing={"provisioner": "silent"})
    found = with_files(told, Filters(pool="p"), here)
    assert [one["name"] for one in found["events"]] == ["from-file", "told"]
    assert found["missing"] == {"provisioner": "silent"}
    assert found["from_files"] == ["provisioner"]


def test_a_dead_system_is_told_from_its_files_alone_a_teardowns_too(tmp_path: Path):
    here = place(
        tmp_path,
        provisioner=[event("provisioner", 1, 1.0, "launch")],
        teardown=[event("teardown", 0, 9.0, "gone")],
    )
    found = all_from_files("no broker", Filters(), here)
    assert [one["name"] for one in found["events"]] == ["launch", "gone"]
    assert set(found["missing"]) == {"provisioner", "controller", "sensors", "registrar"}
    assert found["from_files"] == ["provisioner"]


class Answers:
    """Services by name: a list of events, or what is raised."""

    def __init__(self, **services: Any) -> None:
        self.services = services

    def __call__(self, service: str, method: str, *args: Any, timeout: float) -> Any:
        found = self.services.get(service, [])
        if isinstance(found, Exception):
            raise found
        return to_wire(found)


def test_components_are_asked_themselves_when_only_management_is_down():
    away = UnknownService("nobody answers for 'management'")
    call = Answers(management=away, controller=[event("controller", 1, 1.0, "told")])
    found = ask_events(call, Filters(), None, 1.0)
    assert [one["name"] for one in found["events"]] == ["told"]
    assert list(found["missing"]) == ["management"]


def test_nobody_at_all_is_a_failed_call_and_a_dead_broker_is_asked_once():
    silent = CallTimeout("no answer")
    everybody = dict.fromkeys(("provisioner", "controller", "sensors", "registrar"), silent)
    with pytest.raises(CallTimeout):
        ask_events(Answers(management=silent, **everybody), Filters(), None, 1.0)
    with pytest.raises(BrokerUnreachable):
        ask_events(Answers(management=BrokerUnreachable("dead")), Filters(), None, 1.0)
