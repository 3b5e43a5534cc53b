"""Services on hosts that are reached through a real sshd."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bootlevels.api import Run
from bootlevels.transports.program import Limit, ProgramEnd, ProgramRun, Stage, StagedFile, Started
from bootlevels.transports.shell_words import Who
from bootlevels.transports.ssh import SshTarget
from bootlevels.transports.ssh_transport import SshTransport

pytestmark = pytest.mark.integration


@pytest.fixture
def target(sshd: Any, tmp_path: Path) -> SshTarget:
    return SshTarget(
        host="127.0.0.1",
        user=sshd.user,
        port=sshd.port,
        key=str(sshd.key),
        kept_keys=tmp_path / "ssh" / "host",
        known_to_user=False,
        stages=str(tmp_path / "stages"),
    )


def asked(tmp_path: Path, *words: str, timeout: float = 20.0, **more: Any) -> ProgramRun:
    return ProgramRun(
        service="s", step="boot", words=words, timeout=timeout, directory=tmp_path,
        **{"log": tmp_path / "logs" / "s.log", **more},
    )  # fmt: skip


def run(target: SshTarget, program: ProgramRun, stop: threading.Event | None = None) -> ProgramEnd:
    return SshTransport(target).run(program, stop or threading.Event(), lambda _: None)


def gone(pid: int) -> bool:
    try:
        return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True


def test_words_environment_and_output_arrive_as_they_are(target: SshTarget, tmp_path: Path) -> None:
    words = ["", "two words", "$(touch /tmp/hacked)", "; exit 3", "`x`", "'", '"', "a\nb", "-e"]
    environment = {"EPU_X": "a 'b' $c \n d", "EMPTY": ""}
    show = 'import os, sys, json; print(json.dumps([sys.argv[1:], os.environ["EPU_X"]]))'
    end = run(target, asked(tmp_path, "python3", "-c", show, *words, environment=environment))
    assert end.ok, end
    assert json.loads(end.tail[-1]) == [words, environment["EPU_X"]]
    assert (tmp_path / "logs" / "s.log").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(("script", "code"), [("true", 0), ("exit 7", 7)])
def test_the_exit_code_comes_back(
    target: SshTarget, tmp_path: Path, script: str, code: int
) -> None:
    assert run(target, asked(tmp_path, "sh", "-c", script)).exit_code == code


def test_a_signal_is_said(target: SshTarget, tmp_path: Path) -> None:
    end = run(target, asked(tmp_path, "sh", "-c", "kill -9 $$"))
    assert (end.exit_code, end.problem) == (None, "was ended by a signal")


def test_no_environment_is_in_anybodys_sight(target: SshTarget, tmp_path: Path) -> None:
    look = "cat /proc/*/cmdline 2>/dev/null | tr '\\0' ' ' | grep -c 'tell-[n]obody'; ls -A"
    secret = {"PW": "tell-nobody"}
    end = run(target, asked(tmp_path, "sh", "-c", look, environment=secret))
    assert end.tail == ("0",), end  # and no file beside it any more


def test_a_stage_is_made_filled_and_removed_over_there(target: SshTarget, tmp_path: Path) -> None:
    files = (StagedFile(name="bootconf.json", content=b"conf"),)
    program = asked(
        tmp_path, "sh", "-c", 'pwd; cat bootconf.json; stat -c %a .; echo "{}" > "$EPU_BOOTOUT"',
        stage=Stage(name="s-boot", files=files),
    )  # fmt: skip
    end = run(target, program)
    assert end.tail == (f"{target.stages}/s-boot", "conf700")
    assert end.bootout == b"{}\n"
    assert list(Path(target.stages).iterdir()) == []


@pytest.mark.parametrize("how", ["time-out", "stop"])
def test_the_whole_group_dies_over_there(
    target: SshTarget, tmp_path: Path, how: str, eventually: Callable[..., Any]
) -> None:
    script = "trap '' TERM; sleep 987 & echo $!; echo $$; wait; sleep 986"
    stop = threading.Event()
    timeout = 1.5 if how == "time-out" else 30.0
    program = asked(tmp_path, "sh", "-c", script, timeout=timeout)
    found: list[ProgramEnd] = []
    thread = threading.Thread(target=lambda: found.append(run(target, program, stop)))
    thread.start()
    log = tmp_path / "logs" / "s.log"
    eventually(lambda: log.exists() and len(log.read_text().split()) == 2)
    if how == "stop":
        stop.set()
    thread.join(20)
    (end,) = found
    assert (end.timed_out, end.interrupted) == (how == "time-out", how == "stop")
    for pid in end.tail:
        eventually(lambda pid=pid: gone(int(pid)))
    assert list(Path(target.stages).iterdir()) == []


def test_a_program_whose_boot_tool_was_killed_is_ended_by_the_next(
    target: SshTarget, tmp_path: Path, eventually: Callable[..., Any]
) -> None:
    import subprocess
    import sys

    code = f"""
