"""Who keeps a pool, and that calls reach that one."""

from __future__ import annotations

from typing import Any

import pytest

from agent.keeper_names import controller_name, controllers, pool_of, sensors_name
from agent.keepers import KeeperCalls
from agent.rpc_client import BrokerUnreachable, CallFailed, CallTimeout, RemoteError, UnknownService


class Bus:
    """Services by name; what is asked of one that is an exception raises that."""

    def __init__(self, dedicated: Any = (), **services: Any) -> None:
        self.dedicated = dedicated
        self.services = services
        self.asked: list[tuple[str, str]] = []

    def __call__(self, service: str, method: str, *args: Any, timeout: float | None) -> Any:
        assert timeout is None or timeout > 0
        if (service, method) == ("provisioner", "keepers"):
            if isinstance(self.dedicated, Exception):
                raise self.dedicated
            return list(self.dedicated)
        self.asked.append((service, method))
        found = self.services.get(service.replace("-", "_"), UnknownService(service))
        if isinstance(found, Exception):
            raise found
        return found


def test_names_of_own_and_of_shared_services_say_whose_they_are():
    assert (controller_name(), sensors_name()) == ("controller", "sensors")
    assert (controller_name("a-b"), sensors_name("a-b")) == ("controller-a-b", "sensors-a-b")
    for name in ("controller", "sensors", "provisioner"):
        assert pool_of(name) == ""
    assert pool_of("controller-a-b") == pool_of("sensors-a-b") == "a-b"
    assert controllers(["b", "a"]) == ("controller", "controller-a", "controller-b")


@pytest.mark.parametrize(("pool", "whose"), [("a", "its own"), ("b", "shared")])
def test_what_names_a_pool_goes_to_that_pools_controller(pool: str, whose: str) -> None:
    calls = KeeperCalls(Bus(["a"], controller_a="its own", controller="shared"))
    assert calls.call("controller", "explain", pool, None) == whose
    assert calls.keeper(pool) == ("controller-a" if pool == "a" else "controller")


def test_a_pool_whose_own_controller_is_dead_is_nobody_elses():
    calls = KeeperCalls(Bus(["a"], controller_a=CallTimeout("silent"), controller="shared"))
    with pytest.raises(CallTimeout):
        calls.call("controller", "pool", "a")


def test_while_the_provisioner_is_silent_a_pools_own_controller_is_tried_first():
    calls = KeeperCalls(Bus(CallTimeout("silent"), controller_a="its own", controller="shared"))
    assert calls.call("controller", "pool", "a") == "its own"
    assert calls.call("controller", "pool", "b") == "shared"


def test_what_the_provisioner_said_last_holds_while_it_is_silent():
    bus = Bus(["a"], controller_a="its own")
    calls = KeeperCalls(bus)
    assert calls.call("provisioner", "keepers") == ["a"]
    bus.dedicated = CallTimeout("silent")
    assert calls.call("provisioner", "keepers") == ["a"]
    bus.dedicated = BrokerUnreachable("gone")
    with pytest.raises(BrokerUnreachable):
        calls.call("provisioner", "keepers")


def test_with_a_provisioner_of_an_older_release_all_is_the_shared_controllers():
    bus = Bus(RemoteError("MethodNotFound", "keepers"), controller="shared")
    assert KeeperCalls(bus).call("controller", "pool", "a") == "shared"
    assert bus.asked == [("controller", "pool")]


@pytest.mark.parametrize("method", ["status", "events", "look"])
def test_what_is_about_a_controller_itself_goes_where_it_was_sent(method: str) -> None:
    bus = Bus(["a"], controller="shared", controller_a="its own")
    calls = KeeperCalls(bus)
    assert calls.call("controller", method) == "shared"
    assert calls.call("controller-a", method) == "its own"


def test_a_freeze_reaches_every_controller_though_one_is_silent_and_says_so():
    bus = Bus(["a", "b"], controller=None, controller_a=CallTimeout("silent"), controller_b=None)
    with pytest.raises(CallTimeout, match="silent"):
        KeeperCalls(bus).call("controller", "freeze", "why")
    frozen = {service for service, _ in bus.asked}
    assert frozen == {"controller", "controller-a", "controller-b"}


def test_where_each_pool_has_its_own_controller_the_shared_one_is_not_missed():
    bus = Bus(["a"], controller_a=None)
    KeeperCalls(bus).call("controller", "freeze", "why")
    assert ("controller-a", "freeze") in bus.asked


def test_where_there_is_no_controller_at_all_a_freeze_fails():
    with pytest.raises(CallFailed):
        KeeperCalls(Bus()).call("controller", "freeze", "why")
