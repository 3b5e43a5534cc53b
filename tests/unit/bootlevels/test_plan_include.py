"""``include:`` and what is chosen for a native plan at boot."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from bootlevels.plan import LaunchPlan
from bootlevels.plan_choices import PlanChoices
from bootlevels.plan_yaml import profiles_of, read_native_plan
from coordinator.errors import ConfigProblem

PLAN = "plan: p\nlevels: [{services: {a: {}}}]\n"


def write(directory: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return directory / "plan.yaml"


def read(directory: Path, files: Mapping[str, str], **choices: object) -> LaunchPlan:
    path = write(directory, files)
    return read_native_plan(path, PlanChoices(**choices)).plan  # type: ignore[arg-type]


def problems(directory: Path, files: Mapping[str, str]) -> list[str]:
    with pytest.raises(ConfigProblem) as found:
        read(directory, files)
    return [str(problem) for problem in found.value.problems]


def test_a_file_is_above_what_it_includes_and_a_later_include_above_an_earlier(
    tmp_path: Path,
) -> None:
    files = {
        "plan.yaml": f"include: [low.yaml, high.yaml]\nglobals: {{c: plan}}\n{PLAN}",
        "low.yaml": "globals: {a: low, b: low, c: low}\n",
        "high.yaml": "globals: {b: high, c: high}\n",
    }
    assert read(tmp_path, files).globals == {"a": "low", "b": "high", "c": "plan"}


def test_levels_of_an_included_file_come_before_the_own_ones(tmp_path: Path) -> None:
    files = {
        "plan.yaml": "plan: p\ninclude: [base.yaml]\nlevels: [{services: {top: {}}}]\n",
        "base.yaml": "levels:\n  - services: {one: {}}\n  - services: {two: {}}\n",
    }
    plan = read(tmp_path, files)
    assert [[s.name for s in level.services] for level in plan.levels] == [
        ["one"],
        ["two"],
        ["top"],
    ]
    assert [level.number for level in plan.levels] == [1, 2, 3]


def test_includes_are_taken_from_the_file_that_names_them_and_lexically(tmp_path: Path) -> None:
    files = {
        "plan.yaml": f"include: [link/b.yaml]\n{PLAN}",
        "real/deep/b.yaml": "include: [../c.yaml]\n",
        "c.yaml": "globals: {c: beside the link}\n",
        "real/c.yaml": "globals: {c: beside the real directory}\n",
    }
    write(tmp_path, files)
    (tmp_path / "link").symlink_to("real/deep")
    assert read(tmp_path, files).globals == {"c": "beside the link"}


def test_null_removes_what_an_included_file_says(tmp_path: Path) -> None:
    files = {
        "plan.yaml": f"include: [a.yaml]\nglobals: {{x: null}}\n{PLAN}",
        "a.yaml": "globals: {x: 1, y: 2}\n",
    }
    assert read(tmp_path, files).globals == {"y": "2"}


def test_profiles_may_be_included(tmp_path: Path) -> None:
    files = {
        "plan.yaml": f"include: [a.yaml]\nglobals: {{x: 1}}\n{PLAN}",
        "a.yaml": "profiles: {big: {globals: {x: 9}}}\n",
    }
    assert read(tmp_path, files, profile="big").globals == {"x": "9"}
    assert profiles_of(tmp_path / "plan.yaml") == ("big",)


def test_a_problem_is_reported_in_the_file_where_it_was_written(tmp_path: Path) -> None:
    files = {
        "plan.yaml": "plan: p\ninclude: [sub/a.yaml]\n",
        "sub/a.yaml": "levels:\n  - services:\n      web: {lcoal: true}\n",
    }
    (said,) = problems(tmp_path, files)
    assert said.startswith(f"{tmp_path}/sub/a.yaml:3: services.web.lcoal: unknown key")


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({"plan.yaml": f"include: [plan.yaml]\n{PLAN}"}, "1: include[0]: includes itself: "
         "plan.yaml → plan.yaml"),
        ({"plan.yaml": f"include: [a.yaml]\n{PLAN}", "a.yaml": "include: [b.yaml]\n",
          "b.yaml": "include: [./a.yaml]\n"},
         "b.yaml:1: include[0]: includes itself: plan.yaml → a.yaml → b.yaml → a.yaml"),
        ({"plan.yaml": f"include: [no.yaml]\n{PLAN}"}, "there is no file"),
        ({"plan.yaml": f"include: a.yaml\n{PLAN}"}, "plan.yaml:1: include: must be a list of file"),
        ({"plan.yaml": f"include: [3]\n{PLAN}"}, "include[0]: must be the path of a file"),
        ({"plan.yaml": f"include: [.]\n{PLAN}"}, "there is no file"),
        ({"plan.yaml": f"include: [a.yaml]\n{PLAN}", "a.yaml": "- x\n"}, "a.yaml:1: an included f"),
        ({"plan.yaml": f"include: [a.yaml]\n{PLAN}", "a.yaml": "a: [\n"}, "a.yaml:2: not YAML"),
        ({"plan.yaml": f"include: [a.yaml]\n{PLAN}", "a.yaml": "#" * 1_000_001}, "longer than"),
        ({"plan.yaml": f"include: [a.yaml]\n{PLAN}", "a.yaml": "a\0b"}, "holds zero bytes"),
        ({"plan.yaml": f"include: [{', '.join(['a.yaml'] * 101)}]\n{PLAN}", "a.yaml": "{}"},
         "more than 100 included files"),
        ({"plan.yaml": f"include: [a.yaml]\n{PLAN}", "a.yaml": "levels: [{services: {a: {}}}]\n"},
         "name is used twice, see"),
    ],
)  # fmt: skip
def test_a_broken_include_is_named(files: dict[str, str], sentence: str, tmp_path: Path) -> None:
    said = problems(tmp_path, files)
    assert len(said) == 1, said
    assert sentence in said[0]


def test_a_secret_in_clear_is_said_for_the_file_that_holds_it(tmp_path: Path) -> None:
    files = {
        "plan.yaml": f"include: [open.yaml, shut.yaml]\nglobals: {{pass_word: x, n: 1}}\n{PLAN}",
        "open.yaml": "clouds: {c: {driver: in_memory, secret_key: abc, access_key: x}}\n",
        "shut.yaml": "globals: {db_password: abc, ok_password: 'env:P'}\n",
    }
    path = write(tmp_path, files)
    (tmp_path / "shut.yaml").chmod(0o600)
    warnings = [str(w) for w in read_native_plan(path, PlanChoices()).warnings]
    assert len(warnings) == 1
    assert warnings[0].startswith(f"{tmp_path}/open.yaml:1: clouds.c.secret_key: a secret in clear")


def test_clouds_are_remapped_by_name_and_only_known_ones(tmp_path: Path) -> None:
    clouds = "clouds: {west: {driver: in_memory, image: i}, east: {driver: in_memory}}\n"
    plan = read(tmp_path, {"plan.yaml": clouds + PLAN}, remapped={"west": "process"})
    assert plan.clouds == {"west": {"driver": "process"}, "east": {"driver": "in_memory"}}
    with pytest.raises(ConfigProblem, match=r"--cloud: .*no cloud 'wset' \(did you mean 'west'\?"):
        read(tmp_path, {"plan.yaml": clouds + PLAN}, remapped={"wset": "process"})
    with pytest.raises(ConfigProblem, match=r"clouds.west.driver: unknown cloud 'proces'"):
        read(tmp_path, {"plan.yaml": clouds + PLAN}, remapped={"west": "proces"})


def test_global_files_are_yaml_or_ini_and_rank_below_the_command_line(tmp_path: Path) -> None:
    files = {
        "plan.yaml": f"globals: {{a: plan, b: plan, c: plan, d: plan}}\n{PLAN}",
        "one.yaml": "{a: one, b: one, c: one}\n",
        "two.ini": "[globals]\nb: two\nc: two\n",
    }
    reading = read_native_plan(
        write(tmp_path, files),
        PlanChoices(
            stored={"a": "stored", "d": "stored"},
            files=(tmp_path / "one.yaml", tmp_path / "two.ini"),
            given={"c": "given"},
        ),
    )
    assert reading.plan.globals == {"a": "one", "b": "two", "c": "given", "d": "stored"}
    assert reading.given == reading.plan.globals


@pytest.mark.parametrize(
    ("template", "sentence"),
    [
        ("port: $prot", "c.yml:1: services.a.bootconf: 'a' has no attribute 'prot' (did you mean"),
        ("\nprice: 5 $\n", "c.yml:2: a '$' that is neither"),
        (None, "services.a.bootconf: there is no file"),
    ],
)
def test_keys_of_a_template_are_checked_before_the_boot(
    template: str | None, sentence: str, tmp_path: Path
) -> None:
    service = "{local: true, boot: {run: 'true'}, bootconf: c.yml, attributes: {port: 1}}"
    files = {"plan.yaml": f"plan: p\nlevels: [{{services: {{a: {service}}}}}]\n"}
    (said,) = problems(tmp_path, files | ({"c.yml": template} if template else {}))
    assert sentence in said
