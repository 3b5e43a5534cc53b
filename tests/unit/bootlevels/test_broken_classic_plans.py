"""Classic plans with slips that people make, each with the sentence it must bring.

A row: the files beside an ordinary top file (or instead of it), the place and key that the
line must start with, a part of its sentence. Rows of PROBLEMS forbid a boot; rows of
WARNINGS are read, and said.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bootlevels.plan_choices import PlanChoices
from bootlevels.plan_classic import read_classic_plan
from coordinator.errors import ConfigProblem

Row = tuple[dict[str, str | bytes], str, str]

TOP = "[runlevels]\nlevel1: one.conf\nlevel2: two.conf\n"
LOW = "[svc-low]\nlocal_exe: true\nhostname: localhost\n"


def top(text: str) -> dict[str, str | bytes]:
    return {"main.conf": text}


def two(keys: str, **deps: str | bytes) -> dict[str, str | bytes]:
    """Service ``up`` of level 2, at a place of its own, with ``keys``."""
    level = f"[svc-up]\nlocal_exe: true\nbootpgm: p.sh\n{keys}\n"
    return {"two.conf": level, **{f"{name}.ini": text for name, text in deps.items()}}


def raw(level: str) -> dict[str, str | bytes]:
    return {"two.conf": level}


PROBLEMS: dict[str, Row] = {
    # ---- syntax
    "no section before a key": (top(f"level0: x\n{TOP}"), "main.conf:1", "before the first [sec"),
    "not a key": (top(f"{TOP}level3 three.conf\n"), "main.conf:4", "neither 'key: value' nor"),
    "open section": (top(f"[runlevels\n{TOP}"), "main.conf:1", "neither 'key: value' nor"),
    "no runlevels": (top("[defaults]\nimage: x\n"), "main.conf", "has no section [runlevels]"),
    "empty file": (top(""), "main.conf", "has no section [runlevels]"),
    "empty runlevels": (top("[runlevels]\n"), "main.conf:1", "there are no levels"),
    "a level without a file": (top(f"{TOP}level3:\n"), "main.conf:4: level3", "names no file"),
    "unknown percent": (two("deps: d.ini", d="[deps]\na: %(b)s"), "d.ini:2", "does not have"),
    "percent circle": (
        two("deps: d.ini", d="[deps]\na: %(b)s\nb: %(a)s"),
        "d.ini:3",
        "'b' refers to itself by '%(a)s'",
    ),
    # ---- files
    "missing level file": (
        top(f"{TOP}level3: no.conf\n"),
        "main.conf:4",
        "there is no such level file: 'no.conf'",
    ),
    "level is a directory": (top(f"{TOP}level3: .\n"), "main.conf:4", "is a directory"),
    "missing program": (two("readypgm: no.sh"), "two.conf:4: readypgm", "no such file: 'no.sh'"),
    "program is a directory": (two("terminatepgm: ."), "two.conf:4: terminatepgm", "directory"),
    "missing template": (two("bootconf: no.json"), "two.conf:4: bootconf", "no such file"),
    "missing deps": (two("deps: no.ini"), "two.conf:4: deps", "there is no such file: 'no.ini'"),
    "deps without their section": (two("deps: d.ini", d="[dep]\na: 1"), "d.ini", "section [deps]"),
    "missing ssh key": (
        raw("[svc-up]\nhostname: h\nbootpgm: p.sh\nlocalsshkeypath: no.pem\n"),
        "two.conf:4: localsshkeypath",
        "there is no such file: 'no.pem'",
    ),
    "zero bytes": ({"two.conf": b"[svc-up]\0\n"}, "two.conf", "it holds zero bytes"),
    "utf-16": ({"two.conf": "[svc-up]\n".encode("utf-16")}, "two.conf", "it holds zero bytes"),
    "a huge file": ({"two.conf": "#" * 1_000_001}, "two.conf", "longer than 1000000 bytes"),
    "a huge number of keys": (
        {"two.conf": "[svc-up]\n" + "".join(f"k{n}: 1\n" for n in range(20_001))},
        "two.conf:20002",
        "more than 20000 keys",
    ),
    # ---- names
    "no service in a level": (raw("# nothing yet\n"), "two.conf", "there is no service in it"),
    "nameless service": (raw("[svc-]\n"), "two.conf:1", "'' is not a name for a service"),
    "bad service name": (raw("[svc-a b]\n"), "two.conf:1", "'a b' is not a name for a service"),
    "a service called global": (raw("[svc-global]\n"), "two.conf:1", "not global"),
    "a very long name": (raw(f"[svc-{'a' * 61}]\n"), "two.conf:1", "at most 60"),
    "same name in two levels": (
        raw("[svc-low]\nlocal_exe: true\n"),
        "two.conf:1: services.low",
        "service 'low' is there twice, see one.conf:1",
    ),
    "replica and service of one name": (
        raw("[svc-a-1]\nlocal_exe: true\n[svc-a]\nlocal_exe: true\nreplica_count: 2\n"),
        "two.conf:3: services.a-1",
        "is there twice, see two.conf:1",
    ),
    "unknown cloud": (
        {**top(f"[cloud-west]\niaas: us-west-2\n{TOP}"), **two("cloud: cloud-wset")},
        "two.conf:4: cloud",
        "unknown cloud 'cloud-wset' (did you mean 'cloud-west'?)",
    ),
    "a cloud without clouds": (two("cloud: west"), "two.conf:4: cloud", "unknown cloud 'west'"),
    "unknown iaas": (
        raw("[svc-up]\nimage: i\niaas: mars\n"),
        "two.conf:3: iaas",
        "'mars' is no region of EC2 and no libcloud-<driver>",
    ),
    "libcloud without a driver": (
        raw("[svc-up]\nimage: i\niaas: libcloud-\n"),
        "two.conf:3: iaas",
        "no libcloud-<driver> (or map it: --cloud default-up=driver)",
    ),
    # ---- types
    "timeout in words": (two("pgm_timeout: 5 minutes"), "two.conf:4: pgm_timeout", "of seconds"),
    "timeout of nothing": (two("pgm_timeout: 0"), "two.conf:4: pgm_timeout", "number of seconds"),
    "timeout without end": (two("pgm_timeout: 9999999"), "two.conf:4: pgm_timeout", "up to 604800"),
    "not a number of replicas": (two("replica_count: two"), "two.conf:4: replica_count", "number"),
    "negative replicas": (two("replica_count: -1"), "two.conf:4: replica_count", "not '-1'"),
    "too many replicas": (two("replica_count: 10001"), "two.conf:4: replica_count", "to 10000"),
    "too many services": (
        two("replica_count: 10000"),
        "two.conf:1",
        "more than 10000 services in one plan",
    ),
    "a flag that is none": (
        raw("[svc-up]\nlocal_exe: yes\n"),
        "two.conf:2: local_exe",
        "must be true or false, not 'yes'",
    ),
    "open quote": (two("bootpgm_args: 'a"), "two.conf:4: bootpgm_args", "split into words"),
    # ---- places
    "a program without a place": (
        raw("[svc-up]\nbootpgm: p.sh\n"),
        "two.conf:2: bootpgm",
        "there is no place to run it",
    ),
    "nothing to launch": (
        raw("[svc-up]\niaas_launch: true\n"),
        "two.conf:2: iaas_launch",
        "there is no image to launch",
    ),
    "unset environment": (
        raw("[svc-up]\nlocal_exe: true\nhostname: env.NOT_SET_AT_ALL\n"),
        "two.conf:3: hostname",
        "the environment has no NOT_SET_AT_ALL",
    ),
    "unset environment in deps": (
        two("deps: d.ini", d="[deps]\na: env.NOT_SET_AT_ALL"),
        "d.ini:2: services.up.attributes.a",
        "the environment has no NOT_SET_AT_ALL",
    ),
    # ---- graph
    "unknown service": (
        two("bootpgm_args: ${lwo.hostname}"),
        "two.conf:4: services.up.boot.run",
        "unknown service 'lwo' in '${lwo.hostname}' (did you mean 'low'?)",
    ),
    "unknown attribute": (
        two("bootpgm_args: ${low.port}"),
        "two.conf:4: services.up.boot.run",
        "'low' has no attribute 'port'",
    ),
    "unknown attribute of itself": (
        raw("[svc-up]\nlocal_exe: true\nterminatepgm: p.sh\nterminatepgm_args: ${.port}\n"),
        "two.conf:4: services.up.terminate.run",
        "'up' has no attribute 'port'",
    ),
    "own output too early": (
        two("bootpgm_args: ${.port}"),
        "two.conf:4: services.up.boot.run",
        "'${.port}' is known only after the boot program ran",
    ),
    "same level": (
        raw("[svc-up]\nlocal_exe: true\nbootpgm: p.sh\nbootpgm_args: ${x.name}\n[svc-x]\n"),
        "two.conf:4: services.up.boot.run",
        "'${x.name}' is not known yet: 'x' is in the same level",
    ),
    "later level": (
        {"one.conf": f"{LOW}bootpgm: p.sh\nbootpgm_args: ${{up.name}}\n", **two("")},
        "one.conf:5: services.low.boot.run",
        "'up' is in level 2, which boots later",
    ),
    "unknown global": (
        {**top(f"{TOP}[globals]\nsize: 1\n"), **two("bootpgm_args: ${global.sise}")},
        "two.conf:4: services.up.boot.run",
        "unknown global 'sise' (give it with -g sise=…; did you mean 'size'?)",
    ),
    "a reference of three parts": (
        two("bootpgm_args: ${low.a.b}"),
        "two.conf:4: bootpgm_args",
        "'${low.a.b}' is not a reference",
    ),
    "attributes in a circle": (
        two("deps: d.ini", d="[deps]\na: ${.b}\nb: ${up.a}"),
        "d.ini:2: services.up.attributes.a",
        "refers to itself: up.a → up.b → up.a",
    ),
    "a global of itself": (
        top(f"{TOP}[globals]\na: ${{global.a}}\n"),
        "main.conf:5: globals.a",
        "refers to itself: global.a → global.a",
    ),
    "on a service that is not there": (
        raw("[svc-up]\nhostname: ${lwo.hostname}\nbootpgm: p.sh\n"),
        "two.conf:2: services.up.on",
        "unknown service 'lwo'",
    ),
    # ---- templates
    "unknown template key": (
        {**two("bootconf: c.json\ndeps: d.ini", d="[deps]\nport: 1"), "c.json": "{\n$prot}"},
        "c.json:2: services.up.bootconf",
        "'up' has no attribute 'prot' (did you mean 'port'?)",
    ),
    "a dollar sign alone": (
        {**two("bootconf: c.yml"), "c.yml": "price: 5 $\n"},
        "c.yml:1",
        "neither '$key' nor '${key}' (write $$ for a dollar sign)",
    ),
}

WARNINGS: dict[str, Row] = {
    "unknown key": (two("readpgm: p.sh"), "two.conf:4: readpgm", "did you mean 'readypgm'?"),
    "unknown key of the defaults": (
        top(f"[defaults]\nimgae: x\n{TOP}"),
        "main.conf:2: imgae",
        "unknown key 'imgae' in [defaults] has no effect (did you mean 'image'?)",
    ),
    "unknown section": (raw(f"[srv-x]\na: 1\n{LOW.replace('low', 'up')}"), "two.conf:1", "[srv-x]"),
    "unknown section on top": (top(f"[default]\n{TOP}"), "main.conf:1", "did you mean 'defaults'?"),
    "service in the top file": (top(f"[svc-x]\n{TOP}"), "main.conf:1", "into a level's file"),
    "no level at all": (top(f"{TOP}leve3: x\n"), "main.conf:4: leve3", "'leve3' is no level"),
    "repeated key": (two("hostname: a\nhostname: b"), "two.conf:5", "twice in [svc-up], first in"),
    "repeated section": (raw(f"{LOW}[svc-low]\n".replace("low", "up")), "two.conf:4", "twice"),
    "no replicas": (two("replica_count: 0"), "two.conf:4: replica_count", "0 replicas"),
    "braces without a dot": (
        two("bootpgm_args: ${HOME}"),
        "two.conf:4: bootpgm_args",
        "'${HOME}' is no reference and stays as it is",
    ),
    "braces without an end": (two("bootpgm_args: ${low.x"), "two.conf:4: bootpgm_args", "no refer"),
    "latin-1": ({"two.conf": "#\xe9\n[svc-up]\n".encode("latin-1")}, "two.conf", "not UTF-8"),
}


def written(directory: Path, files: dict[str, str | bytes]) -> Path:
    ordinary = {"main.conf": TOP, "one.conf": LOW, "two.conf": LOW.replace("low", "up")}
    for name, content in {**ordinary, **files, "p.sh": "#!/bin/sh\n"}.items():
        data = content.encode() if isinstance(content, str) else content
        (directory / name).write_bytes(data)
    return Path("main.conf")


@pytest.mark.parametrize("slip", PROBLEMS)
def test_a_slip_is_named_with_file_line_and_remedy(
    slip: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, place, sentence = PROBLEMS[slip]
    monkeypatch.chdir(tmp_path)
    # That drivers must be installed is told elsewhere.
    remapped = {"west": "in_memory"} if "[cloud-west]" in str(files.get("main.conf")) else {}
    choices = PlanChoices(environment=dict(os.environ), remapped=remapped)
    with pytest.raises(ConfigProblem) as found:
        read_classic_plan(written(tmp_path, files), choices)
    said = [str(problem) for problem in found.value.problems]
    assert [line for line in said if line.startswith(place) and sentence in line], said
    assert len(said) == 1, said


@pytest.mark.parametrize("slip", WARNINGS)
def test_what_the_original_passed_over_is_said_but_booted(
    slip: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, place, sentence = WARNINGS[slip]
    monkeypatch.chdir(tmp_path)
    reading = read_classic_plan(written(tmp_path, files), PlanChoices(environment={}))
    said = [str(warning) for warning in reading.warnings]
    assert [line for line in said if line.startswith(place) and sentence in line], said
    assert len(said) == 1, said


def test_all_problems_are_said_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    files = two("readypgm: no.sh\npgm_timeout: x\nbootpgm_args: ${lwo.x}")
    with pytest.raises(ConfigProblem) as found:
        read_classic_plan(written(tmp_path, files), PlanChoices())
    assert len(found.value.problems) == 3


def test_a_plan_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigProblem, match="there is no such file"):
        read_classic_plan(tmp_path / "no.conf", PlanChoices())


def test_chosen_clouds_globals_and_files_are_checked_too(tmp_path: Path) -> None:
    written(tmp_path, {"g.ini": "[global]\n", "g.yaml": "a: [1]\nb c: 1\n"})
    with pytest.raises(ConfigProblem) as found:
        read_classic_plan(
            tmp_path / "main.conf",
            PlanChoices(
                given={"size": "1"},
                files=(tmp_path / "g.ini", tmp_path / "g.yaml", tmp_path / "no.ini"),
                remapped={"west": "process"},
            ),
        )
    said = str(found.value)
    assert "g.ini: has no section [globals]" in said
    assert "g.yaml:1: a: must be a text or a number" in said
    assert "g.yaml:2: b c: is not a name" in said
    assert "no.ini: there is no such file" in said
    assert "command line: size: no such global in the plan" in said
    assert "command line: --cloud: the plan has no cloud 'west'" in said
