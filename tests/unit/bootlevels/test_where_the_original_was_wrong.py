"""The known defects of the tool that this one replaces, each as what is true here."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from threading import Event, Timer

import click
import pytest
from click.testing import CliRunner, Result

from bootlevels import cli
from bootlevels.api import Run
from bootlevels.planning import cli as planning
from bootlevels.runner import Interrupted
from bootlevels.running import cli as running

PlanFile = Callable[..., Path]
COMMANDS = (*cli.commands, *running.commands, *planning.commands)


def epu(*words: object) -> Result:
    group = click.Group(commands={command.name or "": command for command in COMMANDS})
    result = CliRunner().invoke(group, [str(word) for word in words])
    assert result.exception is None or isinstance(result.exception, SystemExit), result
    return result


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


STUCK = """
    plan: stuck
    levels:
      - services: {low: {local: true, boot: {run: "touch up"}, terminate: {run: "touch low-ended"}}}
      - services: {high: {local: true, terminate: {run: "test -e allowed"}}}
"""


def test_a_termination_that_failed_keeps_the_record_and_can_be_repeated(
    home: Path, plan_file: PlanFile
) -> None:
    epu("boot", plan_file(STUCK))
    assert epu("terminate", "stuck").exit_code == 1
    run = Run.open("stuck")
    assert run.service("low").record.state.value == "VERIFIED"
    (run.directory / "allowed").touch()
    assert epu("terminate", "stuck").exit_code == 0
    assert (run.directory / "low-ended").exists()
    assert Run.open("stuck").info.terminated_at is not None


CHILDREN = """
    plan: children
    levels:
      - services:
          a:
            local: true
            boot:
              run: [sh, -c, "sleep 600 & echo $! > pids; sleep 600"]
              timeout: %s
"""


def test_a_time_out_leaves_no_children_and_is_not_exit_code_0(
    home: Path, plan_file: PlanFile, eventually: Callable[..., None]
) -> None:
    result = epu("boot", plan_file(CHILDREN % "1s"))
    assert result.exit_code == 1
    assert "did not end within 1 s" in result.output
    pid = int((home / "runs/children/pids").read_text())
    eventually(lambda: not alive(pid))


def test_an_interrupt_leaves_no_children_and_a_record_that_is_right(
    home: Path, plan_file: PlanFile, eventually: Callable[..., None]
) -> None:
    run = Run.prepare(plan_file(CHILDREN % "100s"))
    stop = Event()
    pids = run.directory / "pids"
    began = time.monotonic()

    def when_started() -> None:
        while not (pids.exists() and pids.read_text()) and time.monotonic() - began < 20:
            Event().wait(0.02)
        stop.set()

    Timer(0, when_started).start()
    with pytest.raises(Interrupted):
        run.boot(stop=stop)
    eventually(lambda: not alive(int(pids.read_text())))
    assert run.service("a").record.error == "interrupted"


def test_a_service_that_was_never_booted_is_no_success(home: Path, plan_file: PlanFile) -> None:
    path = plan_file("""
        plan: half
        levels:
          - services: {bad: {local: true, boot: {run: "false"}}}
          - services: {never: {local: true, boot: {run: "true"}}}
    """)
    assert epu("boot", path).exit_code == 1
    status = epu("status", "half", "--json")
    found = {service["name"]: service for service in json.loads(status.stdout)["services"]}
    assert status.exit_code == 1
    assert found["never"]["ok"] is False
    assert found["never"]["detail"] == "never booted"


def test_every_reference_of_a_value_is_resolved_not_only_the_first(
    home: Path, plan_file: PlanFile
) -> None:
    path = plan_file("""
        plan: two
        levels:
          - services: {a: {attributes: {x: "1", y: "2"}}}
          - services: {b: {local: true, boot: {run: ["test", "${a.x}-${a.y}", "=", "1-2"]}}}
    """)
    assert epu("boot", path).exit_code == 0


@pytest.mark.parametrize("command", [command.name for command in COMMANDS])
def test_an_unknown_option_is_exit_code_2(home: Path, command: str) -> None:
    result = epu(command, "--no-such-option")
    assert result.exit_code == 2
    assert "No such option" in result.output


MARKED = """
    plan: marked
    levels:
      - services:
          low:
            local: true
            boot: {run: "touch low"}
            ready: [{file: low}]
            terminate: {run: "touch low-ended"}
      - services: {high: {local: true, ready: [{file: high}], boot: {run: "touch high"}}}
