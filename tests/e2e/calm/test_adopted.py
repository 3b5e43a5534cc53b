"""A machine that a person boots: it joins with a pool's token, works, and is let go."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from bootlevels.plans.sleeper.producer import produce
from userdata_templates.render import render

#: It starts one machine of its own and two launched ones, beside whatever else the host does.
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

WORKER = "bootlevels.plans.sleeper.worker"
Boot = Callable[[Path], "subprocess.Popen[bytes]"]


@pytest.fixture
def boot() -> Iterator[Boot]:
    """``boot(directory)``: what is on a person's machine, a supervisord with our agent."""
    with ExitStack() as machines:

        def start(directory: Path) -> subprocess.Popen[bytes]:
            agent = [sys.executable, "-m", "agent.service", "--config", f"{directory}/agent.json"]
            variables = {
                "node_id": "a-persons-machine",
                "directory": directory,
                "socket": f"{directory}/supervisor.sock",
                "agent_command": [*agent, "--dir", str(directory)],
            }
            for name in ("logs", "conf.d"):
                (directory / name).mkdir()
            (directory / "supervisord.conf").write_text(render("supervisord", "conf", variables))
            words = [sys.executable, "-m", "supervisor.supervisord", "-n"]
            machine = subprocess.Popen(
                [*words, "-c", f"{directory}/supervisord.conf"], start_new_session=True
            )
            machines.callback(_end, machine)
            return machine

        yield start


def _end(machine: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(machine.pid, signal.SIGKILL)
    machine.wait()


def epu(system: Any, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mgmt.cli", *words, "--accounts", str(system.accounts)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
    )


def test_an_adopted_machine_works_takes_a_launched_ones_place_and_is_let_go_by_stopping(
    system: Any, boot: Boot, tmp_path: Path
) -> None:
    done_file = tmp_path / "done.txt"
    words = [sys.executable, "-m", WORKER, "--queue", "own-work", "--done-file", str(done_file)]
    section = {
        "programs": {"sleeper": {"command": words}},
        "work_queues": ["own-work"],
        "busy_file": "busy",
        "heartbeat_interval": 0.5,
    }
    directory = tmp_path / "machine"
    directory.mkdir()
    with system.pool("own", 1, **section) as pool:
        launched = pool.wait_whole(1)
        made = epu(
            system, "token", "create", "--pool", "own", "-o", f"{directory}/agent.json", "--json"
        )
        assert made.returncode == 0, made.stderr
        token = json.loads((directory / "agent.json").read_text())["token"]
        assert token not in made.stdout + made.stderr

        machine = boot(directory)
        adopted = {f"{json.loads(made.stdout)['launch_id']}-0"}
        system.wait(lambda: pool.nodes() == adopted, "the adopted worker is all there is")
        system.wait(lambda: not pool.machines(), "the launched machine is gone")
        assert pool.launched() == len(launched) == 1, "nobody was launched in its place"

        produce(system.access, "own-work", ["a-job"], 0.1)
        system.wait(lambda: done_file.exists() and "a-job" in done_file.read_text(), "it works")
        shown = json.loads(epu(system, "node", "show", *adopted, "--json").stdout)
        assert (shown["state"], shown["cloud"], shown["health"]) == ("RUNNING", "adopted", "OK")
        assert token not in json.dumps(shown)

        pool.set_size(0)
        assert machine.wait(timeout=60) == 0, "its supervisord ended in good order"
        system.wait(lambda: not pool.records(), "its record has ended")
        shown = json.loads(epu(system, "node", "show", *adopted, "--json").stdout)
        states = [line["state"] for line in shown["history"]]
        assert states == ["BOOTING", "RUNNING", "DRAINING", "TERMINATING", "TERMINATED"]
        assert "its owner's business" in shown["reason"]
        progress = system.ask("provisioner", "progress")
        assert progress["adopted"] == list(adopted)

    nobody = epu(system, "token", "create", "--pool", "owm")
    assert nobody.returncode == 3 and "did you mean 'own'" in nobody.stderr
