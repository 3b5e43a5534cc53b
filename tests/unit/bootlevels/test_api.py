"""Runs of real programs on this machine, through the API that the commands use."""

from __future__ import annotations

import json
import stat
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from threading import Event

import pytest

from bootlevels.api import Run
from bootlevels.boot_sequence import ServiceState
from bootlevels.record_file import RecordProblem
from bootlevels.run_home import run_names
from bootlevels.run_lock import RunIsBusy, writer_lock
from bootlevels.run_store import RunIsTerminating, WorkersRemain
from bootlevels.runner import Interrupted, Moment
from coordinator.errors import ConfigProblem, NotFound

PlanFile = Callable[..., Path]

TWO_LEVELS = """
    plan: two
    levels:
      - services:
          first:
            local: true
            attributes: {word: "a b"}
            boot:
              run: [sh, -c, 'printf "{\\"url\\": \\"u://%s\\"}" "$1" > "$EPU_BOOTOUT"', sh, "${.word}"]
            outputs: [url]
            ready: [{run: [sh, -c, "test \\"$1\\" = 'u://a b'", sh, "${.url}"]}]
            terminate: {run: "touch first-ended"}
      - services:
          second:
            local: true
            boot: {run: [sh, -c, 'test ! -e first-ended && echo "$1" > second-booted', sh, "${first.url}"]}
            terminate: {run: "test ! -e first-ended"}
          values: {attributes: {both: "${first.url}-${run_name}"}}
"""  # noqa: E501


def states(run: Run) -> dict[str, str]:
    return {service.spec.name: service.record.state.value for service in run.services()}


def test_a_run_whose_workers_were_left_running_is_not_booted_over(
    home: Path, plan_file: PlanFile
) -> None:
    """Its directory is where those workers' machines and records are."""
    plan = plan_file(TWO_LEVELS)
    run = Run.prepare(plan, name="r1")
    assert run.boot().ok
    assert run.terminate(leave_workers=True).ok
    with pytest.raises(WorkersRemain, match="epu teardown r1"):
        Run.prepare(plan, name="r1")
    assert Run.open("r1").workers_left
    run.workers_are_gone()
    assert Run.prepare(plan, name="r1").boot().ok


def test_a_run_whose_workers_were_confirmed_gone_can_be_booted_again(
    home: Path, plan_file: PlanFile
) -> None:
    run = Run.prepare(plan_file(TWO_LEVELS), name="r1")
    assert run.boot().ok
    assert run.terminate(workers_confirmed=True).ok
    assert not run.workers_left
    assert Run.prepare(plan_file(TWO_LEVELS), name="r1").boot().ok


def test_a_run_lives_from_boot_to_termination(home: Path, plan_file: PlanFile) -> None:
    run = Run.prepare(plan_file(TWO_LEVELS), name="r1")
    assert run.boot().ok
    assert set(states(run).values()) == {"VERIFIED"}
    assert run.attributes("values")["both"] == "u://a b-r1"
    assert (run.directory / "second-booted").read_text() == "u://a b\n"
    assert run.status().ok
    assert [service.spec.name for service in run.services(level=2)] == ["second", "values"]
    assert Run.open("r1").info.booted_at is not None
    assert run.terminate().ok
    assert set(states(run).values()) == {"TERMINATED"}
    assert not run.status().ok
    assert run.terminate().ok


def test_a_home_that_runs_can_not_be_kept_in_is_told_with_what_chooses_another(
    plan_file: PlanFile, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RecordProblem, match=r"runs/r1 can't be used: .*EPU_HOME"):
        Run.prepare(plan_file(TWO_LEVELS), name="r1", home=tmp_path / "file")


def test_a_runs_directories_and_logs_are_private(home: Path, plan_file: PlanFile) -> None:
    run = Run.prepare(plan_file(TWO_LEVELS), name="r1")
    run.boot()
    for path in [run.directory, *run.directory.iterdir()]:
        if path.name in ("second-booted",):
            continue  # made by the program
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_an_ended_run_makes_room_for_a_new_one_of_its_name(home: Path, plan_file: PlanFile) -> None:
    path = plan_file(TWO_LEVELS)
    first = Run.prepare(path)
    assert first.name == "two"
    first.boot()
    first.terminate()
    second = Run.prepare(path)
    assert set(states(second).values()) == {"NEW"}
    assert not (second.directory / "first-ended").exists()
    assert (home / "runs" / "two.1" / "first-ended").exists()
    assert run_names() == ["two"]


