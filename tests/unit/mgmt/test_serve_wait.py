"""A coordinator's machine waits for its secrets: bounded, saying what is missing."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

from agent.messages import BrokerAccess, BrokerAccount
from agent.wire import to_wire
from coordinator.errors import ConfigProblem
from mgmt.serve_wait import read_environment, wait_for_secrets


def put(path: Path, text: str, mode: int = 0o600) -> Path:
    fresh = path.with_name(f"{path.name}.new")
    fresh.write_text(text)
    fresh.chmod(mode)
    os.replace(fresh, path)
    return path


def accounts(*names: str) -> str:
    account = BrokerAccount(user="u", password="very-secret")
    access = BrokerAccess(host="h", port=1, vhost="v", accounts=dict.fromkeys(names, account))
    return json.dumps(to_wire(access))


def test_it_waits_until_both_files_are_brought(tmp_path: Path) -> None:
    said: list[str] = []
    wanted, environment = tmp_path / "accounts.json", tmp_path / "coordinator.env"
    waiting = threading.Event()

    def say(text: str) -> None:
        said.append(text)
        waiting.set()

    def bring() -> None:
        waiting.wait(30)
        put(wanted, accounts("coordinator"))
        put(environment, "AWS_ACCESS_KEY_ID=abc\n")

    bringer = threading.Thread(target=bring)
    bringer.start()
    found = wait_for_secrets(wanted, environment, 30.0, say)
    bringer.join()
    assert found == {"AWS_ACCESS_KEY_ID": "abc"}
    assert f"{wanted}: is not there yet" in said[0] and f"{environment}: is not there" in said[0]


@pytest.mark.parametrize(
    ("text", "mode", "says"),
    [
        (accounts("coordinator"), 0o644, "can be read by others (chmod 600"),
        (accounts("enrol"), 0o600, "has no account 'coordinator'"),
        ('{"host": "h", very-secret', 0o600, "not a readable accounts file"),
    ],
)
def test_after_its_time_it_says_what_is_wrong(
    tmp_path: Path, text: str, mode: int, says: str
) -> None:
    wanted = put(tmp_path / "accounts.json", text, mode)
    with pytest.raises(ConfigProblem) as problem:
        wait_for_secrets(wanted, None, 0.0, lambda text: None)
    assert says in str(problem.value) and str(wanted) in str(problem.value)
    assert "very-secret" not in str(problem.value)


def test_a_directory_in_a_files_place_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigProblem, match="is not a file"):
        wait_for_secrets(tmp_path, None, 0.0, lambda text: None)


def test_values_are_taken_literally(tmp_path: Path) -> None:
    text = "# credentials\n\nA=b=c \nEMPTY=\nQ='$HOME' \"x\" # not a comment\n_X1=ü\n"
    assert read_environment(put(tmp_path / "e", text)) == {
        "A": "b=c ",
        "EMPTY": "",
        "Q": "'$HOME' \"x\" # not a comment",
        "_X1": "ü",
    }


@pytest.mark.parametrize(
    "line", ["export A=secret", "secret", "=secret", "1A=secret", "A B=secret"]
)
def test_a_line_that_says_nothing_is_named_and_not_shown(tmp_path: Path, line: str) -> None:
    path = put(tmp_path / "e", f"A=1\n{line}\n")
    with pytest.raises(ConfigProblem, match=r"e:2: is not NAME=value") as problem:
        read_environment(path)
    assert "secret" not in str(problem.value)
