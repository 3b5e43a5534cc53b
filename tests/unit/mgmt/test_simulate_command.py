"""``epu simulate``: what its page says runs as it stands, and wrong input is told by its place."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result

from coordinator.simulation.trace_recorded import boot_times_of
from coordinator.simulation.trace_times import Times
from mgmt import run_locator
from mgmt.cli import epu
from mgmt.simulations.inputs import logged_events

DOCS = Path(__file__).parents[3] / "docs"
PAGE = (DOCS / "simulate.md").read_text(encoding="utf-8")
COMMANDS = [
    command.replace("\\\n", " ")
    for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    for command in re.split(r"(?<!\\)\n", block.strip())
]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the examples, as the working directory; no run lives."""
    shutil.copytree(DOCS / "examples", tmp_path / "examples")
    monkeypatch.chdir(tmp_path / "examples")
    monkeypatch.setenv("EPU_HOME", str(tmp_path / "home"))
    return tmp_path / "examples"


def run(command: str) -> Result:
    program, *words = shlex.split(command)
    assert program == "epu"
    return CliRunner().invoke(epu, words, prog_name="epu")


@pytest.mark.parametrize("command", COMMANDS)
def test_the_pages_commands_run_as_they_stand(here: Path, command: str) -> None:
    found = run(command)
    assert found.exit_code == 0, found.output
    assert "machine-hours" in found.stdout
    if "--out" in command:
        words = {one.text for one in ElementTree.parse(here / "day.svg").iter() if one.text}
        assert {"nodes", "running", "messages ready"} <= words


def simulated(command: str) -> dict[str, Any]:
    found = run(f"{command} --json")
    assert found.exit_code == 0, found.output
    document: dict[str, Any] = json.loads(found.stdout)
    return {one["policy"]: one for one in document["policies"]}


def test_the_same_seed_gives_the_same_figures_and_the_policies_meet_the_same_load(
    here: Path,
) -> None:
    day = (here / "office-day.csv").read_text().splitlines(keepends=True)
    (here / "morning.csv").write_text("".join([day[0], *day[73:145]]))
    command = (
        "epu simulate --pool in-proportion.yaml --pool always-ten.yaml --trace morning.csv "
        "--service exponential:20 --price 0.5"
    )
    first = simulated(command)
    assert first == simulated(command)
    assert first != simulated(f"{command} --seed 2")
    ten, tracking = first["always-ten"], first["in-proportion"]
    assert ten["messages"] == tracking["messages"]
    assert ten["workers_max"] == 10 and ten["launches"] == 10 and ten["terminations"] == 0
    assert ten["machine_hours"] == pytest.approx(60, abs=0.5)
    assert ten["cost"] == pytest.approx(ten["machine_hours"] * 0.5)
    assert tracking["machine_hours"] < ten["machine_hours"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "trace.csv:1: it is empty (the first line is 'time,service'"),
        ("time,arrivls\n1,2\n", "trace.csv:1: arrivls: an unknown column (did you mean 'arrivals'"),
        ("time\n1\n", "trace.csv:1: it says neither what arrives nor how long the queue is"),
        ("time,queue,service\n1,1,1\n", "goes with neither arrivals nor service"),
        ("time,queue\n", "trace.csv:1: it has no rows"),
        ("time,queue\n1,2\n2,many\n", "trace.csv:3: queue: 'many' can't be read (write a number"),
        ("time,queue\n1,2\n2,nan\n", "trace.csv:3: queue: 'nan' can't be read"),
        ("time,queue\n1,-2\n", "trace.csv:2: queue: '-2' can't be read"),
        ("time,queue\n5,1\n4,1\n", "trace.csv:3: time: it is earlier than the row before"),
        ("time,queue\nsoon,1\n", "trace.csv:2: time: 'soon' can't be read (write seconds, or 2"),
        ("time,queue\n1,2,3\n", "trace.csv:2: 3 values for 2 columns"),
        ("time,queue\n1,\x00\n", "trace.csv:2: "),
    ],
)
def test_a_trace_that_can_not_be_used_is_told_with_line_and_column(
    here: Path, text: str, said: str
) -> None:
    (here / "trace.csv").write_text(text)
    found = run("epu simulate --pool always-ten.yaml --trace trace.csv")
    assert found.exit_code == 1 and said in found.stderr, found.output
    assert "Traceback" not in found.output


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ("--trace office-day.csv", 2, "give --service"),
        ("--trace office-day.csv --service soon", 2, "--service: 'soon' is no number of seconds"),
        ("--trace office-day.csv --service lognormal:5", 2, "takes mean and deviation"),
        ("--trace office-day.csv --service 5 --boot-time -3", 2, "must be 0 s to 30 days"),
        ("--trace office-day.csv --service 5 --out day.pdf", 2, "end it in .svg, .png, .csv"),
        ("--trace no-such.csv", 1, "no-such.csv: No such file or directory"),
        ("--trace nowhere", 3, "'nowhere' is no file, and "),
        ("--trace office-day.csv --service 5 --pool no.yaml", 1, "no.yaml: No such file"),
        ("--trace office-day.csv --service 5 --pool bad.yaml", 1, "bad.yaml:2:1: not YAML"),
        ("--trace office-day.csv --service 5 --pool wrong.yaml", 1, "wrong.yaml: engine.type: unk"),
    ],
)
def test_wrong_input_is_one_clear_message(here: Path, words: str, code: int, said: str) -> None:
    (here / "bad.yaml").write_text("engine: [\n")
    (here / "wrong.yaml").write_text("engine: {type: queue_lenght}\n")
    found = run(f"epu simulate --pool always-ten.yaml {words}")
    assert found.exit_code == code and said in found.stderr, (found.exit_code, found.output)
    assert "Traceback" not in found.output


def test_boot_times_of_an_ended_run_are_in_its_provisioners_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "logs").mkdir()
    told = [
        {"time": at, "source": "provisioner", "name": name, "pool": "batch", "node": "a-0"}
        for at, name in ((100.0, "new_launch"), (142.0, "node_ready"))
    ]
    lines = "".join(f"12:00:00 INFO EPU_EVENT {json.dumps(one)}\n" for one in told)
    (tmp_path / "logs" / "provisioner.log").write_text(f"starting\n{lines}")
    monkeypatch.setattr(run_locator, "open_run", lambda run: run)
    monkeypatch.setattr(run_locator, "state_dir_of", lambda run: tmp_path)
    asked: Any = SimpleNamespace(run="ended")
    assert boot_times_of(logged_events(asked), "batch") == Times("measured", (42.0,))