FAILING = """
    plan: failing
    globals: {flag: ""}
    levels:
      - services:
          good: {local: true, boot: {run: "touch good-booted"}, ready: [{file: good-booted}]}
          bad: {local: true, boot: {run: [sh, -c, 'echo one; echo why >&2; exit 3']}}
      - services:
          above: {local: true, boot: {run: "touch above-booted"}}
"""


def test_a_failed_service_fails_its_level_and_shows_its_last_lines(
    home: Path, plan_file: PlanFile
) -> None:
    run = Run.prepare(plan_file(FAILING))
    outcome = run.boot()
    (failure,) = outcome.failures
    assert (failure.service, failure.action, failure.tail) == ("bad", "boot", ("one", "why"))
    assert failure.text == "the boot program ended with exit code 3"
    assert states(run) == {"good": "VERIFIED", "bad": "LAUNCHED", "above": "NEW"}
    assert not (run.directory / "above-booted").exists()
    assert run.service("bad").record.error == failure.text
    details = {service.name: service.detail for service in run.status().services}
    assert details["bad"] == "boot failed: the boot program ended with exit code 3"
    assert details["above"] == "never booted"


def test_a_corrected_plan_goes_on_where_the_failed_one_stopped(
    home: Path, plan_file: PlanFile
) -> None:
    Run.prepare(plan_file(FAILING)).boot()
    mark = home / "runs" / "failing" / "good-booted"
    assert mark.exists()
    better = FAILING.replace("exit 3", "exit 0")
    run = Run.prepare(plan_file(better))
    assert run.boot().ok
    assert set(states(run).values()) == {"VERIFIED"}
    assert run.service("good").record.launches == 1, "what was verified is not booted again"


def test_a_boot_that_goes_on_does_not_trust_what_was_verified_before(
    home: Path, plan_file: PlanFile
) -> None:
    Run.prepare(plan_file(FAILING)).boot()
    (home / "runs" / "failing" / "good-booted").unlink()
    run = Run.prepare(plan_file(FAILING.replace("exit 3", "exit 0")))
    (failure,) = run.boot().failures
    assert failure.service == "good"
    assert "was verified before and is not well now" in failure.text
    assert states(run)["above"] == "NEW"
    assert run.repair().ok


def test_a_plan_that_changes_what_is_verified_is_refused(home: Path, plan_file: PlanFile) -> None:
    Run.prepare(plan_file(FAILING)).boot()
    other = FAILING.replace("touch good-booted", "touch good-booted more")
    with pytest.raises(ConfigProblem, match=r"services.good: was booted by another plan"):
        Run.prepare(plan_file(other))


def test_what_a_run_was_given_holds_on(home: Path, plan_file: PlanFile) -> None:
    text = FAILING.replace("exit 3", 'exit "$1"').replace(
        'exit "$1"\']', 'exit "$1"\', sh, "${global.flag}"]'
    )
    Run.prepare(plan_file(text), given={"flag": "4"}).boot()
    (failure,) = Run.prepare(plan_file(text)).boot().failures
    assert failure.text.endswith("exit code 4")
    assert Run.prepare(plan_file(text), given={"flag": "0"}).boot().ok


def test_a_half_ended_run_can_only_be_ended(home: Path, plan_file: PlanFile) -> None:
    text = """
        plan: stuck
        levels:
          - services: {low: {local: true, terminate: {run: "touch low-ended"}}}
          - services: {high: {local: true, terminate: {run: "test -e allowed"}}}
    """
    run = Run.prepare(plan_file(text))
    run.boot()
    outcome = run.terminate()
    assert [failure.service for failure in outcome.failures] == ["high"]
    assert states(run) == {"low": "VERIFIED", "high": "TERMINATING"}
    assert not (run.directory / "low-ended").exists()
    with pytest.raises(RunIsTerminating, match="finish with 'epu terminate stuck'"):
        Run.prepare(plan_file(text))
    (run.directory / "allowed").touch()
    assert run.terminate().ok
    assert (run.directory / "low-ended").exists()


def test_services_of_a_level_run_at_the_same_time(home: Path, plan_file: PlanFile) -> None:
    wait = "'touch $1; until test -e $2; do sleep 0.02; done'"
    run = Run.prepare(
        plan_file(f"""
        plan: pair
        defaults: {{timeout: 20s}}
        levels:
          - services:
              left: {{local: true, boot: {{run: "sh -c {wait} sh left right"}}}}
              right: {{local: true, boot: {{run: "sh -c {wait} sh right left"}}}}
        """)
    )
    assert run.boot().ok


