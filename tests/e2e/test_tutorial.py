"""docs/tutorial.md, as a newcomer does it: its files written, its commands executed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mgmt.broker_launch import server_script
from tests.hard_ec2 import HardEc2

pytestmark = pytest.mark.e2e

PAGE = Path(__file__).parents[2] / "docs" / "tutorial.md"
#: What stands between a file's name and its content.
NAMED = re.compile(r"`(hello/[a-z0-9.]+)`:\n\n```(?:python|yaml)\n(.*?)```", re.DOTALL)


def commands(kind: str, page: Path = PAGE) -> str:
    """All fenced blocks of one kind, as one script that ends at its first failure."""
    blocks = re.findall(rf"^```{kind}\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
    assert blocks
    return "set -eu\n" + "\n".join(blocks)


class Newcomer:
    """Somebody with a home of their own and nothing in it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        kept = {key: text for key, text in os.environ.items() if not key.startswith("EPU_")}
        programs = f"{Path(sys.executable).parent}:{kept['PATH']}"
        self.environment = {**kept, "HOME": str(home), "PATH": programs}
        for name, content in NAMED.findall(PAGE.read_text()):
            path = home / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(content)

    def types(self, script: str, **more: str) -> str:
        """What a shell prints for ``script``, which must succeed."""
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=self.home,
            env={**self.environment, **more},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=200,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout


@pytest.fixture
def newcomer(tmp_path: Path) -> Iterator[Newcomer]:
    found = Newcomer(tmp_path)
    yield found
    if (tmp_path / ".epu" / "runs" / "hello").exists():
        found.types("epu teardown hello --now")


#: A quarter of an hour for a person, a minute for us: among the long ones.
@pytest.mark.soak
@pytest.mark.timeout(300)
def test_the_tutorials_commands_do_what_it_says(newcomer: Newcomer) -> None:
    if server_script() is None:
        reason = "rabbitmq-server is not installed (apt-get install rabbitmq-server)"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    said = newcomer.types(commands("sh"))
    for name in ("Anna", "Ben", "Cleo"):
        assert f"Hello {name}, from epu-hello-" in said
    assert "is left     nothing" in said
    greeted = (newcomer.home / "hello" / "greetings.txt").read_text().split("\n")
    assert {line.split()[1].strip(",") for line in greeted if line} >= {"Anna", "Ben", "Cleo"}


def test_the_tutorials_plan_for_ec2_is_what_ec2_can_do(newcomer: Newcomer) -> None:
    with HardEc2() as ec2:
        said = newcomer.types(
            commands("sh ec2"),
            AWS_ENDPOINT_URL=ec2.url,
            AWS_ACCESS_KEY_ID="AKIATEST",
            AWS_SECRET_ACCESS_KEY="secret",
        )
        assert "no problem" in said
        assert "no problem" in newcomer.types("epu validate hello/plan.yaml")
        assert ec2.count("DescribeImages") and not ec2.count("RunInstances")


def test_what_the_page_about_installing_checks_is_there(newcomer: Newcomer) -> None:
    if server_script() is None:
        pytest.skip("rabbitmq-server is not installed, which is what the page checks")
    said = newcomer.types(commands("sh", PAGE.with_name("install.md")))
    assert "OK" in said and "basic-services" in said
