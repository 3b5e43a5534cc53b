"""The commands as a person sees them: words, exit codes, JSON."""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from bootlevels import cli
from bootlevels.planning import cli as planning
from bootlevels.run_lock import writer_lock
from bootlevels.running import cli as running
from bootlevels.samples import cli as samples

PlanFile = Callable[..., Path]
Epu = Callable[..., Result]

commands = (*cli.commands, *running.commands, *planning.commands, *samples.commands)

GOOD = """
    plan: good
    globals: {word: hello}
    levels:
      - services:
          a:
            local: true
            attributes: {said: "${global.word}"}
            boot: {run: [sh, -c, 'test "$1" != fail', sh, "${.said}"]}
            ready: [{run: "true"}]
            terminate: {run: [sh, -c, "test ! -e stuck"]}
    profiles: {loud: {globals: {word: HELLO}}}
"""


@pytest.fixture
def epu(home: Path) -> Epu:
    group = click.Group(commands={command.name or "": command for command in commands})

    def invoke(*words: object) -> Result:
        result = CliRunner().invoke(group, [str(word) for word in words])
        assert result.exception is None or isinstance(result.exception, SystemExit), result
        assert "Traceback" not in result.output
        return result

    return invoke


def test_a_run_is_booted_seen_and_ended(epu: Epu, plan_file: PlanFile) -> None:
    booted = epu("boot", plan_file(GOOD), "-n", "r1")
    assert booted.exit_code == 0
    assert "run 'r1' is booted" in booted.stdout
    assert "a: verified" in booted.stderr
    status = epu("status", "r1")
    assert status.exit_code == 0
    assert "VERIFIED" in status.stdout
    listed = json.loads(epu("list", "--json").stdout)["runs"]
    assert [(each["run"], each["state"]) for each in listed] == [("r1", "BOOTED")]
    assert epu("terminate", "r1").exit_code == 0
    assert epu("terminate", "r1").exit_code == 0
    assert epu("status", "r1").exit_code == 1
    assert json.loads(epu("list", "--json").stdout)["runs"][0]["state"] == "TERMINATED"


def test_json_is_one_document_and_progress_goes_beside_it(epu: Epu, plan_file: PlanFile) -> None:
    result = epu("boot", plan_file(GOOD), "--json", "--profile", "loud")
    found = json.loads(result.stdout)
    assert (found["ok"], found["run"], found["profile"]) == (True, "good", "loud")
    assert found["services"][0]["attributes"]["said"] == "HELLO"
    assert json.loads(epu("status", "good", "--json").stdout)["services"][0]["ok"] is True


def test_more_is_said_with_v_and_only_beside_the_result(epu: Epu, plan_file: PlanFile) -> None:
    path = plan_file(GOOD)
    quiet, plain = epu("boot", path, "-n", "q", "-q"), epu("boot", path, "-n", "p")
    verbose = epu("boot", path, "-n", "v", "-v")
    assert quiet.output == ""
    assert "a.said = hello" not in plain.output
    assert "a.said = hello" in verbose.stderr
    assert "record and logs:" in verbose.stderr and " (after " in verbose.stderr
    assert verbose.stdout == plain.stdout.replace("'p'", "'v'").replace("status p", "status v")
    assert "a.said = hello" in epu("status", "v", "-v").stderr
    assert json.loads(epu("status", "v", "--json", "-v").stdout)["ok"]


def test_the_output_file_is_private_and_whole(
    epu: Epu, plan_file: PlanFile, tmp_path: Path
) -> None:
    out = tmp_path / "out.json"
    out.write_text("old")
    out.chmod(0o644)
    assert epu("boot", plan_file(GOOD), "-o", out, "-q").output == ""
    assert json.loads(out.read_text())["services"][0]["state"] == "VERIFIED"
    assert stat.S_IMODE(out.stat().st_mode) == 0o600


def test_a_failed_boot_is_exit_1_and_names_the_way_on(epu: Epu, plan_file: PlanFile) -> None:
    path = plan_file(GOOD)
    failed = epu("boot", path, "-g", "word=fail")
    assert failed.exit_code == 1
    assert f"'epu boot {path} -n good' goes on from here" in failed.stderr
    assert epu("status", "good").exit_code == 1
    assert epu("boot", path, "-g", "word=x").exit_code == 0


