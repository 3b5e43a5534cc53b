"""The command line itself: help, usage, exit codes, one clear line for what went wrong."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from agent.messages import BrokerAccess, BrokerAccount
from agent.wire import to_wire
from bootlevels.cli import commands as boot_commands
from coordinator.errors import ConfigProblem
from mgmt.broker_files import write_private
from mgmt.cli import COMMANDS, epu
from mgmt.events.cli import moment_of
from mgmt.exit_codes import ExitCode
from mgmt.pools.cli import _assignment, is_fresh
from mgmt.services.cli import cloud_sections, write_boot_outputs

HEAVY = ("kombu", "amqp", "sqlalchemy", "rich", "pydantic", "nameko", "eventlet", "yaml", "jinja2",
         "requests", "psutil", "msgspec")  # fmt: skip


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Run ``epu`` with words; nothing of this machine's own settings is seen."""
    for name in [name for name in os.environ if name.startswith("EPU_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("EPU_HOME", str(tmp_path / "home"))

    def invoke(*words: str) -> Result:
        return CliRunner().invoke(epu, list(words), prog_name="epu")

    return invoke


def accounts_at(tmp_path: Path, port: int) -> str:
    access = BrokerAccess(
        host="127.0.0.1",
        port=port,
        vhost="epu",
        accounts={"coordinator": BrokerAccount(user="coordinator", password="s3cr3t")},
    )
    path = tmp_path / "accounts.json"
    write_private(path, json.dumps(to_wire(access)))
    return str(path)


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def all_commands() -> list[tuple[str, click.Command]]:
    context = click.Context(epu)
    found = []
    for name in epu.list_commands(context):
        command = epu.get_command(context, name)
        assert command is not None, name
        found.append((name, command))
        if isinstance(command, click.Group):
            found += [(f"{name} {inner}", each) for inner, each in command.commands.items()]
    return found


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from mgmt.cli import epu\n"
        "try: epu.main(['--help'], prog_name='epu')\n"
        "except SystemExit as end: assert end.code == 0, end.code\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stderr.strip() == "[]"
    assert "teardown" in done.stdout


def test_every_command_in_the_table_exists_and_every_boot_command_is_in_it():
    assert {name for name, _ in all_commands()} >= set(COMMANDS)
    assert {command.name for command in boot_commands} <= set(COMMANDS)


@pytest.mark.parametrize(("name", "command"), all_commands(), ids=[n for n, _ in all_commands()])
def test_every_command_has_help_with_an_example_and_the_common_options(name, command):
    assert command.help
    if isinstance(command, click.Group):
        return
    assert "Example" in command.help
    options = {option for each in command.params for option in each.opts}
    if name not in ("shell", "completion", "demo"):  # these show, and have no result
        assert {"--json", "-q", "--quiet", "-v", "--verbose"} <= options


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["poool"], "no command 'poool' (did you mean 'pool'?)"),
        (["pool", "shwo", "x"], "no command 'shwo' (did you mean 'show'?)"),
        (["pool", "set-n", "x", "-1"], "-1 is not in the range"),
        (["pool", "set-n", "x", "many"], "'many' is not a valid integer"),
        (["pool", "hold", "x", "--suspend", "scale"], "'scale' is not one of"),
        (["pool", "hold", "x", "--suspend", "replace", "--recommend-only"], "already suspends"),
        (["pool", "override", "x"], "give a size N, or --clear"),
        (["pool", "override", "x", "3", "--clear"], "give a size N, or --clear"),
        (["pool", "override", "x", "-3"], "-3 is not in the range"),
        (["pool", "override", "x", "3", "--for", "soon"], "'soon'"),
        (["explain", "x", "--at", "noon"], "'noon' is neither"),
        (["pool", "rollout", "x", "--stop", "--status"], "two different things"),
        (["pool", "rollout", "x", "--stop", "--max-surge", "2"], "for starting a rollout"),
        (["pool", "rollout", "x", "--max-surge", "-1"], "-1 is not in the range"),
        (["pool", "reconfigure", "x", "max"], "'max' is not KEY=VALUE"),
        (["events", "--since", "yesterday"], "'yesterday' is neither"),
        (["events", "some.log"], "to read some.log: --file some.log"),
        (["events", "--file", "some.log", "--follow"], "--file reads what there is"),
        (["nodes", "--nope"], "No such option"),
        (["graph", "--out", "x.gif"], "end it in .svg, .png, .csv"),
        (["doctor", "--yes"], "--yes and --end-workers go with --fix"),
        (["node", "exec", "x-0"], "Missing argument 'COMMAND"),
        (["node", "exec", "x-0", "--timeout", "0", "--", "ls"], "0 is not in the range"),
        (["node", "logs", "x-0", "-n", "9999"], "9999 is not in the range"),
        (["token", "create"], "Missing option '--pool'"),
        (["token", "create", "--pool", "x", "--expires", "soon"], "'soon' is not like 90s"),
        (["token", "create", "--pool", "x", "--uses", "0"], "0 is not in the range"),
        (["wait", "x", "--state", "WELL"], "'WELL' is not one of"),
        (["serve", "--dir", "/nowhere/at/all"], "--accounts, --run and at least one --cloud"),
    ],
)
def test_wrong_usage_is_exit_2_and_one_line(run, words, said):
    result = run(*words)
    assert result.exit_code == ExitCode.USAGE
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert result.stdout == ""


