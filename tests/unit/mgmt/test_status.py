"""What ``management`` composes from the components' answers."""

from __future__ import annotations

from typing import Any

import pytest

from agent.messages import InstanceState, InstanceView, PoolSnapshot
from agent.rpc_client import CallTimeout, RemoteError, UnknownService
from agent.wire import to_wire
from coordinator.errors import ConfigProblem, NotFound, VersionConflict
from mgmt import status
from mgmt.answers import as_named, ask, gather


def pool(name: str = "sleeper", **other: Any) -> dict[str, Any]:
    return {
        "name": name,
        "state": "STABLE",
        "reason": "as wanted",
        "wanted": 1,
        "engine": {"type": "n_preserving", "preserve_n": 1},
        "min": 0,
        "max": 8,
        "section": {"engine": {}},
        "instances": [{"node_id": "l-0", "health": "OK", "busy": True}],
        **other,
    }


def instance(node_id: str, state: InstanceState, pool_name: str = "sleeper") -> InstanceView:
    launch_id, _, index = node_id.rpartition("-")
    return InstanceView(
        node_id=node_id,
        launch_id=launch_id,
        index=int(index),
        pool=pool_name,
        cloud="here",
        template="worker",
        state=state,
        wanted_at=100.0,
        state_since=130.0,
        reason="why not",
    )


