from __future__ import annotations

import json
from pathlib import Path

import pytest

from bootlevels.plan import PoolCheck
from bootlevels.pool_gateway import CoordinatorProblem, PoolGateway, pool_look

STABLE, LAUNCH_ONE = PoolCheck


@pytest.mark.parametrize(
    ("status", "verify", "ok", "detail"),
    [
        ({"state": "STABLE", "running": 2, "wanted": 2}, STABLE, True, "2 of 2 running"),
        ({"state": "STABLE", "running": 0, "wanted": 0}, STABLE, True, "0 of 0 running"),
        (
            {"state": "PENDING", "running": 1, "wanted": 3, "pending": 2},
            STABLE,
            False,
            "1 of 3 running, 2 on the way",
        ),
        ({"state": "PENDING", "running": 1, "wanted": 0}, STABLE, True, "1 of 0 running"),
        (
            {"state": "PENDING", "running": 0, "wanted": 0, "draining": 1},
            STABLE,
            True,
            "0 of 0 running",
        ),
        ({"state": "PENDING", "running": 0, "wanted": 0}, STABLE, False, "0 of 0 running"),
        (
            {"state": "PENDING", "running": 3, "wanted": 2, "unhealthy": 1},
            STABLE,
            False,
            "3 of 2 running",
        ),
        ({"state": "PENDING", "running": 1, "wanted": 3}, LAUNCH_ONE, True, "1 of 3 running"),
        ({"state": "STABLE", "running": 0, "wanted": 0}, LAUNCH_ONE, False, "0 of 0 running"),
        ({"state": "PENDING", "wanted": None}, STABLE, False, "0 of ? running"),
        (
            {"state": "PENDING", "running": 0, "wanted": None, "decided_age": None},
            STABLE,
            False,
            "its controller has not looked at it yet",
        ),
        (
            {"state": "HELD", "running": 0, "wanted": 1, "reason": "no reading"},
            STABLE,
            False,
            "0 of 1 running; HELD: no reading",
        ),
    ],
)
def test_a_pools_status_says_whether_its_service_is_verified(
    status: dict[str, object], verify: PoolCheck, ok: bool, detail: str
) -> None:
    found = pool_look(status, verify)
    assert (found.ok, found.detail) == (ok, detail)


def test_a_failed_pool_is_not_waited_for_to_the_end() -> None:
    failed = pool_look({"state": "FAILED", "running": 0, "wanted": 1, "reason": "why"}, STABLE)
    assert failed.patience is not None
    assert "FAILED: why" in failed.detail


def test_without_accounts_the_coordinator_is_unreachable(tmp_path: Path) -> None:
    with pytest.raises(CoordinatorProblem, match="accounts can't be read") as found:
        PoolGateway(tmp_path / "accounts.json")
    assert found.value.unreachable


def test_a_dead_broker_is_a_look_and_not_an_error(tmp_path: Path) -> None:
    users = {"coordinator": {"user": "u", "password": "pa55word"}}
    path = tmp_path / "accounts.json"
    path.write_text(json.dumps({"host": "127.0.0.1", "port": 9, "vhost": "v", "accounts": users}))
    with PoolGateway(path) as gateway:
        found = gateway.look("epu-x", STABLE)
        assert (found.ok, found.unreachable) == (False, True)
        assert found.patience is not None
        with pytest.raises(CoordinatorProblem) as problem:
            gateway.live_nodes()
    assert problem.value.unreachable
    assert "pa55word" not in found.detail + str(problem.value)
