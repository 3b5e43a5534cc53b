from __future__ import annotations

import os
import shlex
import stat
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from threading import Event

import pytest

from bootlevels.transports.local import TAIL_LINES, LocalTransport, mark_of
from bootlevels.transports.program import ProgramEnd, ProgramRun, Started


def program(directory: Path, *words: str, timeout: float = 20.0, **more: object) -> ProgramRun:
    log = directory / "logs" / "s.log"
    return ProgramRun(
        service="s", step="boot", words=words, timeout=timeout, directory=directory,
        **{"log": log, **more},  # type: ignore[arg-type]
    )  # fmt: skip


def run(
    asked: ProgramRun,
    stop: Event | None = None,
    on_started: Callable[[Started], None] = lambda _: None,
) -> ProgramEnd:
    return LocalTransport().run(asked, stop or Event(), on_started)


def alive(pid: int) -> bool:
    """Running, not a zombie that nobody has reaped yet."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


@pytest.mark.parametrize(("command", "code"), [("true", 0), ("false", 1), ("sh -c 'exit 7'", 7)])
def test_the_exit_code_is_the_programs(tmp_path: Path, command: str, code: int) -> None:
    end = run(program(tmp_path, *shlex.split(command)))
    assert (end.exit_code, end.ok) == (code, code == 0)


def test_a_signal_is_a_negative_code(tmp_path: Path) -> None:
    assert run(program(tmp_path, "sh", "-c", "kill -9 $$")).exit_code == -9


def test_words_stay_words(tmp_path: Path) -> None:
    words = ["", "two words", "$(touch hacked)", "; touch hacked", "`x`", "'", '"', "a\nb", "-e"]
    show = "import sys, json; print(json.dumps(sys.argv[1:]))"
    end = run(program(tmp_path, sys.executable, "-c", show, *words))
    import json

    assert json.loads(end.tail[-1]) == words
    assert not (tmp_path / "hacked").exists()


def test_a_program_has_its_directory_its_environment_and_no_input(tmp_path: Path) -> None:
    asked = program(tmp_path, "sh", "-c", 'pwd; echo "$EPU_X"; cat; echo end',
                    environment={"EPU_X": "a b"})  # fmt: skip
    assert run(asked).tail == (str(tmp_path), "a b", "end")


def test_output_goes_to_a_private_log_that_grows(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        run(program(tmp_path, "echo", "one"))
        end = run(program(tmp_path, "sh", "-c", "echo two; echo three >&2"))
    finally:
        os.umask(before)
    log = tmp_path / "logs" / "s.log"
    assert log.read_text() == "one\ntwo\nthree\n"
    assert end.tail == ("two", "three")
    assert stat.S_IMODE(log.stat().st_mode) == 0o600


def test_of_much_output_the_last_lines_are_kept(tmp_path: Path) -> None:
    end = run(program(tmp_path, "seq", "10000"))
    assert end.tail == tuple(str(n) for n in range(10001 - TAIL_LINES, 10001))
    assert (tmp_path / "logs" / "s.log").read_text().count("\n") == 10000


def test_a_line_without_end_costs_no_memory(tmp_path: Path) -> None:
    endless = "import sys\nfor _ in range(200): sys.stdout.write('x' * 100_000)"
    end = run(program(tmp_path, sys.executable, "-c", endless))
    assert end.ok
    assert sum(map(len, end.tail)) <= 8192


def test_output_can_not_play_with_the_terminal(tmp_path: Path) -> None:
    end = run(program(tmp_path, "printf", r"a\033[2Jb\n\377c\n"))
    assert end.tail == ("a?[2Jb", "�c")


def test_without_a_log_the_output_leaves_no_file(tmp_path: Path) -> None:
    end = run(program(tmp_path, "echo", "seen", log=None))
    assert end.tail == ("seen",)
    assert not list(tmp_path.iterdir())


def test_at_the_time_out_the_whole_group_ends(
    tmp_path: Path, eventually: Callable[..., None]
) -> None:
    script = "sleep 600 & echo $!; trap '' TERM; (trap '' TERM; sleep 600) & echo $!; wait; wait"
    pids: list[int] = []
    end = run(
        program(tmp_path, "sh", "-c", script, timeout=0.5), on_started=lambda s: pids.append(s.pid)
    )
    assert (end.exit_code, end.timed_out) == (None, True)
    for pid in [*pids, *map(int, end.tail)]:
        eventually(lambda pid=pid: not alive(pid))


def test_a_stop_ends_the_whole_group(tmp_path: Path, eventually: Callable[..., None]) -> None:
    stop = Event()
    ends: list[ProgramEnd] = []
    asked = program(tmp_path, "sh", "-c", "sleep 600 & echo $!; wait", timeout=600)
    thread = threading.Thread(target=lambda: ends.append(run(asked, stop)))
    thread.start()
    log = tmp_path / "logs" / "s.log"
    eventually(lambda: log.is_file() and log.read_text().endswith("\n"))
    stop.set()
    thread.join(20)
    assert ends[0].interrupted
    eventually(lambda: not alive(int(ends[0].tail[0])))


def test_a_program_that_succeeds_may_leave_a_daemon(tmp_path: Path) -> None:
    end = run(program(tmp_path, "sh", "-c", "sleep 600 & echo $!"))
    assert end.ok
    assert alive(int(end.tail[0]))
    os.kill(int(end.tail[0]), 9)


def test_what_finds_it_is_known_before_the_program_exists(tmp_path: Path) -> None:
    marker = tmp_path / "ran"

    def refuse(started: Started) -> None:
        assert started.mark and not started.noted
        raise RuntimeError("the record can't be written")

    with pytest.raises(RuntimeError):
        run(program(tmp_path, "touch", str(marker)), on_started=refuse)
    assert not marker.exists()


def test_a_failing_record_after_the_start_ends_the_program(
    tmp_path: Path, eventually: Callable[..., None]
) -> None:
    seen: list[Started] = []

    def refuse(started: Started) -> None:
        seen.append(started)
        if started.pid:
            raise RuntimeError("the record can't be written")

    with pytest.raises(RuntimeError):
        run(program(tmp_path, "sleep", "600"), on_started=refuse)
    eventually(lambda: not alive(seen[-1].pid))


@pytest.mark.parametrize("known", [0, 1], ids=["only its mark", "its pid too"])
def test_a_program_is_found_by_whatever_was_written_down_of_it(
    tmp_path: Path, eventually: Callable[..., None], known: int
) -> None:
    seen: list[Started] = []
    stop, ends = Event(), []
    asked = program(tmp_path, "sh", "-c", "sleep 600 & echo $!; wait", timeout=600)
    thread = threading.Thread(
        target=lambda: ends.append(LocalTransport().run(asked, stop, seen.append))
    )
    thread.start()
    log = tmp_path / "logs" / "s.log"
    eventually(lambda: log.is_file() and log.read_text().endswith("\n"))
    eventually(lambda: [bool(one.pid) for one in seen] == [False, True])
    assert LocalTransport().end_leftover(seen[known])
    thread.join(20)
    eventually(lambda: not alive(int(log.read_text())))
    assert not LocalTransport().end_leftover(seen[known])


def test_a_group_is_ended_also_when_the_program_itself_is_over(
    tmp_path: Path, eventually: Callable[..., None]
) -> None:
    seen: list[Started] = []
    end = run(program(tmp_path, "sh", "-c", "sleep 600 & echo $!"), on_started=seen.append)
    assert LocalTransport().end_leftover(seen[-1]), "its work is about to be redone"
    eventually(lambda: not alive(int(end.tail[0])))


def test_a_daemon_in_a_group_of_its_own_is_left(
    tmp_path: Path, eventually: Callable[..., None]
) -> None:
    seen: list[Started] = []
    end = run(program(tmp_path, "sh", "-c", "setsid sleep 600 & echo $!"), on_started=seen.append)
    eventually(lambda: os.getsid(int(end.tail[0])) == int(end.tail[0]))
    assert not LocalTransport().end_leftover(seen[-1])
    os.kill(int(end.tail[0]), 9)


def test_a_script_without_its_first_line_is_a_shells(tmp_path: Path) -> None:
    script = tmp_path / "plain"
    script.write_text('echo "$1"; exit 3\n')
    script.chmod(0o700)
    end = run(program(tmp_path, str(script), "a b"))
    assert (end.exit_code, end.tail) == (3, ("a b",))


def test_what_can_not_be_started_is_a_problem_with_a_sentence(tmp_path: Path) -> None:
    assert "can't be started" in run(program(tmp_path / "gone", "true", log=None)).problem
    (tmp_path / "logs").touch()
    assert "its log can't be written" in run(program(tmp_path, "true")).problem
    absent = run(program(tmp_path, "/no/such/program", log=None))
    assert "can't be started" in absent.problem and "/no/such/program" in absent.problem


def test_a_leftover_is_ended_only_if_it_is_the_same_program(
    tmp_path: Path, eventually: Callable[..., None]
) -> None:
    import subprocess

    child = subprocess.Popen(["sleep", "600"], start_new_session=True)
    transport = LocalTransport()
    assert not transport.end_leftover(Started(child.pid, "another boot/1"))
    assert not transport.end_leftover(Started(child.pid, ""))
    assert child.poll() is None
    assert transport.end_leftover(Started(child.pid, mark_of(child.pid)))
    assert child.wait(10) == -15
    assert not transport.end_leftover(Started(child.pid, "gone"))
