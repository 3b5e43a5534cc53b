"""Machines of the process cloud for these tests, and the proof that none of them is left."""

import json
import sys
from pathlib import Path

import pytest

from coordinator.clouds.process import ProcessCloud
from coordinator.clouds.process_table import ProcessTable


@pytest.fixture
def root(tmp_path):
    """A directory for machines; every process of one is ended and none may be left."""
    path = tmp_path / "machines"
    yield path
    table = ProcessTable()
    records = (file.read_text() for file in path.glob("*/machine.json"))
    table.end([json.loads(record)["mark"] for record in records if record], timeout=20)
    assert not processes_below(path)


@pytest.fixture
def make_cloud(root):
    """``make_cloud(*words)``: a ProcessCloud whose agent is ``words``."""

    def make(*words):
        command = json.dumps(list(words or ("/bin/sleep", "600")))
        return ProcessCloud.from_settings(
            {"root": str(root), "agent_command": command}, root.parent
        )

    return make


@pytest.fixture
def cloud(make_cloud):
    return make_cloud()


@pytest.fixture
def processes_of(root):
    """``processes_of(node_id)``: command lines of what runs there, by /proc and nothing else."""
    return lambda node_id: processes_below(root / node_id)


@pytest.fixture
def supervisords_of(root):
    """How many supervisords were started for a node and still run."""

    def count(node_id):
        started = f"{sys.executable} -m supervisor.supervisord"
        return sum(line.startswith(started) for line in processes_below(root / node_id))

    return count


@pytest.fixture
def python(tmp_path):
    """``python(source)``: words that run ``source`` in this interpreter."""

    def words(source):
        script = tmp_path / "agent_stand_in.py"
        script.write_text(source)
        return (sys.executable, str(script))

    return words


def processes_below(directory: Path) -> list[str]:
    wanted = f"EPU_NODE_DIR={directory}"
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            places = (process / "environ").read_bytes().decode(errors="replace").split("\0")
            if any(place == wanted or place.startswith(f"{wanted}/") for place in places):
                found.append((process / "cmdline").read_text().replace("\0", " ").strip())
        except OSError:
            continue
    return [line for line in found if line]