class Components:
    """Services as dicts of answers; a CallFailed or an exception as answer is raised."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.asked: list[tuple[Any, ...]] = []

    def __call__(self, service: str, method: str, *args: Any, timeout: float) -> Any:
        self.asked.append((service, method, *args))
        answer = self.answers[f"{service}_{method}"]
        if callable(answer):
            answer = answer(*args)
        if isinstance(answer, Exception):
            raise answer
        if method == "pools" and args == (False,):  # lines for a list
            return [
                {k: v for k, v in p.items() if k not in ("instances", "section")} for p in answer
            ]
        return answer

    def pool(self, name: str) -> Any:
        """As the controller finds one of its pools."""
        pools = self("controller", "pools", timeout=1.0)
        found = [one for one in pools if one["name"] == name]
        return found[0] if found else NotFound(f"no pool '{name}'")


def system(**other: Any) -> Components:
    snapshot = PoolSnapshot(
        pool="sleeper",
        version=3,
        epoch=1,
        now=142.0,
        instances=(
            instance("l-0", InstanceState.RUNNING),
            instance("l-1", InstanceState.TERMINATED),
        ),
    )
    answers: dict[str, Any] = {
        "provisioner_keepers": [],
        "controller_pools": [pool("sleeper"), pool("batch", instances=[])],
        "controller_status": {"frozen": False},
        "controller_reconfigure": lambda name, changes: {"name": name, "changed": changes},
        "provisioner_progress": {"clouds": {}, "remaining": [], "done": False},
        "provisioner_status": {"nodes": 1},
        "provisioner_live_nodes": [{"node_id": "l-0", "pool": "sleeper"}],
        "provisioner_snapshots": lambda wanted: {
            name: to_wire(snapshot)
            if name == "sleeper"
            else to_wire(PoolSnapshot(pool=name, version=1, epoch=1, now=142.0))
            for name in wanted
        },
        "sensors_status": {"blind": False},
        "registrar_status": {"enrolled": 1},
    }
    components = Components(**{**answers, **other})
    components.answers["controller_pool"] = components.pool
    return components


def with_own_controllers(**other: Any) -> Components:
    """Two pools, each with its own controller and sensors, and nobody who keeps others."""
    nobody = UnknownService("nobody")
    return system(**{
        "provisioner_keepers": ["sleeper", "batch"],
        "controller_pools": nobody, "controller_status": nobody, "sensors_status": nobody,
        "controller-sleeper_pools": [pool("sleeper")],
        "controller-batch_pools": [pool("batch", instances=[])],
        **{f"{name}-{each}_status": {"frozen": None, "blind": False}
           for name in ("controller", "sensors") for each in ("sleeper", "batch")},
        **other,
    })  # fmt: skip


def test_pools_of_several_controllers_are_one_system_in_which_nobody_misses_a_shared_one():
    found = status.system_status(with_own_controllers())
    assert (found["missing"], found["problems"]) == ({}, [])
    assert sorted(found["components"]) == [
        "controller-batch", "controller-sleeper", "provisioner", "registrar",
        "sensors-batch", "sensors-sleeper",
    ]  # fmt: skip
    assert status.pools(with_own_controllers()) == {
        "pools": sorted(found["pools"], key=lambda each: str(each["name"])),
        "missing": {},
    }
    [row] = status.nodes(with_own_controllers(), "sleeper")["nodes"]
    assert row["health"] == "OK"


def test_a_dead_controller_of_one_pool_is_named_and_the_others_pools_are_told():
    silent = CallTimeout("no answer")
    dead = {"controller-batch_pools": silent, "controller-batch_status": silent}
    found = status.system_status(with_own_controllers(**dead))
    assert found["missing"] == {"controller-batch": "no answer"}
    assert [each["name"] for each in found["pools"]] == ["sleeper"]
    told = status.pools(with_own_controllers(**dead))
    assert [each["name"] for each in told["pools"]] == ["sleeper"]
    assert told["missing"] == {"controller-batch": "no answer"}


def test_what_a_pools_own_controller_says_of_it_is_more_than_what_a_shared_one_remembers():
    left_over = [pool("sleeper", state="HELD", reason="it has a controller of its own")]
    found = status.pools(with_own_controllers(controller_pools=left_over))
    assert [each["state"] for each in found["pools"]] == ["STABLE", "STABLE"]


def test_a_healthy_system_has_no_problems():
    found = status.system_status(system())
    assert found["problems"] == []
    assert found["missing"] == {}
    assert [one["name"] for one in found["pools"]] == ["sleeper", "batch"]
    assert "instances" not in found["pools"][0]


def test_a_silent_component_is_named_and_asked_only_once():
    gone = UnknownService("nobody answers for 'controller'")
    components = system(controller_pools=gone, controller_status=gone)
    found = status.system_status(components)
    assert found["missing"] == {"controller": "nobody answers for 'controller'"}
    assert "controller" not in found["components"]
    assert found["problems"] == ["controller does not answer: nobody answers for 'controller'"]
    assert [asked for asked in components.asked if asked[0] == "controller"] == [
        ("controller", "pools", False)
    ]


def test_a_held_pool_and_a_cloud_in_trouble_are_problems():
    found = status.system_status(
        system(
            controller_pools=[pool(state="HELD", reason="no reading")],
            provisioner_progress={"clouds": {"west": {"problem": "credentials rejected"}}},
        )
    )
    assert found["problems"] == [
        "pool sleeper is HELD: no reading",
        "cloud west: credentials rejected",
    ]


def test_pools_are_sorted_by_name():
    assert [one["name"] for one in status.pools(system())["pools"]] == ["batch", "sleeper"]


def test_an_unknown_pool_gets_the_nearest_name():
    with pytest.raises(NotFound, match="no pool 'sleper'; did you mean 'sleeper'"):
        status.pool(system(), "sleper")


def test_without_any_pool_the_error_says_so():
    with pytest.raises(NotFound, match="there are no pools"):
        status.pool(system(controller_pools=[]), "x")


def test_setting_n_is_a_reconfiguration_of_the_engine():
    found = status.change_size(system(), "sleeper", 3)
    assert found == {"name": "sleeper", "changed": {"engine.preserve_n": 3}}


def test_the_size_of_an_elastic_pool_is_not_set_by_hand():
    elastic = pool(engine={"type": "queue_length", "queue": "work"})
    components = system(controller_pools=[elastic])
    with pytest.raises(ConfigProblem, match="queue_length.*epu pool reconfigure sleeper min"):
        status.change_size(components, "sleeper", 3)
    assert ("controller", "reconfigure") not in [asked[:2] for asked in components.asked]


def test_n_beyond_the_bounds_is_refused_instead_of_silently_cut():
    with pytest.raises(ConfigProblem, match="between min 0 and max 8, not 9"):
        status.change_size(system(), "sleeper", 9)


def test_reconfiguring_an_unknown_pool_gets_the_nearest_name():
    components = system(controller_reconfigure=RemoteError("NotFound", "no pool 'sleper'"))
    with pytest.raises(NotFound, match="did you mean 'sleeper'"):
        status.reconfigure(components, "sleper", {"max": 3})


def test_an_illegal_setting_comes_back_as_the_controller_said_it():
    components = system(controller_reconfigure=RemoteError("ConfigProblem", "maks: unknown key"))
    with pytest.raises(ConfigProblem, match="maks: unknown key"):
        status.reconfigure(components, "sleeper", {"maks": 3})


def test_a_node_is_its_record_and_the_controllers_judgement():
    found = status.nodes(system())
    assert [node["node_id"] for node in found["nodes"]] == ["l-0"]
    node = found["nodes"][0]
    assert (node["state"], node["health"], node["busy"]) == ("RUNNING", "OK", True)
    assert (node["state_age"], node["age"]) == (12.0, 42.0)
    assert node["reason"] == "why not"


def test_nodes_that_are_gone_are_listed_on_request():
    found = status.nodes(system(), every=True)
    assert [node["state"] for node in found["nodes"]] == ["RUNNING", "TERMINATED"]


def test_nodes_are_listed_without_health_while_the_controller_is_away():
    found = status.nodes(system(controller_pools=CallTimeout("no answer")))
    assert [(node["node_id"], node["health"]) for node in found["nodes"]] == [("l-0", None)]
    assert found["missing"] == {"controller": "no answer"}


def test_nodes_of_a_pool_that_is_removed_are_still_listed():
    found = status.nodes(system(controller_pools=[]), "sleeper")
    assert [node["node_id"] for node in found["nodes"]] == ["l-0"]


def test_nodes_of_an_unknown_pool_are_an_error_and_not_an_empty_list():
    with pytest.raises(NotFound, match="did you mean 'batch'"):
        status.nodes(system(), "bach")


def test_nodes_need_the_provisioner():
    with pytest.raises(UnknownService):
        status.nodes(system(provisioner_live_nodes=UnknownService("nobody")))


def test_errors_of_the_other_side_come_back_as_their_own_class():
    assert isinstance(as_named(RemoteError("VersionConflict", "old")), VersionConflict)
    assert isinstance(as_named(RemoteError("UnknownService", "away")), UnknownService)
    unknown = RemoteError("KeyError", "'x'")
    assert as_named(unknown) is unknown
    # The name of a class that is no error of ours must not be instantiated.
    for harmless in ("Problem", "did_you_mean", "RpcClient", "RemoteError"):
        assert type(as_named(RemoteError(harmless, "x"))) is RemoteError


def test_one_failing_method_does_not_hide_the_other_components():
    components = Components(
        provisioner_status=RemoteError("InsufficientCapacity", "full"), sensors_status={"a": 1}
    )
    found = gather(components, [("provisioner", "status", ()), ("sensors", "status", ())])
    assert found.answers == {"sensors.status": {"a": 1}}
    assert found.missing == {"provisioner": "full"}


def test_ask_hands_its_deadline_on():
    seen = []
    ask(lambda *args, timeout: seen.append(timeout), "sensors", "status", timeout=1.5)
    assert seen == [1.5]