def test_a_time_out_is_the_services_own(home: Path, plan_file: PlanFile) -> None:
    run = Run.prepare(
        plan_file("""
        plan: slow
        levels:
          - services:
              slow: {local: true, boot: {run: "sleep 600", timeout: 300ms}}
              fine: {local: true, boot: {run: "sleep 0.6"}}
        """)
    )
    (failure,) = run.boot().failures
    assert failure.text == "the boot program did not end within 0.3 s and was ended"
    assert states(run)["fine"] == "VERIFIED"


@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        ("true", "did not give the output url"),
        ("echo nope > $EPU_BOOTOUT", "is not JSON"),
        ("echo '[1]' > $EPU_BOOTOUT", "must hold an object"),
    ],
)
def test_a_bootout_that_is_wrong_fails_the_boot(
    home: Path, plan_file: PlanFile, script: str, sentence: str
) -> None:
    run = Run.prepare(
        plan_file(f"""
        plan: outputs
        levels: [{{services: {{a: {{
          local: true, outputs: [url], boot: {{run: [sh, -c, {json.dumps(script)}]}}}}}}}}]
        """)
    )
    (failure,) = run.boot().failures
    assert sentence in failure.text


def test_a_check_that_does_not_pass_fails_the_service_at_its_deadline(
    home: Path, plan_file: PlanFile
) -> None:
    run = Run.prepare(
        plan_file("""
        plan: unready
        levels:
          - services:
              a:
                local: true
                boot: {run: "true"}
                ready: [{file: never, timeout: 200ms, interval: 50ms}]
        """)
    )
    moments: list[Moment] = []
    (failure,) = run.boot(lambda moment: moments.append(moment)).failures
    assert failure.action == "verify"
    assert failure.text.startswith("not ready after 0.2 s: ")
    assert "never is not there" in failure.text
    assert run.service("a").record.state is ServiceState.BOOTED
    (run.directory / "never").touch()
    assert run.boot().ok


def test_a_watcher_is_told_everything_in_order(home: Path, plan_file: PlanFile) -> None:
    told: list[tuple[str, str, str]] = []
    run = Run.prepare(plan_file("plan: one\nlevels: [{services: {a: {}}}]"))
    run.boot(lambda moment: told.append((moment.scope, moment.phase, moment.text)))
    assert told == [
        ("level", "starting", ""),
        ("service", "starting", "booting"),
        ("service", "transition", "booted"),
        ("service", "complete", "verified: no check"),
        ("level", "complete", ""),
    ]


def test_a_watcher_may_ask_for_a_restart_and_not_for_ever(home: Path, plan_file: PlanFile) -> None:
    run = Run.prepare(
        plan_file("""
        plan: again
        levels: [{services: {a: {local: true, boot: {run: "sh -c 'echo x >> tries; exit 1'"}}}}]
        """)
    )
    outcome = run.boot(lambda moment: "restart" if moment.phase == "error" else None)
    assert not outcome.ok
    assert (run.directory / "tries").read_text().count("x") == 4


def test_a_stop_ends_programs_and_the_next_boot_goes_on(
    home: Path, plan_file: PlanFile, eventually: Callable[..., None]
) -> None:
    path = plan_file("""
        plan: long
        levels:
          - services:
              a: {local: true, boot: {run: [sh, -c, "test -e go || { echo $$ > pid; sleep 600; }"]}}
        """)
    run = Run.prepare(path)
    stop, raised = Event(), Event()

    def boot() -> None:
        try:
            run.boot(stop=stop)
        except Interrupted:
            raised.set()

    thread = threading.Thread(target=boot)
    thread.start()
    pid = run.directory / "pid"
    eventually(lambda: pid.is_file() and pid.read_text().strip())
    assert Run.open("long").service("a").record.running is not None, "others see it meanwhile"
    stop.set()
    thread.join(20)
    assert raised.is_set()
    assert not Path(f"/proc/{pid.read_text().strip()}").exists()
    record = Run.open("long").service("a").record
    assert (record.state, record.error) == (ServiceState.LAUNCHED, "interrupted")
    assert record.running is None
    (run.directory / "go").touch()
    assert Run.prepare(path).boot().ok


