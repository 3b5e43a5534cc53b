from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootlevels.attributes import (
    Attributes,
    MalformedReference,
    Reference,
    Unresolved,
    masked,
    references,
    secrets_of,
    split,
)
from bootlevels.plan import BootLevel, LaunchPlan, Program, ServiceKind, ServiceSpec

LOCAL = ServiceKind.LOCAL


def plan_of(*levels: tuple[ServiceSpec, ...], globals: dict[str, str] | None = None) -> LaunchPlan:
    numbered = tuple(BootLevel(number=n, services=each) for n, each in enumerate(levels, 1))
    return LaunchPlan(name="p", levels=numbered, globals=globals or {})


DB = ServiceSpec(
    name="db",
    kind=LOCAL,
    attributes={"port": "5432", "url": "sql://${.hostname}:${.port}/${global.name}"},
    outputs=("password",),
)
WEB = ServiceSpec(name="web", kind=LOCAL, attributes={"db": "${db.url}?${db.password}"})
PLAN = plan_of(
    (DB,), (WEB,), globals={"name": "shop", "key": "env:KEY", "twice": "${global.name}2"}
)


def attributes(**outputs: dict[str, str]) -> Attributes:
    return Attributes(
        plan=PLAN, run={"run_name": "r1"}, outputs=outputs, environment={"KEY": "s3cret"}
    )


def test_every_reference_of_a_value_is_resolved_to_the_end() -> None:
    known = attributes(db={"password": "pw"})
    assert known.expand("<${.db}|${.db}>", WEB) == (
        "<sql://localhost:5432/shop?pw|sql://localhost:5432/shop?pw>"
    )
    assert known.expand("${run_name}-${name}-${global.twice}", WEB) == "r1-web-shop2"


def test_what_a_program_gave_is_data_and_never_read_for_references() -> None:
    known = attributes(db={"password": "${global.key} env:KEY"})
    assert known.expand("${db.password}", WEB) == "${global.key} env:KEY"


def test_an_output_overrides_the_attribute_of_the_same_name() -> None:
    assert attributes(db={"port": "7"}).expand("${db.port}", WEB) == "7"
    assert attributes(db={"port": "7"}).expand("${db.url}", WEB) == "sql://localhost:7/shop"


def test_an_environment_value_is_taken_only_where_it_is_declared_as_a_whole() -> None:
    known = attributes()
    assert known.expand("${global.key}", WEB) == "s3cret"
    assert known.expand("env:KEY", WEB) == "env:KEY"
    assert known.declared("env:KEY", WEB) == "s3cret"
    assert known.declared("x env:KEY", WEB) == "x env:KEY"
    with pytest.raises(Unresolved, match="the environment has no NOPE"):
        known.declared("env:NOPE", WEB)


def test_two_dollars_stand_for_one_before_a_brace() -> None:
    assert attributes().expand("$${global.name} $$ $x ${global.name}", WEB) == (
        "${global.name} $$ $x shop"
    )


@pytest.mark.parametrize(
    "text", ["${", "${}", "${a.b.c}", "${a b}", "${.}", "${1}", "x ${global.} y", "${${a}}"]
)
def test_what_is_no_reference_is_named(text: str) -> None:
    with pytest.raises(MalformedReference):
        split(text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("${nope.x}", "no service 'nope'"),
        ("${db.nope}", "has no attribute 'nope'"),
        ("${db.password}", "did not provide its output 'password'"),
        ("${global.nope}", "no global 'nope'"),
        ("${nope}", "not a built-in"),
    ],
)
def test_what_has_no_value_says_why(text: str, why: str) -> None:
    with pytest.raises(Unresolved, match=why):
        attributes().expand(text, WEB)


def test_attributes_that_grow_without_end_are_stopped() -> None:
    texts = {f"a{n}": f"${{.a{n + 1}}}" * 10 for n in range(12)} | {"a12": "0123456789"}
    service = ServiceSpec(name="s", kind=LOCAL, attributes=texts)
    known = Attributes(plan=plan_of((service,)), run={}, outputs={}, environment={})
    with pytest.raises(Unresolved, match="grows beyond"):
        known.expand("${.a0}", service)


def test_an_attribute_that_refers_to_itself_ends() -> None:
    service = ServiceSpec(name="s", kind=LOCAL, attributes={"a": "${.b}", "b": "${.a}"})
    known = Attributes(plan=plan_of((service,)), run={}, outputs={}, environment={})
    with pytest.raises(Unresolved, match="refers to itself"):
        known.expand("${.a}", service)


def test_secrets_are_the_environment_values_and_are_hidden() -> None:
    program = Program(words=("x",), timeout=1, environment={"P": "env:PW"})
    service = ServiceSpec(name="s", kind=LOCAL, boot=program, attributes={"t": "env:SHORT"})
    plan = plan_of((service,), globals={"k": "env:KEY", "plain": "visible"})
    secrets = secrets_of(plan, {"PW": "hunter22", "KEY": "hunter2222", "SHORT": "a"})
    assert masked("hunter2222 hunter22 visible a", secrets) == "*** *** visible a"


@given(st.text())
def test_any_text_is_split_or_refused_and_nothing_is_lost(text: str) -> None:
    try:
        parts = split(text)
    except MalformedReference:
        return
    written = (str(p) if isinstance(p, Reference) else p.replace("${", "$${") for p in parts)
    assert "".join(written) == text


def test_references_are_listed_in_order() -> None:
    assert references("${a.b}${.c}${global.d}${run_name}") == (
        Reference("a", "b"),
        Reference(".", "c"),
        Reference("global", "d"),
        Reference("", "run_name"),
    )
