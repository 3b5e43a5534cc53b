from __future__ import annotations

import string
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.wire import from_wire, to_wire
from bootlevels.plan import CheckKind, LaunchPlan, PoolCheck, ServiceKind
from bootlevels.plan_yaml import parse_plan, profiles_of, read_plan
from bootlevels.run_home import sample_plans
from coordinator.errors import ConfigProblem

PLAN = """
    plan: shop
    globals: {size: 2, queue: "env:QUEUE"}
    defaults: {timeout: 2m, cloud: here}
    clouds: {here: {driver: process}}
    levels:
      - services:
          broker:
            local: true
            provides: [registrar]
            attributes: {port: 5672}
            outputs: [accounts]
            boot: {run: "true --port ${.port} 'two words'", timeout: 5s, environment: {A: 1}}
            ready:
              - {tcp: "localhost:${.port}", interval: 100ms}
              - {run: ["true", "${.accounts}"]}
            terminate: {run: "true"}
          notes: {attributes: {text: "${run_name}"}}
      - services:
          epu-shop:
            timeout: 9m
            verify: launch_one
            pool:
              engine: {type: n_preserving, preserve_n: "${global.size}"}
    profiles:
      big:
        globals: {size: 9}
        services:
          broker: {timeout: 1h, boot: {timeout: null}}
          notes: null
"""


def test_a_plan_becomes_values(plan_file: Callable[[str], Path]) -> None:
    plan = read_plan(plan_file(PLAN))
    broker = plan.service("broker")
    assert [level.number for level in plan.levels] == [1, 2]
    assert broker.kind is ServiceKind.LOCAL
    assert broker.boot is not None
    assert broker.boot.words == ("true", "--port", "${.port}", "two words")
    assert broker.boot.timeout == 5
    assert broker.boot.environment == {"A": "1"}
    assert broker.terminate is not None
    assert broker.terminate.timeout == 120
    first, second = broker.ready
    assert (first.kind, first.target, first.interval, first.timeout) == (
        CheckKind.TCP,
        "localhost:${.port}",
        0.1,
        120,
    )
    assert second.program is not None
    assert second.program.words == ("true", "${.accounts}")
    assert plan.service("notes").kind is ServiceKind.ATTRIBUTES
    pool = plan.service("epu-shop").pool
    assert pool is not None
    assert pool.verify is PoolCheck.LAUNCH_ONE
    assert pool.timeout == 540
    assert pool.section["clouds"] == ["here"]
    assert plan.registrar() is broker


def test_a_profile_is_laid_over_the_plan(plan_file: Callable[[str], Path]) -> None:
    path = plan_file(PLAN)
    plan = read_plan(path, profile="big")
    assert profiles_of(path) == ("big",)
    assert plan.profile == "big"
    assert plan.globals["size"] == "9"
    boot = plan.service("broker").boot
    assert boot is not None
    assert boot.timeout == 3600
    assert [service.name for service in plan.services()] == ["broker", "epu-shop"]


def test_given_globals_come_last(plan_file: Callable[[str], Path]) -> None:
    plan = read_plan(plan_file(PLAN), profile="big", given={"size": "4"})
    assert plan.globals["size"] == "4"


def test_a_plan_survives_its_way_into_a_record(plan_file: Callable[[str], Path]) -> None:
    plan = read_plan(plan_file(PLAN))
    assert from_wire(LaunchPlan, to_wire(plan)) == plan


def test_an_unset_variable_is_a_problem_only_when_an_environment_is_given(
    plan_file: Callable[[str], Path],
) -> None:
    path = plan_file(PLAN)
    assert read_plan(path, environment={"QUEUE": "q"}).globals["queue"] == "env:QUEUE"
    with pytest.raises(ConfigProblem, match=r":3: globals.queue: the environment has no QUEUE"):
        read_plan(path, environment={})


@pytest.mark.parametrize("name", sorted(sample_plans()))
def test_every_sample_and_each_of_its_profiles_is_right(name: str) -> None:
    path = sample_plans()[name]
    for profile in ("", *profiles_of(path)):
        plan = read_plan(path, profile=profile)
        assert plan.name == name
        assert plan.description
        has_pool = any(service.pool for service in plan.services())
        assert (plan.registrar() is not None) == has_pool


