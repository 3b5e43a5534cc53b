"""What the loaders report and what the summary makes of it."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from bootlevels.plans.broker_stress import loader, summary
from bootlevels.plans.broker_stress.loader import (
    Load,
    Tally,
    is_loopback,
    report,
    run_connections,
    start_together,
)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "localhost"])
def test_these_hosts_are_this_machine(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["192.0.2.1", "0.0.0.0", "example.org", "localhost.example.org"])
def test_these_hosts_may_be_another(host: str) -> None:
    assert not is_loopback(host)


def test_the_rates_of_a_loader_are_over_the_time_of_all_its_connections() -> None:
    tallies = [
        Tally(opened=1, published=100, consumed=100, began=10.0, ended=12.0),
        Tally(opened=1, published=100, consumed=90, began=11.0, ended=15.0, problem="cut"),
        Tally(problem="refused"),
    ]
    found = report("loader-0", "publish", tallies)
    assert (found["connections"], found["published_per_second"]) == (2, 40.0)
    assert (found["consumed_per_second"], found["lost"], found["errors"]) == (38.0, 10, 2)
    assert found["problem"] == "cut"


def test_a_connection_that_fails_does_not_keep_the_others_from_working() -> None:
    def work(load: Load, name: str, tally: Tally, ready: threading.Barrier) -> None:
        if name == "bad":
            raise OSError("refused\nand more")
        start_together(ready, tally)
        tally.published = load.most

    load = Load(url="", seconds=1.0, message=b"", most=7)
    good, bad = run_connections(work, load, ["good", "bad"])
    assert (good.published, good.problem) == (7, "")
    assert (bad.published, bad.problem, bad.began) == (0, "refused", 0.0)
    assert report("loader-0", "publish", [good, bad])["errors"] == 1


def test_a_loader_that_was_not_needed_reports_nothing_but_zeros() -> None:
    found = report("loader-7", "publish", [])
    assert not found["works"]
    assert (found["connections"], found["published_per_second"], found["errors"]) == (0, 0.0, 0)


def test_a_loader_beyond_the_wanted_number_needs_no_broker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = tmp_path / "bootout.json"
    monkeypatch.setenv("EPU_BOOTOUT", str(told))
    words = ["--accounts", "no-such-file", "--number", "4", "--loaders", "4"]
    assert loader.main(words) == 0
    assert json.loads(told.read_text())["works"] is False


@pytest.mark.parametrize(
    "words",
    [
        ("--seconds", "301"),
        ("--seconds", "nan"),
        ("--connections", "51"),
        ("--loaders", "9"),
        ("--loaders", "0"),
        ("--message-bytes", "x"),
        ("--mode", "flood"),
    ],
)
def test_the_load_has_bounds(words: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        loader.main(["--accounts", "a", *words])
    assert ended.value.code == 2
    assert words[0] in capsys.readouterr().err


def reports() -> list[dict[str, object]]:
    return [
        report("loader-0", "publish", [Tally(1, 1000, 1000, "", 0.5, 10.5)]),
        report("loader-1", "publish", [Tally(1, 2000, 1990, "late", 5.5, 20.5)]),
        report("loader-2", "publish", []),
    ]


def test_the_sum_is_never_better_than_what_the_broker_did() -> None:
    total = summary.totals(reports()[:2])
    # 100/s and 133.3/s, but not all the time at the same time.
    assert total["published_per_second"] == 150.0
    assert (total["seconds"], total["lost"], total["errors"]) == (20.0, 10, 1)


def test_the_table_shows_who_worked_and_what_went_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EPU_BOOTOUT", str(tmp_path / "bootout.json"))
    words = [f"--loader={json.dumps(each)}" for each in reports()]
    assert summary.main([*words, "--directory", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "2 loaders, 2 connections, 3,000 messages in 20 s"
    assert [line.split()[0] for line in lines[1:4]] == ["loader", "loader-0", "loader-1"]
    assert lines[5].split() == ["all", "2", "150", "150", "10", "1"]
    assert lines[6] == "loader-1: late"
    assert (tmp_path / "summary.txt").read_text().splitlines() == lines
    assert json.loads((tmp_path / "bootout.json").read_text())["summary"].splitlines() == lines


def test_without_any_work_there_is_no_summary(capsys: pytest.CaptureFixture[str]) -> None:
    assert summary.main([f"--loader={json.dumps(reports()[2])}"]) == 1
    assert "no loader worked" in capsys.readouterr().err
