"""Whether a node is busy: what is not known is never idle."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from pathlib import Path
from socket import AF_UNIX, socket
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.busy import BusyState, SeenFile, by_cpu, by_exit, by_files, by_words, spell_after
from agent.busy_probe import BusyProbe
from agent.node_role import BusySource

CONTENT = BusySource(file="busy")


def seen(*texts: str | None, age: float = 1.0) -> list[SeenFile]:
    return [
        SeenFile(name=f"busy.{i}", age=None if text is None else age + i, text=text or "")
        for i, text in enumerate(texts)
    ]


@pytest.mark.parametrize(
    ("texts", "busy", "jobs"),
    [
        (["busy\n"], True, 1),
        (["idle", "busy 3\n", "busy"], True, 4),
        (["idle", "idle"], False, 0),
        (["idle", None], None, None),
        ([None], None, None),
        (["idle", "nonsense"], None, None),
        (["busy", None], True, 1),
        ([], None, None),
    ],
)
def test_all_workers_must_say_idle_and_one_that_says_busy_is_enough(
    texts: list[str | None], busy: bool | None, jobs: int | None
) -> None:
    state = by_files(CONTENT, seen(*texts))
    assert (state.busy, state.jobs) == (busy, jobs)
    assert bool(state.problem) is (busy is None)


def test_it_has_been_busy_for_as_long_as_the_oldest_of_its_busy_files() -> None:
    assert by_files(CONTENT, seen("busy", "busy", "idle", age=7.0)).spell == 8.0


def test_a_file_that_nobody_writes_any_more_says_nothing() -> None:
    source = BusySource(file="busy", max_age=5.0)
    assert by_files(source, seen("idle", age=4.0)).busy is False
    found = by_files(source, seen("idle", age=6.0))
    assert (found.busy, found.problem) == (None, "busy.0 was not written for 6 s")


def test_a_file_may_count_by_being_there_or_by_being_fresh() -> None:
    exists = BusySource(file="lock", means="exists")
    assert [by_files(exists, seen(x)).busy for x in ("", None)] == [True, False]
    fresh = BusySource(file="touched", means="fresh", max_age=10.0)
    assert by_files(fresh, seen("", age=9.0)).busy is True
    assert by_files(fresh, seen("", age=11.0)).busy is False
    assert by_files(fresh, seen(None)).busy is None


@given(st.text())
def test_words_of_others_never_mean_idle(text: str) -> None:
    found = by_words("it", text)
    if text.split()[:1] != ["idle"]:
        assert found.busy is not False
        assert found.busy or found.problem


def test_the_exit_status_of_a_busy_program() -> None:
    assert [by_exit(code, "").busy for code in (0, 1, 2, 127, None)] == [
        True,
        False,
        None,
        None,
        None,
    ]
    assert by_exit(2, "x\nno database").problem.endswith("neither 0 nor 1: no database")


def test_a_processor_must_have_been_calm_for_the_whole_time() -> None:
    source = BusySource(cpu=10.0, over=60.0)
    calm = [(float(at), 2.0) for at in range(0, 70, 10)]
    assert by_cpu(source, calm, 60.0).busy is False
    assert by_cpu(source, calm[2:], 60.0).busy is None, "measured for 40 s only"
    assert by_cpu(source, [*calm, (65.0, 50.0)], 65.0).busy is True
    assert by_cpu(source, [*calm, (65.0, float("nan"))], 65.0).busy is not False
    assert by_cpu(source, [], 60.0).busy is None


def test_a_spell_lasts_while_the_state_does() -> None:
    idle = spell_after(None, BusyState(busy=False), 10.0)
    assert spell_after(idle, BusyState(busy=False), 20.0).since == 10.0
    assert spell_after(idle, BusyState(busy=True), 30.0).since == 30.0
    assert spell_after(idle, BusyState(busy=True, spell=4.0), 30.0).since == 26.0


def test_workers_that_have_ended_have_nothing_in_hand(tmp_path: Path) -> None:
    (tmp_path / "busy").write_text("busy")
    probe = BusyProbe(CONTENT, (tmp_path / "busy",), tmp_path, {})
    assert probe.look(None).busy is True
    assert probe.look(False).busy is False


def test_one_file_for_all_workers_counts_until_they_have_their_own(tmp_path: Path) -> None:
    own = (tmp_path / "busy.w.0", tmp_path / "busy.w.1")
    probe = BusyProbe(CONTENT, (tmp_path / "busy", *own), tmp_path, {})
    (tmp_path / "busy").write_text("idle")
    assert probe.look(True).busy is False
    own[0].write_text("idle")
    assert probe.look(True).busy is None, "the other copy has not said anything"
    own[1].write_text("busy")
    assert probe.look(True).busy is True


def test_a_program_is_asked_beside_the_beats_and_only_a_new_answer_counts(
    tmp_path: Path, eventually: Callable[..., Any]
) -> None:
    words = (sys.executable, "-c", "import pathlib, sys; sys.exit(not pathlib.Path('b').exists())")
    now = [100.0]
    probe = BusyProbe(BusySource(program=words), (), tmp_path, {}, clock=lambda: now[0])
    assert "not asked yet" in probe.look(True).problem
    eventually(lambda: probe.look(True).busy is False)
    (tmp_path / "b").touch()
    now[0] = 101.0
    eventually(lambda: probe.look(True, since=100.5).busy is True)
    missing = BusyProbe(BusySource(program=("no-such-thing",)), (), tmp_path, {})
    eventually(lambda: "No such file" in missing.look(True).problem)


def test_a_socket_answers_with_a_word(tmp_path: Path, eventually: Callable[..., Any]) -> None:
    with socket(AF_UNIX) as listening:
        listening.bind(str(tmp_path / "s"))
        listening.listen()

        def answer() -> None:
            peer, _ = listening.accept()
            with peer:
                peer.sendall(b"busy 2\n")

        threading.Thread(target=answer, daemon=True).start()
        probe = BusyProbe(BusySource(socket="s"), (), tmp_path, {})
        eventually(lambda: probe.look(True).jobs == 2)
    gone = BusyProbe(BusySource(socket="nobody"), (), tmp_path, {})
    eventually(lambda: "the busy socket" in gone.look(True).problem)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"file": "a", "cpu": 3.0},
        {"file": "a", "means": "smells"},
        {"file": "a", "means": "fresh"},
        {"cpu": 0.0},
        {"cpu": 101.0},
        {"program": ("x",), "timeout": 0.0},
    ],
)
def test_a_source_that_makes_no_sense_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must|needs"):
        BusySource(**given)
