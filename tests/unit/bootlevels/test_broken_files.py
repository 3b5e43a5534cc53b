"""Files that are no plan at all, for both readers, through their one door."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from bootlevels.plan_choices import PlanChoices
from bootlevels.plan_source import read_launch_plan
from coordinator.errors import ConfigProblem

NATIVE = b"plan: p\nlevels: [{services: {a: {}}}]\n"
CLASSIC = b"[runlevels]\nlevel1: l.conf\n"

#: Name and content of the file, and a part of the one sentence it brings.
FILES: dict[str, tuple[str, bytes | None, str]] = {
    "no such plan": ("plan.yaml", None, "can't be read: No such file or directory"),
    "no such classic plan": ("main.conf", None, "there is no such file"),
    "latin-1": ("plan.yaml", b"# caf\xe9\n" + NATIVE, "is not a UTF-8 text"),
    "utf-16": ("plan.yaml", NATIVE.decode().encode("utf-16"), "is not a UTF-8 text"),
    "classic utf-16": ("main.conf", CLASSIC.decode().encode("utf-16"), "it holds zero bytes"),
    "zero byte": ("plan.yaml", NATIVE + b"# \0", "not YAML"),
    "huge": ("plan.yaml", NATIVE + b"#" * 1_000_000, "longer than 1000000 characters"),
    "vast": ("plan.yaml", NATIVE + b"#" * 9_000_000, "longer than 1000000 characters"),
    "huge classic": ("main.conf", CLASSIC + b"#" * 1_000_000, "longer than 1000000 bytes"),
    "empty": ("plan.yaml", b"", "the file is empty"),
    "empty classic": ("main.conf", b"\n\n", "has no section [runlevels]"),
    "two documents": ("plan.yaml", NATIVE + b"---\n" + NATIVE, "not YAML"),
    "many values": (
        "plan.yaml",
        b"plan: p\nglobals: {x: [" + b"1," * 20_001 + b"]}\n",
        "too many values",
    ),
    "deeply nested": ("plan.yaml", b"plan: " + b"[" * 100 + b"]" * 100, "nested too deeply"),
    "abyss": ("plan.yaml", b"plan: " + b"[" * 100_000, "nested too deeply"),
    "aliases that explode": (
        "plan.yaml",
        b"a: &a [1,1,1,1,1,1,1,1,1]\n"
        + b"".join(
            f"{n}: &{n} [{','.join([f'*{m}'] * 9)}]\n".encode() for m, n in pairwise("abcdef")
        ),
        "too many values",
    ),
    "classic text in a YAML file": ("plan.yaml", CLASSIC, "not YAML"),
    "YAML text in a classic file": ("main.conf", NATIVE, "stands before the first [section]"),
}


@pytest.mark.parametrize("case", FILES)
def test_a_file_that_is_no_plan_is_refused_with_a_sentence(case: str, tmp_path: Path) -> None:
    name, content, sentence = FILES[case]
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigProblem) as found:
        read_launch_plan(tmp_path / name, PlanChoices())
    said = [str(problem) for problem in found.value.problems]
    assert [line for line in said if name in line and sentence in line], said


@pytest.mark.parametrize(
    "content", [NATIVE, b"\xef\xbb\xbf" + NATIVE, NATIVE.replace(b"\n", b"\r\n")]
)
def test_marks_and_line_ends_of_other_systems_do_no_harm(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_bytes(content)
    assert read_launch_plan(tmp_path / "plan.yaml", PlanChoices()).plan.name == "p"


@pytest.mark.parametrize("start", [CLASSIC, b"# old\n\n" + CLASSIC, b"; old\n" + CLASSIC])
def test_a_plan_without_an_ending_is_told_by_its_first_line(start: bytes, tmp_path: Path) -> None:
    (tmp_path / "old").write_bytes(start)
    (tmp_path / "l.conf").write_text("[svc-a]\nlocal_exe: true\n")
    (tmp_path / "new").write_bytes(NATIVE)
    assert read_launch_plan(tmp_path / "old", PlanChoices()).plan.name == "old"
    assert read_launch_plan(tmp_path / "new", PlanChoices()).plan.name == "p"