@pytest.mark.parametrize(
    "words",
    [["pools", "--run", "nope"], ["nodes", "--run", "nope"], ["teardown", "nope"], ["pools"]],
)
def test_an_unknown_run_is_exit_3_and_one_line(run, words):
    result = run(*words)
    assert result.exit_code == ExitCode.NOT_FOUND
    assert len(result.stderr.splitlines()) == 1
    assert "Traceback" not in result.output


def test_events_of_files_need_no_system_and_name_the_lines_that_are_broken(run, tmp_path):
    line = 'EPU_EVENT {"time": 1.0, "source": "controller", "name": "decision", "sequence": 4}'
    (tmp_path / "a.log").write_text(f"hello\n{line}\n{line[:30]}\n")
    (tmp_path / "b.log").write_text(line.replace("4}", "5}"))
    result = run("events", "--json", "--file", str(tmp_path / "a.log"), str(tmp_path / "b.log"))
    assert result.exit_code == ExitCode.WELL
    document = json.loads(result.stdout)
    assert [one["id"] for one in document["events"]] == ["controller:4", "controller:5"]
    assert f"{tmp_path / 'a.log'}:3: not JSON" in result.stderr
    assert run("events", "--file", str(tmp_path / "c.log")).exit_code == ExitCode.NOT_FOUND


def test_starting_with_an_existing_broker_that_is_not_there_is_exit_5(run, tmp_path):
    url = f"amqp://me:s3cr3t@127.0.0.1:{closed_port()}"
    result = run("broker", "start", "--dir", str(tmp_path / "b"), "--url", url)
    assert result.exit_code == ExitCode.UNREACHABLE
    assert "no broker answers at" in result.stderr
    assert "s3cr3t" not in result.output


def test_a_missing_accounts_file_is_a_wrong_option(run, tmp_path):
    result = run("pools", "--accounts", str(tmp_path / "none.json"))
    assert result.exit_code == ExitCode.USAGE
    assert "none.json" in result.stderr


def test_a_pool_file_is_checked_before_anybody_is_asked(run, tmp_path):
    section = tmp_path / "pool.yaml"
    section.write_text("maks: 3\nengine: {type: n_presrving}\n")
    result = run("pool", "add", "p", "-f", str(section), "--accounts", "none.json")
    assert result.exit_code == ExitCode.USAGE
    assert "maks: unknown key" in result.stderr
    section.write_text("a: [")
    assert run("pool", "add", "p", "-f", str(section)).exit_code == ExitCode.USAGE