def test_the_sleeper_runs_a_fixed_number_and_elastic_follows_the_queue() -> None:
    path = sample_plans()["sleeper"]
    fixed = read_plan(path).service("epu-sleeper").pool
    elastic = read_plan(path, profile="elastic").service("epu-sleeper").pool
    assert fixed is not None
    assert elastic is not None
    assert fixed.section["engine"] == {"type": "n_preserving", "preserve_n": 2}
    assert elastic.section["engine"]["type"] == "queue_length"
    assert "preserve_n" not in elastic.section["engine"]


def test_what_is_wrong_everywhere_is_said_at_once(plan_file: Callable[[str], Path]) -> None:
    path = plan_file("""\
        plan: shop
        globlas: {a: 1}
        levels:
          - services:
              a:
                local: true
                boot: {run: "true ${b.x} ${global.nope}", tiemout: 5s}
              b: {attributes: {x: "${c.y}"}}
          - services:
              c: {local: true, boot: {run: "no-such-program-here"}}
              d: {attributes: {z: "${b.zzz} ${a.anything}"}}
    """)
    with pytest.raises(ConfigProblem) as found:
        read_plan(path)
    shown = [f"{p.where.removeprefix(str(path))} {p.key}: {p.what}" for p in found.value.problems]
    assert shown == [
        ":2 globlas: unknown key",
        ":7 services.a.boot.tiemout: unknown key",
        ":8 services.b.attributes.x: '${c.y}' is not known yet: "
        "'c' is in level 2, which boots later",
        ":10 services.c.boot.run: there is no program 'no-such-program-here'",
        ":11 services.d.attributes.z: 'b' has no attribute 'zzz'",
    ]


_LEAF = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 2000),
    st.text(string.ascii_letters + "${}.: 01-", max_size=12),
    st.sampled_from(["${.x}", "${a.x}", "${global.g}", "${run_name}", "env:HOME", "true", "10s"]),
)
_KEYS = st.sampled_from(
    [
        "plan", "globals", "levels", "services", "profiles", "defaults", "clouds", "local",
        "boot", "run", "ready", "tcp", "http", "terminate", "attributes", "outputs", "pool",
        "engine", "type", "timeout", "interval", "provides", "verify", "a", "b", "driver", "g",
    ]
)  # fmt: skip
_TREE = st.recursive(
    _LEAF,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=4),
    max_leaves=25,
)
_SERVICE = st.dictionaries(_KEYS, _TREE, max_size=5)
_PLANS = st.fixed_dictionaries(
    {"plan": st.just("p") | _LEAF},
    optional={
        "globals": st.dictionaries(_KEYS, _LEAF, max_size=3) | _TREE,
        "profiles": st.dictionaries(_KEYS, _SERVICE, max_size=2) | _TREE,
        "clouds": _TREE,
        "defaults": _TREE,
        "levels": st.lists(
            st.fixed_dictionaries({"services": st.dictionaries(_KEYS, _SERVICE, max_size=3)}),
            max_size=3,
        )
        | _TREE,
    },
)


def _read(text: str, profile: str = "") -> None:
    try:
        parse_plan(text, file="f", directory="/", profile=profile, environment={})
    except ConfigProblem as found:
        assert found.problems
        assert all(problem.what and problem.where for problem in found.problems)


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(plan=_PLANS, profile=st.sampled_from(["", "a"]))
def test_a_strange_plan_is_never_more_than_a_config_problem(plan: object, profile: str) -> None:
    import yaml

    _read(yaml.safe_dump(plan), profile)


@settings(max_examples=300, deadline=None)
@given(st.text() | st.text("{}[]:-,&*!|>'\"#%@`?~ab1\n ", max_size=60))
def test_any_text_at_all_is_never_more_than_a_config_problem(text: str) -> None:
    _read(text)


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_a_damaged_plan_is_never_more_than_a_config_problem(data: st.DataObject) -> None:
    text = sample_plans()["sleeper"].read_text()
    at = data.draw(st.integers(0, len(text)))
    gone = data.draw(st.integers(0, 30))
    more = data.draw(st.text(max_size=6))
    _read(text[:at] + more + text[at + gone :], data.draw(st.sampled_from(["", "elastic"])))
