"""A pool is kept until its last worker is gone, whoever is away meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from agent.rpc_client import CallTimeout
from coordinator.errors import NotFound
from mgmt.exit_codes import WorkersRemain
from mgmt.pool_removal import Clock, remove_pool


class Coordinator:
    """A pool whose workers go one at each look; ``away``: looks that nobody answers."""

    def __init__(self, workers: int, away: int = 0, ordered: int = 0) -> None:
        self.nodes = [f"l-{index}" for index in range(workers)]
        self.away, self.ordered = away, ordered
        self.kept, self.section = True, {"max": 5}
        self.now = 0.0

    def call(self, service: str, method: str, *args: Any, timeout: float = 0.0) -> Any:
        match f"{service}.{method}":
            case "provisioner.keepers":
                return []
            case "controller.pools":
                return [{"name": "p"}] if self.kept else []
            case "controller.pool":
                if args != ("p",) or not self.kept:
                    raise NotFound("no such pool")
                return {"name": "p", "instances": [{"node_id": node} for node in self.nodes]}
            case "controller.reconfigure":
                self.section |= args[1]
                return {"name": "p"}
            case "controller.status":
                if self.away:
                    self.away -= 1
                    raise CallTimeout("nobody answers")
                self.ordered -= 1
                return {"pending_batches": ["p"] if self.ordered >= 0 else []}
            case "provisioner.live_nodes":
                if self.section["max"] == 0 and self.nodes:
                    self.nodes.pop()
                return [{"node_id": node, "pool": "p"} for node in self.nodes]
            case "controller.remove_pool":
                assert not self.nodes and self.ordered < 0, "somebody would be kept by nobody"
                self.kept = False
                return None
        raise AssertionError((service, method))

    @property
    def clock(self) -> Clock:
        def sleep(seconds: float) -> None:
            self.now += seconds

        return Clock(monotonic=lambda: self.now, sleep=sleep)


@pytest.fixture
def removed() -> Callable[..., Any]:
    return lambda world, timeout=60.0, name="p": remove_pool(
        world.call, name, timeout, lambda _: None, world.clock
    )


def test_a_pool_is_given_up_after_its_last_worker(removed):
    world = Coordinator(3, away=2, ordered=4)
    assert removed(world) == {"name": "p", "workers": ["l-0", "l-1", "l-2"]}
    assert not world.kept


def test_a_pool_whose_workers_stay_is_kept_and_that_is_exit_4(removed):
    world = Coordinator(1000)
    with pytest.raises(WorkersRemain, match="nodes of pool p are left after 3 s"):
        removed(world, timeout=3.0)
    assert world.kept


def test_a_pool_that_is_not_there_is_not_found(removed):
    with pytest.raises(NotFound, match="did you mean 'p'"):
        removed(Coordinator(0), name="pp")