def test_stopping_what_never_ran_is_well_and_checking_it_is_not_found(run, tmp_path):
    directory = str(tmp_path / "nothing")
    assert run("serve", "--stop", "--dir", directory).exit_code == ExitCode.WELL
    assert run("serve", "--check", "--dir", directory).exit_code == ExitCode.NOT_FOUND
    assert run("broker", "stop", "--dir", directory).exit_code == ExitCode.WELL
    status = run("broker", "status", "--dir", directory, "--json")
    assert status.exit_code == ExitCode.UNREACHABLE
    document = json.loads(status.stdout)
    assert (document["schema"], document["state"]) == ("epu.broker", "absent")


def test_a_full_disk_is_one_line_and_exit_1(run, tmp_path, monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device", str(tmp_path))

    monkeypatch.setattr(Path, "mkdir", full)
    words = ["serve", "--dir", str(tmp_path / "c"), "--accounts", str(tmp_path / "a.json")]
    result = run(*words, "--run", "demo", "--cloud", "here=process")
    assert result.exit_code == ExitCode.PROBLEM
    assert "No space left on device; free some space" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_traceback_is_shown_on_request_only(run, tmp_path, monkeypatch):
    words = ("pools", "--accounts", str(tmp_path / "none.json"))
    assert "Traceback" not in run(*words).output
    monkeypatch.setenv("EPU_DEBUG", "1")
    assert "Traceback" in run(*words).stderr


def test_a_pipe_that_is_closed_early_is_no_traceback(tmp_path):
    code = (
        "import sys; from mgmt.cli import epu; import mgmt.system.cli\n"
        "sys.stdin.read()\n"
        "epu.main(['--help'], prog_name='epu')"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout and process.stdin and process.stderr
    process.stdout.close()
    process.stdin.close()
    said = process.stderr.read()
    process.stderr.close()
    process.wait(timeout=60)
    assert b"Traceback" not in said


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_the_line_for_a_shell(run, shell):
    assert f"_EPU_COMPLETE={shell}_source" in run("completion", shell).stdout


def test_click_itself_completes_the_commands():
    environment = {
        **os.environ,
        "_EPU_COMPLETE": "bash_complete",
        "COMP_WORDS": "epu po",
        "COMP_CWORD": "1",
    }
    done = subprocess.run(
        [sys.executable, "-m", "mgmt.cli"], env=environment, capture_output=True, text=True
    )
    assert done.stdout.split() == ["plain,pools", "plain,pool"]


def complete(words: str, **environment: str) -> list[str]:
    told = {"_EPU_COMPLETE": "bash_complete", "COMP_WORDS": words, **environment}
    told["COMP_CWORD"] = str(words.count(" "))
    done = subprocess.run(
        [sys.executable, "-m", "mgmt.cli"],
        env={**os.environ, **told},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stderr == ""
    return [line.removeprefix("plain,") for line in done.stdout.split()]


def test_names_of_runs_are_completed_and_what_can_not_be_had_is_not_offered(tmp_path):
    for name in ("demo", "dome", "other"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "run.db").touch()
    home = str(tmp_path)
    assert complete("epu teardown d", EPU_HOME=home) == ["demo", "dome"]
    for words in ("epu repair d", "epu history d", "epu reload x.yaml -n d"):
        assert complete(words, EPU_HOME=home) == ["demo", "dome"]
    assert complete("epu samples copy sleep", EPU_HOME=home) == ["sleeper", "sleeper-vms"]
    assert complete("epu boot multi", EPU_HOME=home) == ["multi-cloud", "file,multi"]
    assert complete("epu schema po", EPU_HOME=home)[:2] == ["pools", "pool"]
    dead = accounts_at(tmp_path, closed_port())
    assert complete("epu node show ", EPU_ACCOUNTS=dead, EPU_HOME=str(tmp_path)) == []
    with socket.create_server(("127.0.0.1", 0)) as server:  # takes connections, says nothing
        hung = accounts_at(tmp_path, server.getsockname()[1])
        assert complete("epu pool show ", EPU_ACCOUNTS=hung, EPU_HOME=str(tmp_path)) == []


def test_since_is_a_distance_or_a_time():
    assert moment_of("90s", 1000.0) == 910.0
    assert moment_of("1.5h", 10_000.0) == 4600.0
    expected = time.mktime((2026, 1, 31, 12, 0, 0, 0, 0, -1))
    assert moment_of("2026-01-31T12:00", 0.0) == expected
    assert moment_of("2h30m", 10_000.0) == 1000.0
    assert moment_of("12:00", expected + 60) == expected
    assert moment_of("12:00:30", expected + 10) == expected + 30 - 86400, "yesterday's"
    for wrong in ("25:00", "yesterday", "-5m", "m", "5"):
        with pytest.raises(click.BadParameter, match="neither like 90s"):
            moment_of(wrong, expected)


def test_the_values_of_a_reconfiguration_are_yaml():
    assert _assignment("max=10") == ("max", 10)
    assert _assignment("engine.queue=work=more") == ("engine.queue", "work=more")
    assert _assignment("clouds=[here, west]") == ("clouds", ["here", "west"])
    assert _assignment("x=") == ("x", "")


def test_clouds_of_the_command_line_become_sections():
    found = cloud_sections(("here=process", "mem=in_memory"), ("here.root=/r=1",))
    assert found == {
        "here": {"driver": "process", "root": "/r=1"},
        "mem": {"driver": "in_memory"},
    }
    assert list(found) == ["here", "mem"], "the first is the default"


@pytest.mark.parametrize(
    ("clouds", "settings", "said"),
    [
        (("here",), (), "NAME=DRIVER"),
        (("here=process",), ("here=x",), "NAME.KEY=VALUE"),
        (("here=process",), ("heer.root=x",), "did you mean 'here'"),
        (("here=proces",), (), "did you mean 'process'"),
    ],
)
def test_wrong_cloud_options_are_said(clouds, settings, said):
    with pytest.raises((click.UsageError, ConfigProblem), match=said):
        cloud_sections(clouds, settings)


def test_a_boot_program_tells_its_plan_what_it_found_out(tmp_path, monkeypatch):
    target = tmp_path / "bootout.json"
    target.write_text('{"kept": "1"}')
    monkeypatch.setenv("EPU_BOOTOUT", str(target))
    write_boot_outputs({"accounts": "/a"})
    assert json.loads(target.read_text()) == {"kept": "1", "accounts": "/a"}
    monkeypatch.delenv("EPU_BOOTOUT")
    write_boot_outputs({"accounts": "/b"})
    assert json.loads(target.read_text())["accounts"] == "/a"


def test_a_wait_is_not_answered_by_a_state_from_before_it():
    assert not is_fresh({"state": "STABLE", "decided_age": 0.9}, elapsed=0.1)
    assert is_fresh({"state": "STABLE", "decided_age": 0.4}, elapsed=0.9)
    assert not is_fresh({"state": "PENDING", "decided_age": None}, elapsed=60.0)
    assert is_fresh({"state": "HELD", "decided_age": 500.0}, elapsed=0.1)


def test_what_pools_cost_is_a_column_where_a_cloud_tells_prices(monkeypatch):
    pools = [{"name": "a", "state": "STABLE", "price": 0.4256}, {"name": "b", "state": "STABLE"}]
    answer = {"pools": pools, "missing": {}}
    monkeypatch.setattr("mgmt.invocation.cli.Invocation.ask", lambda *_: answer)
    head, first, second = CliRunner().invoke(epu, ["pools"]).output.splitlines()
    assert "$/H" in head and "0.4256" in first and second.split()[-2] == "-"
    pools[0]["price"] = None
    assert "$/H" not in CliRunner().invoke(epu, ["pools"]).output