import sys, threading
from pathlib import Path
from bootlevels.transports.program import ProgramRun
from bootlevels.transports.ssh import SshTarget
from bootlevels.transports.ssh_transport import SshTransport
target = {target!r}
""".replace("PosixPath(", "Path(")
    code += f"""
program = ProgramRun(service="s", step="boot", words=("sleep", "985"), timeout=60,
                     directory=Path({str(tmp_path)!r}))
SshTransport(target).run(program, threading.Event(),
                         lambda s: print(s.pid, s.mark, flush=True))
"""
    tool = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert tool.stdout is not None
    pid, mark = tool.stdout.readline().split()
    comm = Path(f"/proc/{pid}/cmdline")
    eventually(lambda: b"985" in comm.read_bytes() and b"sh" not in comm.read_bytes())
    tool.kill()
    tool.wait()
    transport = SshTransport(target)
    assert not transport.end_leftover(Started(int(pid), mark + "1"))
    assert not gone(int(pid))
    assert transport.end_leftover(Started(int(pid), mark))
    eventually(lambda: gone(int(pid)))
    assert not transport.end_leftover(Started(int(pid), mark))


def test_a_background_process_that_keeps_the_output_open_holds_nobody(
    target: SshTarget, tmp_path: Path
) -> None:
    end = run(target, asked(tmp_path, "sh", "-c", "sleep 4 & echo done"))
    assert end.ok
    assert end.tail == ("done",)


def test_a_hundred_thousand_lines_are_all_in_the_log(target: SshTarget, tmp_path: Path) -> None:
    assert run(target, asked(tmp_path, "seq", "100000")).ok
    lines = (tmp_path / "logs" / "s.log").read_text().splitlines()
    assert lines == [str(number) for number in range(1, 100_001)]


def test_secrets_are_overwritten_in_the_log(target: SshTarget, tmp_path: Path) -> None:
    secrets = frozenset({"hunter2222"})
    end = run(target, asked(tmp_path, "echo", "it is hunter2222!", secrets=secrets))
    assert end.tail == ("it is **********!",)
    assert "hunter2222" not in (tmp_path / "logs" / "s.log").read_text()


def test_a_host_that_does_not_answer_is_given_up_at_the_deadline(
    target: SshTarget, tmp_path: Path
) -> None:
    import socket
    from dataclasses import replace

    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        began = time.monotonic()
        end = run(replace(target, port=port), asked(tmp_path, "true", timeout=1.0))
        assert end.timed_out or end.unreachable
        assert time.monotonic() - began < 15
    closed = run(replace(target, port=port), asked(tmp_path, "true"))
    assert closed.unreachable
    assert "can't be reached" in closed.problem


def test_an_account_that_is_refused_is_said_in_a_sentence(
    target: SshTarget, sshd: Any, tmp_path: Path
) -> None:
    from dataclasses import replace

    other = replace(target, key=str(sshd.key.with_name("other")))
    end = run(other, asked(tmp_path, "true"))
    assert end.unreachable
    assert "Authentication failed" in end.problem


def test_a_host_with_another_key_than_at_first_contact_is_refused(
    target: SshTarget, sshd: Any, tmp_path: Path
) -> None:
    assert run(target, asked(tmp_path, "true")).ok
    kept = target.kept_keys
    assert kept.read_text().startswith(f"[127.0.0.1]:{sshd.port} ssh-ed25519 ")
    sshd.known_hosts(kept, of=sshd.key)
    end = run(target, asked(tmp_path, "true"))
    assert end.unreachable
    assert "does not match" in end.problem


@pytest.mark.parametrize("trusted", [True, False])
def test_with_known_hosts_only_those_are_trusted(
    target: SshTarget, sshd: Any, tmp_path: Path, trusted: bool
) -> None:
    from dataclasses import replace

    path = tmp_path / "known"
    if trusted:
        sshd.known_hosts(path)
    else:
        path.write_text("")
    end = run(replace(target, known_hosts=str(path)), asked(tmp_path, "true"))
    assert end.ok is trusted
    assert trusted or "not found in known_hosts" in end.problem


def test_reach_says_why_not(target: SshTarget) -> None:
    from dataclasses import replace

    assert SshTransport(target).reach(Limit.seconds(10)) == ""
    assert "can't be reached" in SshTransport(replace(target, port=1)).reach(Limit.seconds(10))


def test_who_a_group_is_can_be_read_after_a_login_shells_chatter() -> None:
    from bootlevels.transports.shell_words import who

    stat = "S 1 77 77 " + " ".join(str(n) for n in range(4, 50))
    assert who(f"Welcome!\n@epu 80 b-o-o-t {stat}\n".encode()) == Who(
        pid=80, group=77, mark="b-o-o-t/19"
    )


PLAN = """
    plan: hosts
    defaults: {{timeout: 30s}}
    levels:
      - services:
          db:
            host: 127.0.0.1
            ssh: {section}
            attributes: {{word: "it's"}}
            boot: {{run: "./boot.sh 'a b' ''"}}
            outputs: [where]
            ready: [{{file: "{there}/booted"}}, {{run: "test -e {there}/booted"}}]
            terminate: {{run: "rm {there}/booted"}}
      - services:
          beside: {{on: db, boot: {{run: [sh, -c, 'echo "$1" > "$2"', sh, "${{.hostname}}", "{there}/beside"]}}}}