def test_a_failed_termination_is_exit_1_and_the_other_runs_get_their_turn(
    epu: Epu, plan_file: PlanFile, home: Path
) -> None:
    path = plan_file(GOOD)
    for name in ("r1", "r2"):
        epu("boot", path, "-n", name, "-q")
    (home / "runs" / "r1" / "stuck").touch()
    result = epu("terminate", "r1", "r2", "--json")
    found = json.loads(result.stdout)["runs"]
    assert result.exit_code == 1
    assert (found["r1"]["ok"], found["r2"]["ok"]) == (False, True)
    (home / "runs" / "r1" / "stuck").unlink()
    assert epu("terminate", "r1").exit_code == 0


@pytest.mark.parametrize(
    "words", [("boot", "{plan}", "-g", "word"), ("boot", "{plan}", "-g", "=x"), ("boot", "no-such")]
)
def test_wrong_usage_is_exit_2(epu: Epu, plan_file: PlanFile, words: tuple[str, ...]) -> None:
    path = plan_file(GOOD)
    assert epu(*(word.format(plan=path) for word in words)).exit_code == 2


def test_an_unknown_sample_is_answered_with_the_nearest(epu: Epu) -> None:
    result = epu("boot", "sleper")
    assert "did you mean 'sleeper'?" in result.stderr


@pytest.mark.parametrize("command", ["status", "terminate"])
def test_an_unknown_run_is_exit_3_with_the_nearest_name(
    epu: Epu, plan_file: PlanFile, command: str
) -> None:
    epu("boot", plan_file(GOOD), "-q")
    result = epu(command, "goood")
    assert result.exit_code == 3
    assert "there is no run 'goood'" in result.stderr
    assert "did you mean 'good'?" in result.stderr


def test_a_wrong_plan_is_exit_1_with_every_problem(epu: Epu, plan_file: PlanFile) -> None:
    path = plan_file("plan: x\nlevels: [{services: {a: {lcal: true}, b: {bot: 1}}}]")
    for command in ("validate", "boot"):
        result = epu(command, path)
        assert result.exit_code == 1
        assert "2 problems:" in result.stderr
        assert "did you mean 'local'?" in result.stderr
    found = json.loads(epu("validate", path, "--json").stdout)
    assert [problem["key"] for problem in found["problems"]] == [
        "services.a.lcal",
        "services.b.bot",
    ]


def test_validate_looks_at_every_profile(epu: Epu, plan_file: PlanFile, home: Path) -> None:
    path = plan_file(GOOD.replace("{word: HELLO}", "{word: '${global.wrd}'}"))
    result = epu("validate", path)
    assert result.exit_code == 1
    assert "unknown global 'wrd'" in result.stderr
    assert epu("validate", plan_file(GOOD)).exit_code == 0
    assert not home.exists()


def test_a_busy_run_is_exit_1_and_says_who(epu: Epu, plan_file: PlanFile, home: Path) -> None:
    path = plan_file(GOOD)
    epu("boot", path, "-q")
    with writer_lock(home / "runs" / "good", "epu boot"):
        for words in (("boot", path), ("terminate", "good")):
            result = epu(*words)
            assert result.exit_code == 1
            assert f"being changed by process {os.getpid()}" in result.stderr


def test_a_broken_record_is_named_and_hides_no_other_run(
    epu: Epu, plan_file: PlanFile, home: Path
) -> None:
    epu("boot", plan_file(GOOD), "-q")
    (home / "runs" / "bad").mkdir()
    (home / "runs" / "bad" / "run.db").write_bytes(b"x" * 5000)
    listed = epu("list", "--json")
    assert listed.exit_code == 1
    assert "bad/run.db" in listed.stderr
    found = json.loads(listed.stdout)
    assert [each["run"] for each in found["runs"]] == ["good"]
    assert "bad/run.db" in found["unreadable"][0]
    assert epu("status", "bad").exit_code == 1