"""


def test_a_status_ends_nothing_and_changes_nothing_whatever_is_ill(
    home: Path, plan_file: PlanFile
) -> None:
    epu("boot", plan_file(MARKED))
    run = Run.open("marked")
    (run.directory / "low").unlink()
    before = run.records()
    for _ in range(3):
        assert epu("status", "marked").exit_code == 1
    assert run.records() == before
    assert not (run.directory / "low-ended").exists()


def test_a_status_asks_the_levels_above_an_ill_one_too(home: Path, plan_file: PlanFile) -> None:
    epu("boot", plan_file(MARKED))
    (home / "runs/marked/low").unlink()
    found = {
        service["name"]: service["ok"]
        for service in json.loads(epu("status", "marked", "--json").stdout)["services"]
    }
    assert found == {"low": False, "high": True}


def test_a_quiet_status_says_nothing_but_its_exit_code(home: Path, plan_file: PlanFile) -> None:
    epu("boot", plan_file(MARKED))
    well = epu("status", "marked", "-q")
    assert (well.exit_code, well.output) == (0, "")
    (home / "runs/marked/low").unlink()
    ill = epu("status", "marked", "-q")
    assert (ill.exit_code, ill.output) == (1, "")


def test_a_run_of_another_plan_is_not_changed_silently(home: Path, plan_file: PlanFile) -> None:
    epu("boot", plan_file(MARKED))
    other = plan_file(MARKED.replace("touch low", "touch low more"), "other.yaml")
    result = epu("boot", other)
    assert result.exit_code == 1
    assert "epu reload" in result.output


def test_secrets_are_in_no_output_of_any_command(
    home: Path, plan_file: PlanFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SITE_PASSWORD", "correct-horse")
    path = plan_file("""
        plan: hidden
        globals: {password: "env:SITE_PASSWORD"}
        levels:
          - services:
              a:
                local: true
                attributes: {pw: "${global.password}"}
                boot: {run: [sh, -c, 'echo "pw $1"', sh, "${.pw}"]}
                terminate: {run: [sh, -c, 'echo "pw $1"; exit 1', sh, "${.pw}"]}
    """)
    document = home.parent / "document.json"
    outputs = [
        epu("plan", path).output,
        epu("plan", path, "--json").output,
        epu("boot", path, "--json", "-o", document).output,
        epu("status", "hidden", "--json").output,
        epu("history", "hidden", "--json").output,
        epu("repair", "hidden", "--json").output,
        epu("reload", path, "-n", "hidden").output,
        epu("terminate", "hidden").output,
        document.read_text(),
    ]
    assert not [output for output in outputs if "correct-horse" in output]
    assert "pw ***" in outputs[-2], "the lines of the failed program are shown, masked"
    for file in (home / "runs/hidden").glob("run.db*"):
        assert b"correct-horse" not in file.read_bytes()


def test_a_dry_run_of_a_plan_leaves_no_trace(home: Path, plan_file: PlanFile) -> None:
    result = epu("plan", plan_file(MARKED), "--json")
    assert result.exit_code == 0, result.output
    assert not home.exists()
    document = json.loads(result.stdout)
    assert document["launches"] == {
        "machines": {},
        "local_programs": ["low", "high"],
        "pools": [],
    }
    assert document["levels"][0]["services"][0]["boot"]["run"] == ["touch", "low"]


def test_a_plan_shows_values_that_are_known_and_references_that_are_not(
    home: Path, plan_file: PlanFile
) -> None:
    path = plan_file("""
        plan: shown
        globals: {size: "3", token: "env:TOKEN"}
        levels:
          - services: {a: {local: true, boot: {run: "true"}, outputs: [url]}}
          - services: {b: {attributes: {both: "${a.url}/${global.size}", t: "${global.token}"}}}
    """)
    document = json.loads(epu("plan", path, "--json").stdout)
    attributes = document["levels"][1]["services"][0]["attributes"]
    assert attributes == {"both": "${a.url}/3", "t": "${global.token}"}
    assert document["globals"]["token"] == "env:TOKEN"
    assert os.environ.get("TOKEN") is None
