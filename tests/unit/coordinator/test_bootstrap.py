"""The composition root: clocks that no step of the system's clock moves."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.messages import BrokerAccess, BrokerAccount
from coordinator.bootstrap import build_keeper, build_provisioner, build_registrar, steady_clock
from coordinator.config import CoordinatorConfig

HOUR = 3600.0


@pytest.mark.parametrize("step", [HOUR, -HOUR])
def test_a_step_of_the_system_clock_is_not_seen(step: float) -> None:
    wall, passed = [1_000_000.0], [50.0]
    clock = steady_clock(lambda: wall[0], lambda: passed[0])
    assert clock() == 1_000_000.0
    wall[0] += step
    passed[0] += 2.0
    assert clock() == 1_000_002.0


def keeper(config: CoordinatorConfig, _: BrokerAccess, call: Callable[..., Any]) -> Any:
    return build_keeper(config, call, lambda work: work(), lambda work: work())


def provisioner(config: CoordinatorConfig, access: BrokerAccess, call: Callable[..., Any]) -> Any:
    return build_provisioner(config, access, call, lambda function, items: [])


@pytest.mark.parametrize("build", [keeper, provisioner, build_registrar])
@pytest.mark.parametrize("step", [HOUR, -HOUR])
def test_no_part_decides_by_a_clock_that_jumps(
    build: Any, step: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token.key").write_text("6b" * 32)
    config = CoordinatorConfig(run="run", accounts="", state_dir=str(tmp_path))
    account = BrokerAccount(user="u", password="p")
    accounts = dict.fromkeys(("admin", "coordinator", "enrol"), account)
    access = BrokerAccess(host="h", port=1, vhost="v", accounts=accounts)
    system, stepped = time.time, [0.0]
    monkeypatch.setattr(time, "time", lambda: system() + stepped[0])
    part = build(config, access, lambda *given, **more: {})
    before = part._clock()
    stepped[0] = step
    assert 0 <= part._clock() - before < HOUR / 2
