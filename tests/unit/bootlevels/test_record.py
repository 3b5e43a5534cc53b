from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from bootlevels.boot_sequence import ServiceState
from bootlevels.plan import BootLevel, LaunchPlan, ServiceKind, ServiceSpec
from bootlevels.record import Record, RecordProblem
from bootlevels.run_lock import LOCK_NAME, RunIsBusy, writer_lock
from bootlevels.transports.program import Started
from coordinator.errors import InvalidTransition

PLAN = LaunchPlan(
    name="p",
    globals={"key": "env:SECRET"},
    levels=(BootLevel(number=1, services=(ServiceSpec(name="a", kind=ServiceKind.LOCAL),)),),
)


@pytest.fixture
def record(tmp_path: Path) -> Record:
    return Record.create(tmp_path, "r", PLAN, {"size": "2"}, now=10.0)


def test_a_new_record_gives_back_what_was_put_in(record: Record, tmp_path: Path) -> None:
    run = Record(tmp_path).run()
    assert (run.name, run.plan, run.given, run.created_at) == ("r", PLAN, {"size": "2"}, 10.0)
    assert run.booted_at is None
    assert record.service("a").state is ServiceState.NEW


def test_a_services_life_is_stored_with_its_times(record: Record) -> None:
    record.launched("a", 11.0)
    record.booted("a", {"url": "u"}, 12.0)
    record.verified("a", 13.0)
    service = record.service("a")
    assert (service.launched_at, service.booted_at, service.verified_at) == (11.0, 12.0, 13.0)
    assert service.outputs == {"url": "u"}
    record.terminating("a")
    record.terminated("a", 14.0)
    assert record.states() == {"a": ServiceState.TERMINATED}


def test_a_failure_is_kept_until_the_next_success(record: Record) -> None:
    record.launched("a", 11.0)
    record.failed("a", "boot", "exit code 3", 12.0)
    found = record.service("a")
    assert (found.state, found.step, found.error) == (ServiceState.LAUNCHED, "boot", "exit code 3")
    record.launched("a", 13.0)
    assert record.service("a").error == ""


def test_a_new_launch_voids_earlier_outputs(record: Record) -> None:
    record.launched("a", 1.0)
    record.booted("a", {"url": "old"}, 2.0)
    record.launched("a", 3.0)
    assert record.service("a").outputs == {}


def test_a_jump_in_a_services_life_is_a_defect(record: Record) -> None:
    with pytest.raises(InvalidTransition, match="a: NEW → VERIFIED"):
        record.verified("a", 1.0)


def test_the_running_program_is_noted_and_forgotten(record: Record) -> None:
    record.launched("a", 1.0)
    record.program_started("a", Started(42, "mark"))
    assert record.service("a").running == Started(42, "mark")
    record.program_ended("a")
    assert record.service("a").running is None


def test_every_file_of_a_record_is_private_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with writer_lock(tmp_path, "test"):
            record = Record.create(tmp_path, "r", PLAN, {}, now=1.0)
            held = sqlite3.connect(record.path)  # keeps -wal and -shm alive
            record.launched("a", 1.0)
            held.execute("select * from services").fetchall()
            files = sorted(path.name for path in tmp_path.iterdir())
            modes = {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
            held.close()
    finally:
        os.umask(before)
    assert {"run.db", "run.db-wal", "run.lock"} <= set(files)
    assert modes == {0o600}


def test_a_record_holds_names_of_secrets_only(record: Record, tmp_path: Path) -> None:
    assert b"env:SECRET" in (tmp_path / "run.db").read_bytes()


def test_others_read_while_threads_write(record: Record, tmp_path: Path) -> None:
    names = [f"s{n}" for n in range(6)]

    def live(name: str) -> None:
        record.launched(name, 1.0)
        for n in range(10):
            record.program_started(name, Started(n, "m"))
        record.booted(name, {"n": name}, 2.0)

    threads = [threading.Thread(target=live, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    reader = Record(tmp_path)
    while any(thread.is_alive() for thread in threads):
        assert set(reader.states()) <= set(names)
    for thread in threads:
        thread.join()
    assert reader.states() == dict.fromkeys(names, ServiceState.BOOTED)


def test_a_reader_can_not_write(record: Record, tmp_path: Path) -> None:
    with pytest.raises(RecordProblem, match="reading only|readonly"):
        Record(tmp_path).mark_booted(1.0)


@pytest.mark.parametrize("content", [b"", b"not a database, not at all" * 100])
def test_a_file_that_is_no_record_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "run.db").write_bytes(content)
    with pytest.raises(RecordProblem, match=r"run\.db"):
        Record(tmp_path).run()


def test_a_record_of_another_format_is_not_guessed_at(record: Record, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "run.db") as connection:
        connection.execute("PRAGMA user_version=99")
    with pytest.raises(RecordProblem, match="has format 99, this version reads 2"):
        Record(tmp_path).run()


def test_reading_a_missing_record_makes_no_file(tmp_path: Path) -> None:
    with pytest.raises(RecordProblem, match="unable to open"):
        Record(tmp_path).run()
    assert not list(tmp_path.iterdir())


def test_a_second_writer_is_told_who_the_first_is(tmp_path: Path) -> None:
    second = "import sys; from pathlib import Path; from bootlevels.run_lock import writer_lock\n"
    second += "with writer_lock(Path(sys.argv[1]), 'second'): print('in')"
    command = [sys.executable, "-c", second, str(tmp_path)]
    with writer_lock(tmp_path, "epu boot"):
        refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert refused.returncode != 0
    assert f"is being changed by process {os.getpid()} (epu boot)" in refused.stderr
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "in\n"


def test_a_lock_outlives_its_file_being_moved_aside(tmp_path: Path) -> None:
    place = tmp_path / "run"
    place.mkdir()
    with writer_lock(place, "first"):
        place.rename(tmp_path / "run.1")
        place.mkdir()
        with writer_lock(place, "second"):
            assert (place / LOCK_NAME).is_file()


def test_a_lock_is_refused_at_once(tmp_path: Path) -> None:
    with writer_lock(tmp_path, "one"), pytest.raises(RunIsBusy), writer_lock(tmp_path, "two"):
        pass