def test_status_asks_every_level_and_leaves_no_trace(home: Path, plan_file: PlanFile) -> None:
    run = Run.prepare(
        plan_file("""
        plan: ill
        levels:
          - services: {low: {local: true, boot: {run: "touch low"}, ready: [{file: low}]}}
          - services: {high: {local: true, ready: [{run: "sh -c 'echo asked; test -e low'"}]}}
          - services: {top: {attributes: {a: b}}}
        """)
    )
    run.boot()
    (run.directory / "low").unlink()
    log = run.directory / "logs" / "high.log"
    before = log.read_bytes()
    status = run.status()
    assert [(service.name, service.ok) for service in status.services] == [
        ("low", False),
        ("high", False),
        ("top", True),
    ]
    assert log.read_bytes() == before
    assert run.service("low").record.state is ServiceState.VERIFIED


def test_secrets_stay_out_of_failures_and_the_record(
    home: Path, plan_file: PlanFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_PW", "hunter2222")
    run = Run.prepare(
        plan_file("""
        plan: secret
        globals: {pw: "env:MY_PW"}
        levels:
          - services:
              a:
                local: true
                boot: {run: [sh, -c, 'echo "pw is $PW"; exit 1'], environment: {PW: "env:MY_PW"}}
              b: {local: true, boot: {run: [sh, -c, 'test "$1" = "$MY_PW"', sh, "${global.pw}"]}}
        """)
    )
    (failure,) = run.boot().failures
    assert failure.tail == ("pw is **********",)
    assert "hunter2222" not in (run.directory / "logs" / "a.log").read_text()
    for path in run.directory.glob("run.db*"):
        assert b"hunter2222" not in path.read_bytes()
    monkeypatch.delenv("MY_PW")
    with pytest.raises(ConfigProblem, match="the environment has no MY_PW"):
        Run.prepare(plan_file(Path(run.plan.source).read_text()))


def test_a_wrong_plan_leaves_nothing_behind(home: Path, plan_file: PlanFile) -> None:
    with pytest.raises(ConfigProblem):
        Run.prepare(plan_file("plan: x\nlevels: [{services: {a: {boot: {run: 'true'}}}}]"))
    assert not home.exists()


@pytest.mark.parametrize("name", ["", "../x", "a.1", "a/b", ".hidden", "x" * 41])
def test_a_name_that_can_be_no_run_is_not_looked_for(home: Path, name: str) -> None:
    with pytest.raises(NotFound):
        Run.open(name)


def test_a_second_boot_at_the_same_time_is_refused(home: Path, plan_file: PlanFile) -> None:
    path = plan_file(TWO_LEVELS)
    run = Run.prepare(path)
    with writer_lock(run.directory, "epu boot"):
        with pytest.raises(RunIsBusy):
            run.boot()
        with pytest.raises(RunIsBusy):
            Run.prepare(path)
        assert run.status().ok is False, "readers are not kept out"


KEPT = f"""
    plan: kept
    levels:
      - services:
          keeper:
            local: true
            provides: [registrar]
            boot: {{run: "true"}}
            attributes: {{accounts: accounts.json}}
            terminate: {{run: "touch keeper-ended"}}
      - services:
          note: {{local: true, boot: {{run: "{sys.executable} -c pass"}}}}
          epu-work: {{timeout: 20s, pool: {{engine: {{type: n_preserving, preserve_n: 1}}}}}}
"""


def dead_broker(directory: Path) -> None:
    users = {"coordinator": {"user": "u", "password": "pa55word"}}
    access = {"host": "127.0.0.1", "port": 9, "vhost": "v", "accounts": users}
    (directory / "accounts.json").write_text(json.dumps(access))


def test_a_pool_whose_broker_is_dead_is_unreachable(home: Path, plan_file: PlanFile) -> None:
    run = Run.prepare(plan_file(KEPT))
    dead_broker(run.directory)
    (failure,) = run.boot().failures
    assert (failure.service, failure.unreachable) == ("epu-work", True)
    assert "can't be reached" in failure.text
    assert "pa55word" not in failure.text


def test_a_run_is_not_ended_while_nobody_can_say_that_its_workers_are_gone(
    home: Path, plan_file: PlanFile
) -> None:
    run = Run.prepare(plan_file(KEPT))
    dead_broker(run.directory)
    run.boot()
    with pytest.raises(WorkersRemain, match="'epu teardown kept' ends workers first"):
        run.terminate()
    assert states(run)["keeper"] == "VERIFIED"
    assert run.terminate(leave_workers=True).ok
    assert (run.directory / "keeper-ended").exists()


def test_a_coordinator_that_never_worked_is_not_asked_for_workers(
    home: Path, plan_file: PlanFile
) -> None:
    run = Run.prepare(plan_file(KEPT.replace('boot: {run: "true"}', 'boot: {run: "false"}')))
    run.boot()
    assert run.terminate().ok
