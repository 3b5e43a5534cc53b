"""A secret that stands in a plan in clear is in no record, log or document of the run."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bootlevels.api import Run
from bootlevels.plan_choices import PlanChoices
from bootlevels.record import RecordProblem
from bootlevels.run_changes import plan_to_reload, reboot_run, reload_run
from bootlevels.run_home import RECORD_NAME
from bootlevels.run_secrets import SECRETS_NAME
from coordinator.errors import ConfigProblem

PlanFile = Callable[[str], Path]
SECRET, URL_SECRET = "hunter2222", "swordfish99"
PLAN = """
    plan: secret
    globals: {db_password: hunter2222}
    levels:
      - services:
          a:
            local: true
            attributes: {password: hunter2222, url: "amqp://u:swordfish99@h/"}
            boot:
              run: [sh, -c, 'echo "pw $PW $1"; echo "{\\"seen\\": \\"$1\\"}" > $EPU_BOOTOUT', sh, "${.url}"]
              environment: {PASSWORD: hunter2222, PW: "${.password}"}
            terminate: {run: [sh, -c, 'test $(printf %s "$1" | wc -c) = 10', sh, "${global.db_password}"]}
"""  # noqa: E501


def files_with_secrets(directory: Path) -> list[str]:
    return sorted(
        path.name
        for path in directory.rglob("*")
        if path.is_file() and any(s.encode() in path.read_bytes() for s in (SECRET, URL_SECRET))
    )


def test_only_a_private_file_beside_the_record_has_it_and_ends_with_the_run(
    home: Path, plan_file: PlanFile
) -> None:
    run = Run.prepare(plan_file(PLAN))
    assert run.boot().ok
    assert files_with_secrets(run.directory) == [SECRETS_NAME]
    assert (run.directory / SECRETS_NAME).stat().st_mode & 0o777 == 0o600
    again = Run.open("secret")
    assert again.plan == run.plan and again.plan.globals["db_password"] == SECRET
    assert again.attributes("a")["seen"] == f"amqp://u:{URL_SECRET}@h/"
    assert again.repair().ok
    outcome = Run.open("secret").terminate()
    assert outcome.ok, outcome
    assert files_with_secrets(run.directory) == []
    assert not (run.directory / SECRETS_NAME).exists()


def test_no_command_prints_it(home: Path, plan_file: PlanFile) -> None:
    path = plan_file(PLAN)
    path.chmod(0o600)
    document = home.parent / "out.json"
    for words in (
        ["plan", str(path)],
        ["boot", str(path), "-o", str(document)],
        ["status", "secret", "--json"],
        ["history", "secret"],
        ["terminate", "secret"],
        ["status", "secret"],
        ["history", "secret", "--json"],
    ):
        command = [sys.executable, "-m", "mgmt.cli", *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        said = done.stdout + done.stderr
        assert SECRET not in said and URL_SECRET not in said, words
        assert "Traceback" not in said and "\0" not in said, said
    assert SECRET not in document.read_text()


def test_without_the_file_a_boot_with_the_plan_at_hand_goes_on(
    home: Path, plan_file: PlanFile
) -> None:
    path = plan_file(PLAN)
    run = Run.prepare(path)
    assert run.boot().ok
    (run.directory / SECRETS_NAME).unlink()
    lost = Run.open("secret")
    with pytest.raises(RecordProblem, match="'epu boot -n secret PLAN', with the plan's file"):
        lost.repair()
    failed = lost.terminate()
    assert "a secret of the plan is needed" in failed.failures[0].text
    # It was half ended; a boot that never was is what goes on with the plan's file.
    other = Run.prepare(plan_file(PLAN), name="other")
    (other.directory / SECRETS_NAME).unlink()
    assert Run.prepare(path, name="other").boot().ok
    assert Run.open("other").terminate().ok


def test_another_secret_is_another_plan(home: Path, plan_file: PlanFile) -> None:
    run = Run.prepare(plan_file(PLAN))
    assert run.boot().ok
    (run.directory / SECRETS_NAME).unlink()
    with pytest.raises(ConfigProblem, match="was booted by another plan"):
        Run.prepare(plan_file(PLAN.replace("password: hunter2222, url", "password: other-1, url")))


def test_reload_stores_the_new_secret_and_forgets_the_old_one(
    home: Path, plan_file: PlanFile
) -> None:
    run = Run.prepare(plan_file(PLAN))
    assert run.boot().ok
    path = plan_file(PLAN.replace("hunter2222", "hunter3333"))
    _, wanted = plan_to_reload(run, path, PlanChoices())
    _, outcome = reload_run(run, wanted)
    assert outcome.ok, outcome
    stored = json.loads((run.directory / SECRETS_NAME).read_text())
    assert sorted(stored.values()) == ["hunter3333", URL_SECRET]
    for part in run.directory.glob(f"{RECORD_NAME}*"):
        assert b"hunter" not in part.read_bytes()
    assert Run.open("secret").plan == wanted.plan


def test_reboot_takes_the_secrets_along(home: Path, plan_file: PlanFile) -> None:
    run = Run.prepare(plan_file(PLAN))
    assert run.boot().ok
    assert reboot_run(Run.open("secret")).ok
    assert files_with_secrets(home) == [SECRETS_NAME]
    assert Run.open("secret").terminate().ok
    with pytest.raises(RecordProblem, match="with the plan's file, stores them again"):
        reboot_run(Run.open("secret"))


def test_given_globals_are_sealed_too(home: Path, plan_file: PlanFile) -> None:
    given: dict[str, Any] = {"db_password": "given-4444"}
    run = Run.prepare(plan_file(PLAN), given=given)
    for part in run.directory.glob(f"{RECORD_NAME}*"):
        assert b"given-4444" not in part.read_bytes()
    assert Run.open("secret").info.given == given
