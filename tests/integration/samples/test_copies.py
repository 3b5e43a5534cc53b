"""Copies of the samples: booted from where they are, with their own programs."""

from __future__ import annotations

import urllib.request
from typing import Any

import pytest

from bootlevels.run_home import sample_plans

pytestmark = pytest.mark.integration


def test_a_changed_copy_is_booted_and_shows_the_change(world: Any) -> None:
    code, out, _ = world.epu("samples", "copy", "webapp", "my site")
    assert code == 0
    assert "epu boot 'my site/plan.yaml' -n my-webapp" in out
    copy = world.directory / "my site"
    page = copy / "web.py"
    page.write_text(page.read_text().replace("visits</h1>", "visits of mine</h1>"))
    code, _, err = world.epu("boot", "my site/plan.yaml", "-n", "mine", "-g", "database=small")
    assert code == 0, err
    url = world.attributes("mine")["web-1"]["url"]
    with urllib.request.urlopen(url, timeout=10) as answer:
        assert "1 visits of mine" in answer.read().decode()
    assert world.epu("terminate", "mine", "-q")[0] == 0
    assert world.processes() == []


@pytest.mark.parametrize("name", sorted(sample_plans()))
def test_a_copy_of_every_sample_is_right_as_it_is(world: Any, name: str) -> None:
    assert world.epu("samples", "copy", name)[0] == 0
    code, out, err = world.epu("validate", f"{name}/plan.yaml")
    assert code == 0, err
    assert "no problem" in out
    assert (world.directory / name / "README.md").read_text().startswith(f"# {name}\n")
    assert not (world.directory / name / "__init__.py").exists()
