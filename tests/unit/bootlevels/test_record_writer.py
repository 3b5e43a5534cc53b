"""Group commit: together, in order, and nothing after a gap."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from bootlevels.record_writer import GroupWriter


class Disk:
    """Takes batches; ``gate`` holds the commits up, ``broken`` makes them fail."""

    def __init__(self) -> None:
        self.batches: list[dict[Any, Any]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.broken: BaseException | None = None

    def commit(self, rows: Mapping[Any, Any]) -> None:
        self.entered.set()
        assert self.gate.wait(10)
        if self.broken is not None:
            raise self.broken
        self.batches.append(dict(rows))


def key(name: str) -> tuple[str, tuple[str]]:
    return ("t", (name,))


def test_a_flush_returns_when_everything_put_before_is_written() -> None:
    disk = Disk()
    writer = GroupWriter(disk.commit)
    for n in range(5):
        writer.put(key(str(n)), {"n": n})
    writer.flush()
    assert [row for batch in disk.batches for row in batch] == [key(str(n)) for n in range(5)]
    writer.flush()
    writer.close()


def test_what_comes_during_a_commit_is_written_together_and_each_row_once() -> None:
    disk = Disk()
    disk.gate.clear()
    writer = GroupWriter(disk.commit)
    writer.put(key("first"), {})
    assert disk.entered.wait(10)
    for n in range(100):
        writer.put(key("again"), {"n": n})
    flushed = threading.Thread(target=writer.flush)
    flushed.start()
    disk.gate.set()
    flushed.join(10)
    assert not flushed.is_alive()
    assert disk.batches == [{key("first"): {}}, {key("again"): {"n": 99}}]
    writer.close()


def test_rows_that_nobody_waits_for_are_written_soon(eventually: Callable[..., None]) -> None:
    disk = Disk()
    writer = GroupWriter(disk.commit)
    writer.put(key("a"), {"n": 1})
    eventually(lambda: disk.batches)
    writer.close()


def test_after_a_failed_commit_everybody_is_told_and_nothing_more_is_written() -> None:
    disk = Disk()
    disk.broken = OSError("disk full")
    writer = GroupWriter(disk.commit)
    writer.put(key("a"), {})
    with pytest.raises(OSError, match="disk full"):
        writer.flush()
    disk.broken = None
    with pytest.raises(OSError, match="disk full"):
        writer.put(key("b"), {})
    with pytest.raises(OSError, match="disk full"):
        writer.flush()
    writer.close()
    assert disk.batches == []


def test_a_close_writes_what_is_left() -> None:
    disk = Disk()
    writer = GroupWriter(disk.commit)
    writer.put(key("a"), {})
    writer.close()
    assert disk.batches == [{key("a"): {}}]


def test_a_close_of_a_writer_that_never_wrote_starts_nothing() -> None:
    before = threading.active_count()
    GroupWriter(Disk().commit).close()
    assert threading.active_count() == before


def test_many_threads_wait_for_few_commits() -> None:
    disk = Disk()
    writer = GroupWriter(disk.commit)

    def work(name: str) -> None:
        for n in range(20):
            writer.put(key(f"{name}-{n}"), {})
            writer.flush()

    threads = [threading.Thread(target=work, args=(str(n),)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    writer.close()
    rows = [row for batch in disk.batches for row in batch]
    assert len(rows) == len(set(rows)) == 16 * 20
