"""Whatever a person may write: a plan, warnings, or ConfigProblem. Never a traceback."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bootlevels.plan_choices import PlanChoices, PlanReading
from bootlevels.plan_classic import read_classic_plan
from bootlevels.plan_yaml import read_native_plan
from coordinator.errors import ConfigProblem, Problem

ROUNDS = settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)

WORDS = [
    "${low.x}", "${.x}", "${global.g}", "${", "$${", "$", "$$", "%(x)s", "%", "env.HOME", "env.NO",
    "env:NO", "true", "0", "-1", "1e9", "~", "..", ".", "/", "p.sh", "d.ini", "c.json", "''", "'",
    '"', "a b", "é", "\u2028", "\x1c", "\ufeff", "null", "${low.hostname}", "x" * 300, "[svc-a]",
]  # fmt: skip
VALUE = st.lists(st.one_of(st.sampled_from(WORDS), st.text(max_size=5)), max_size=3).map(" ".join)

CLASSIC_KEYS = [
    "image", "iaas", "iaas_url", "iaas_key", "iaas_launch", "cloud", "allocation", "hostname",
    "localsshkeypath", "ssh_username", "local_exe", "bootpgm", "bootpgm_args", "readypgm",
    "readypgm_args", "terminatepgm", "bootconf", "pgm_timeout", "replica_count", "deps", "deps2",
    "readpgm", "level1", "level2", "level02", "x", "DEFAULT",
]  # fmt: skip
SECTIONS = [
    "runlevels", "defaults", "globals", "cloud-a", "deps", "svc-a", "svc-b", "svc-low", "svc-",
    "DEFAULT", "srv-x", "svc-global",
]  # fmt: skip
LINE = st.one_of(
    st.sampled_from(SECTIONS).map("[{}]".format),
    st.builds("{}{}{}".format, st.sampled_from(CLASSIC_KEYS), st.sampled_from(":= "), VALUE),
    st.builds("  {}".format, VALUE),
    st.text(max_size=12),
)
INI = st.lists(LINE, max_size=12).map("\n".join)

NATIVE_KEYS = [
    "plan", "include", "globals", "clouds", "defaults", "profiles", "levels", "services", "local",
    "boot", "ready", "terminate", "run", "attributes", "outputs", "pool", "engine", "type", "cloud",
    "image", "host", "on", "replicas", "transport", "bootconf", "ssh", "template", "timeout", "tcp",
    "low", "up", "driver", "provides",
]  # fmt: skip
SCALAR = st.one_of(VALUE, st.integers(-3, 99_999), st.booleans(), st.none(), st.floats())
TREE = st.recursive(
    SCALAR,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(NATIVE_KEYS), inner, max_size=4),
    ),
    max_leaves=12,
)


def check(read: object, path: Path) -> None:
    choices = PlanChoices(environment={"HOME": "/h"}, files=(path.parent / "d.ini",))
    try:
        reading = read(path, choices)  # type: ignore[operator]
    except ConfigProblem as found:
        assert_said(found.problems)
        assert found.problems
    else:
        assert isinstance(reading, PlanReading)
        assert_said(reading.warnings)


def assert_said(problems: Sequence[Problem]) -> None:
    for problem in problems:
        assert problem.what
        assert len(str(problem)) < 1500, str(problem)


def put(directory: Path, files: dict[str, str | bytes]) -> None:
    for name, content in files.items():
        data = content if isinstance(content, bytes) else content.encode("utf-8", "replace")
        (directory / name).write_bytes(data)


@ROUNDS
@given(INI, INI, INI, st.text(max_size=30))
def test_any_text_as_a_classic_plan_is_read_or_refused(
    top: str, level: str, deps: str, template: str
) -> None:
    with tempfile.TemporaryDirectory() as name:
        files: dict[str, str | bytes] = {
            "main.conf": f"[runlevels]\nlevel1: low.conf\nlevel2: l.conf\n{top}",
            "low.conf": "[svc-low]\nlocal_exe: true\nbootpgm: p.sh\n",
            "l.conf": f"[svc-up]\n{level}",
            "d.ini": f"[deps]\n{deps}",
            "c.json": template,
            "p.sh": "",
        }
        put(Path(name), files)
        check(read_classic_plan, Path(name) / "main.conf")


@ROUNDS
@given(st.binary(max_size=60), st.binary(max_size=60))
def test_any_bytes_as_a_classic_plan_are_read_or_refused(top: bytes, level: bytes) -> None:
    with tempfile.TemporaryDirectory() as name:
        put(Path(name), {"main.conf": b"[runlevels]\nlevel1: l.conf\n" + top, "l.conf": level})
        check(read_classic_plan, Path(name) / "main.conf")


@ROUNDS
@given(TREE, TREE, TREE, TREE)
def test_any_tree_as_a_native_plan_is_read_or_refused(
    service: object, other: object, section: object, included: object
) -> None:
    import yaml

    plan = {
        "plan": "p",
        "include": ["i.yaml"],
        "globals": section,
        "clouds": {"here": {"driver": "in_memory"}},
        "levels": [{"services": {"low": other}}, {"services": {"up": service}}],
    }
    with tempfile.TemporaryDirectory() as name:
        files: dict[str, str | bytes] = {
            "plan.yaml": yaml.safe_dump(plan),
            "i.yaml": yaml.safe_dump({"defaults": included}),
            "d.ini": "[globals]\nx: 1\n",
            "p.sh": "",
        }
        put(Path(name), files)
        check(read_native_plan, Path(name) / "plan.yaml")


@ROUNDS
@given(st.one_of(st.binary(max_size=80), INI.map(lambda text: text.encode("utf-8", "replace"))))
def test_any_bytes_as_a_native_plan_are_read_or_refused(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as name:
        put(Path(name), {"plan.yaml": content, "d.ini": "[globals]\nx: 1\n"})
        check(read_native_plan, Path(name) / "plan.yaml")
