"""When a service counts as booted with other values than it would get now."""

from __future__ import annotations

from typing import Any

from bootlevels.attributes import Attributes
from bootlevels.inputs import Staleness, digest_of, staleness
from bootlevels.plan import LaunchPlan, PoolRequest, ServiceKind, ServiceSpec


def digest(section: dict[str, Any], timeout: float = 60.0) -> str:
    service = ServiceSpec(
        name="sleepers",
        kind=ServiceKind.POOL,
        pool=PoolRequest(section=section, timeout=timeout),
    )
    plan = LaunchPlan(name="p", levels=())
    return digest_of(service, Attributes(plan=plan, run={}, outputs={}, environment={}))


def test_a_pool_whose_section_says_something_else_is_to_be_configured_anew() -> None:
    before = digest({"engine": {"type": "n_preserving", "preserve_n": 1}, "max": 5})
    after = digest({"engine": {"type": "n_preserving", "preserve_n": 2}, "max": 5})
    assert staleness(before, after) is Staleness.CONFIGURATION


def test_a_pool_that_is_only_written_otherwise_or_waited_for_longer_is_the_same() -> None:
    before = digest({"clouds": ("here",), "max": 5})
    assert staleness(before, digest({"max": 5, "clouds": ["here"]}, 90.0)) is Staleness.NONE