"""  # noqa: E501


def test_an_existing_host_is_booted_verified_and_left_clean(
    home: Path, sshd: Any, plan_file: Callable[..., Path], program: Callable[..., Path],
    tmp_path: Path,
) -> None:  # fmt: skip
    there = tmp_path / "there"
    there.mkdir()
    program(
        "boot.sh",
        f'#!/bin/sh\n. ./bootenv.sh\n[ "$word,$1,$2,$#" = "it\'s,a b,,2" ] || exit 1\n'
        f'[ -n "$SSH_CONNECTION" ] || exit 2\ntouch {there}/booted\n'
        f'printf \'{{"where": "%s"}}\' "$PWD" > bootout.json\n',
    )
    run = Run.prepare(plan_file(PLAN.format(section=sshd.section(tmp_path / "st"), there=there)))
    outcome = run.boot()
    assert outcome.ok, outcome.failures
    where = run.attributes("db")["where"]
    assert where.startswith(f"{tmp_path}/st/hosts-")
    assert not os.path.exists(where)
    assert (there / "beside").read_text() == "127.0.0.1\n"
    assert run.status().ok
    (there / "booted").unlink()
    assert not run.status().ok
    (there / "booted").touch()
    assert run.terminate().ok
    assert not (there / "booted").exists()


def test_a_launched_machine_is_reached_by_ssh_and_its_key_kept_for_itself(
    home: Path, sshd: Any, plan_file: Callable[..., Path], tmp_path: Path
) -> None:
    run = Run.prepare(
        plan_file(f"""
        plan: cloudy
        clouds: {{here: {{driver: process}}}}
        levels:
          - services:
              web:
                cloud: here
                transport: ssh
                ssh: {sshd.section(tmp_path / "st")}
                boot: {{run: [sh, -c, 'test -z "$EPU_MARK" && test -n "$SSH_CONNECTION"']}}
        """)
    )
    outcome = run.boot()
    assert outcome.ok, outcome.failures
    (machine,) = run.machines()
    assert (run.directory / "ssh" / machine.launch_id).is_file()
    assert run.terminate().ok


def test_a_machine_that_ssh_never_reaches_fails_and_is_still_ended(
    home: Path, plan_file: Callable[..., Path], sshd: Any, tmp_path: Path,
    processes_of: Callable[..., list[str]],
) -> None:  # fmt: skip
    run = Run.prepare(
        plan_file(f"""
        plan: cloudy
        clouds: {{here: {{driver: process}}}}
        levels:
          - services:
              web:
                cloud: here
                timeout: 2s
                transport: ssh
                ssh: {sshd.section(tmp_path / "st", port="1")}
                boot: {{run: "true"}}
        """)
    )
    (failure,) = run.boot().failures
    assert "the machine runs and is not reached" in failure.text
    assert failure.unreachable
    # With the machine alive and out of reach, a terminate program would be a reason to stop;
    # this one has none.
    assert run.terminate().ok
    assert processes_of(run.directory, "web") == []
