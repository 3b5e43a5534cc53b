"""Where reading went wrong in the original, it goes right here: a test for each.

What went wrong while booting is tested with the runner.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from bootlevels.attributes import Attributes, masked, secrets_of
from bootlevels.plan import ServiceKind
from bootlevels.plan_choices import PlanChoices, PlanReading
from bootlevels.plan_classic import read_classic_plan
from coordinator.errors import ConfigProblem

LEVELS = "[runlevels]\nlevel1: one.conf\nlevel2: two.conf\n"
LOW = "[svc-low]\nlocal_exe: true\nhostname: localhost\ndeps: low.ini\n"


def read(directory: Path, files: Mapping[str, str], **choices: object) -> PlanReading:
    ordinary = {"main.conf": LEVELS, "one.conf": LOW, "low.ini": "[deps]\na: 1\nb: 2\n"}
    for name, text in {**ordinary, **files, "p.sh": "#!/bin/sh\n"}.items():
        (directory / name).write_text(text)
    choices = {"environment": {}, **choices}
    return read_classic_plan(directory / "main.conf", PlanChoices(**choices))  # type: ignore[arg-type]


def up(keys: str) -> dict[str, str]:
    return {"two.conf": f"[svc-up]\nlocal_exe: true\nbootpgm: p.sh\n{keys}\n"}


def test_every_reference_of_a_value_is_resolved_also_the_second(tmp_path: Path) -> None:
    files = up("bootpgm_args: ${low.a}${low.b}-${.c}\ndeps: up.ini")
    files["up.ini"] = "[deps]\nc: ${low.b}/${low.a}/${.d}\nd: ${low.a}${low.a}\n"
    plan = read(tmp_path, files).plan
    service = plan.service("up")
    known = Attributes(plan=plan, run={}, outputs={}, environment={})
    assert service.boot is not None
    assert known.expand(service.boot.words[1], service) == "12-2/1/11"


def test_a_missing_level_file_is_a_problem_not_an_empty_success(tmp_path: Path) -> None:
    with pytest.raises(ConfigProblem, match="there is no such level file: .*two.conf'"):
        read(tmp_path, {})


def test_a_level_file_without_services_is_a_problem_too(tmp_path: Path) -> None:
    with pytest.raises(ConfigProblem, match="there is no service in it"):
        read(tmp_path, {"two.conf": "[deps]\n"})


def test_a_name_used_in_two_levels_is_refused_not_moved(tmp_path: Path) -> None:
    with pytest.raises(ConfigProblem, match=r"service 'low' is there twice, see .*one.conf:1"):
        read(tmp_path, {"two.conf": "[svc-low]\nlocal_exe: true\n"})


def test_unknown_keys_and_sections_are_not_passed_over_in_silence(tmp_path: Path) -> None:
    warnings = [str(w) for w in read(tmp_path, up("readpgm: p.sh\n[srv-x]")).warnings]
    assert any("'readpgm'" in w and "did you mean 'readypgm'?" in w for w in warnings)
    assert any("unknown section [srv-x]" in w for w in warnings)


def test_a_repeated_key_is_said_and_the_last_one_holds(tmp_path: Path) -> None:
    files = up("deps: up.ini\nbootpgm_args: first\nbootpgm_args: last")
    reading = read(tmp_path, {**files, "up.ini": "[deps]\nc: 1\nc: 2\n"})
    service = reading.plan.service("up")
    assert service.boot is not None
    assert service.boot.words[1:] == ("last",)
    assert service.attributes["c"] == "2"
    said = [str(w) for w in reading.warnings]
    assert any("two.conf:6: 'bootpgm_args' is written twice" in w for w in said)
    assert any("up.ini:3: 'c' is written twice" in w for w in said)


def test_an_unset_variable_is_an_error_that_names_it_not_an_empty_value(tmp_path: Path) -> None:
    files = {**up("deps: up.ini"), "up.ini": "[deps]\npassword: env.NO_SUCH\n"}
    with pytest.raises(ConfigProblem, match=r"up.ini:2: .*the environment has no NO_SUCH"):
        read(tmp_path, files)


def test_a_variable_stays_a_name_so_no_secret_gets_into_the_record(tmp_path: Path) -> None:
    level = "[svc-up]\nimage: i\ncloud: west\ndeps: up.ini\n"
    top = f"[cloud-west]\niaas_secret: env.S\n[globals]\nword: env.S\n{LEVELS}"
    files = {"two.conf": level, "up.ini": "[deps]\npassword: env.S\n", "main.conf": top}
    plan = read(
        tmp_path, files, environment={"S": "very-secret"}, remapped={"west": "in_memory"}
    ).plan
    assert plan.service("up").attributes["password"] == "env:S"
    assert plan.globals["word"] == "env:S"
    assert "very-secret" not in repr(plan)


@pytest.mark.parametrize(("mode", "said"), [(0o644, True), (0o640, True), (0o600, False)])
def test_a_secret_in_clear_is_said_when_others_can_read_it(
    mode: int, said: bool, tmp_path: Path
) -> None:
    files = {**up("deps: up.ini"), "up.ini": "[deps]\ndb_password: hunter2\nport: 1\n"}
    read(tmp_path, files)
    (tmp_path / "up.ini").chmod(mode)
    reading = read_classic_plan(tmp_path / "main.conf", PlanChoices())
    warnings = [str(w) for w in reading.warnings if "a secret in clear" in w.what]
    assert bool(warnings) is said
    assert all("up.ini:2: db_password" in w and "hunter2" not in w for w in warnings)


def test_a_default_hostname_is_read(tmp_path: Path) -> None:
    top = f"[defaults]\nhostname: h\n{LEVELS}"
    plan = read(tmp_path, {"main.conf": top, "two.conf": "[svc-up]\n"}).plan
    assert (plan.service("up").kind, plan.service("up").host) == (ServiceKind.HOST, "h")


def test_a_level_that_would_replace_another_of_its_number_is_added_to_it(tmp_path: Path) -> None:
    top = "[runlevels]\nlevel1: one.conf\nlevel01: two.conf\n"
    plan = read(tmp_path, {"main.conf": top, "two.conf": "[svc-up]\nlocal_exe: true\n"}).plan
    assert [[s.name for s in level.services] for level in plan.levels] == [["low", "up"]]


def test_an_empty_argument_is_not_lost(tmp_path: Path) -> None:
    service = read(tmp_path, up("bootpgm_args: a '' \"\" b")).plan.service("up")
    assert service.boot is not None
    assert service.boot.words[1:] == ("a", "", "", "b")


def test_a_later_deps_file_really_overrides(tmp_path: Path) -> None:
    files = {**up("deps9: x.ini\ndeps10: y.ini"), "x.ini": "[deps]\na: nine\n"}
    plan = read(tmp_path, {**files, "y.ini": "[deps]\na: ten\n"}).plan
    assert plan.service("up").attributes["a"] == "nine"  # "deps10" is before "deps9"


def test_a_secret_in_clear_is_masked_as_one_of_the_environment(tmp_path: Path) -> None:
    files = {**up("deps: up.ini"), "up.ini": "[deps]\ndb_password: hunter22\nport: 5432\n"}
    secrets = secrets_of(read(tmp_path, files).plan, {})
    assert masked("hunter22 at 5432", secrets) == "*** at 5432"
