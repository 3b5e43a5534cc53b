"""The engine of the sample "custom-engine"."""

from __future__ import annotations

import pytest

from agent.messages import HealthStatus, InstanceState
from bootlevels.plans.custom_engine.engine import Spare, SpareSettings
from coordinator.engines.base import PoolView, ViewedInstance


def worker(
    name: str, *, busy: bool | None, heard: float = 1.0, pending: bool = False
) -> ViewedInstance:
    state = InstanceState.BOOTING if pending else InstanceState.RUNNING
    return ViewedInstance(
        node_id=name, state=state, health=HealthStatus.OK, busy=busy, heard_age=heard
    )


def view(*workers: ViewedInstance, spare: int = 1) -> PoolView:
    settings = SpareSettings(spare=spare)
    return PoolView(pool="p", now=0.0, instances=workers, settings=settings)


@pytest.mark.parametrize(
    ("workers", "size", "stable", "victims"),
    [
        ((), 1, False, ()),
        ((worker("a", busy=False),), 1, True, ("a",)),
        ((worker("a", busy=True),), 2, False, ()),
        ((worker("a", busy=True), worker("b", busy=False)), 2, True, ("b",)),
        ((worker("a", busy=True), worker("b", busy=None, pending=True)), 2, True, ()),
        ((worker("a", busy=False), worker("b", busy=False)), 1, False, ("a", "b")),
    ],
)
def test_it_wants_a_worker_for_each_busy_one_and_a_spare(
    workers: tuple[ViewedInstance, ...], size: int, stable: bool, victims: tuple[str, ...]
) -> None:
    decision = Spare().decide(view(*workers))
    assert (decision.size, decision.stable, decision.victims) == (size, stable, victims)
    assert not decision.held


@pytest.mark.parametrize("silent", [worker("b", busy=None), worker("b", busy=False, heard=31.0)])
def test_it_holds_while_anybody_does_not_say_lately_whether_it_is_busy(
    silent: ViewedInstance,
) -> None:
    decision = Spare().decide(view(worker("a", busy=False), silent))
    assert (decision.size, decision.held) == (2, True)


def test_fewer_spare_workers_than_none_are_refused() -> None:
    with pytest.raises(ValueError, match="spare must be 0 or more"):
        SpareSettings(spare=-1)