def test_a_home_that_can_not_be_written_is_one_sentence(
    epu: Epu, plan_file: PlanFile, home: Path
) -> None:
    home.write_text("a file where the directory should be")
    result = epu("boot", plan_file(GOOD))
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert "Not a directory" in result.stderr


DEAD = f"""
    plan: dead
    levels:
      - services:
          keeper: {{provides: [registrar], attributes: {{accounts: "{{accounts}}"}}}}
      - services: {{epu-work: {{pool: {{}}}}}}
      - services: {{never: {{local: true, boot: {{run: "{sys.executable} -c pass"}}}}}}
"""


def test_a_dead_broker_is_exit_5_and_terminate_refuses_with_4(
    epu: Epu, plan_file: PlanFile, tmp_path: Path
) -> None:
    users = {"coordinator": {"user": "u", "password": "pa55word"}}
    access = {"host": "127.0.0.1", "port": 9, "vhost": "v", "accounts": users}
    (tmp_path / "accounts.json").write_text(json.dumps(access))
    path = plan_file(DEAD.replace("{accounts}", str(tmp_path / "accounts.json")))
    result = epu("boot", path)
    assert result.exit_code == 5
    assert "can't be reached" in result.stderr
    assert "pa55word" not in result.output
    refused = epu("terminate", "dead")
    assert refused.exit_code == 4
    assert "'epu teardown dead'" in refused.stderr
    assert epu("terminate", "dead", "--leave-workers").exit_code == 0


def test_a_summary_that_a_service_gives_is_shown_at_the_end(epu: Epu, plan_file: PlanFile) -> None:
    plan = plan_file("""\
        plan: told
        levels: [{services: {a: {attributes: {summary: "all is well"}}}}]
        """)
    assert epu("boot", str(plan)).stdout.splitlines()[0] == "all is well"
    assert epu("boot", str(plan), "-q").stdout == ""


def test_a_sample_is_copied_and_nothing_is_overwritten(epu: Epu, tmp_path: Path) -> None:
    target = tmp_path / "my plans" / "web"
    copied = epu("samples", "copy", "webapp", str(target))
    assert copied.exit_code == 0
    assert f"epu boot '{target}/plan.yaml' -n my-webapp" in copied.stdout
    assert {"plan.yaml", "README.md"} <= {path.name for path in target.iterdir()}
    (target / "plan.yaml").write_text("mine")
    again = epu("samples", "copy", "webapp", str(target))
    assert again.exit_code == 1
    assert "not empty; nothing was copied" in again.stderr
    assert (target / "plan.yaml").read_text() == "mine"


def test_a_sample_that_is_not_there_is_not_copied(epu: Epu, tmp_path: Path) -> None:
    done = epu("samples", "copy", "webap", str(tmp_path / "x"))
    assert done.exit_code == 2
    assert "did you mean 'webapp'" in done.stderr
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("name", ["broker-stress", "broker_stress"])
def test_a_sample_is_found_with_dashes_and_underscores(epu: Epu, name: str) -> None:
    done = epu("validate", name)
    assert done.exit_code == 0, done.stderr


def test_samples_are_listed_with_their_profiles(epu: Epu) -> None:
    listed = json.loads(epu("samples", "list", "--json").stdout)["samples"]
    found = {each["name"]: each for each in listed}
    assert found["sleeper"]["profiles"] == ["elastic"]
    assert "sleeper" in epu("samples", "list").stdout


@pytest.mark.parametrize("command", [c.name for c in commands if c.name != "samples"])
def test_every_command_explains_itself_with_examples(epu: Epu, command: str) -> None:
    result = epu(command, "--help")
    assert result.exit_code == 0
    assert f"epu {command}" in result.output


@pytest.mark.parametrize("words", [("-n", "Bad name"), ("-g", "nosuch=1"), ("--cloud", "x=y")])
def test_what_was_typed_wrongly_is_wrong_usage_and_makes_no_run(
    epu: Epu, plan_file: PlanFile, words: tuple[str, str]
) -> None:
    result = epu("boot", plan_file(GOOD), *words)
    assert result.exit_code == 2, result.output
    assert "command line" in result.output
