"""Three kinds of token: who becomes a worker, who an adopted one, and who only a node."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from agent.messages import UNASSIGNED, EnrolRequest, ReadyReport, StartReport, StartStep
from coordinator.enrolment_token import TokenRejected, mint, mint_base, mint_pool
from coordinator.errors import ConfigProblem, NotFound
from coordinator.registrar.enrolment import EnrolmentRefused
from tests.unit.coordinator.registrar.test_enrolment import KEY, World, request


@pytest.fixture
def world() -> World:
    return World()


def adopted(world: World, nonce: str = "n1", uses: int = 2, **more: Any) -> EnrolRequest:
    token = mint_pool(KEY, "run", "p-a1", "p", uses, 100.0)
    return request(token=token, launch="p-a1", index=UNASSIGNED, nonce=nonce, **more)


def base(nonce: str = "n1", launch: str = "broker-1", index: int = 0) -> EnrolRequest:
    token = mint_base(KEY, "run", launch, 100.0)
    return request(token=token, launch=launch, index=index, nonce=nonce)


# ------------------------------------------------------------------ adopted workers


def test_machines_with_a_pools_token_become_workers_one_after_the_other(world: World) -> None:
    first = world.registrar.enrol(adopted(world, "n1"))
    second = world.registrar.enrol(adopted(world, "n2"))
    assert [first.node_id, second.node_id] == ["p-a1-0", "p-a1-1"]
    assert first.pool == "p" and first.role.work_queues == ("jobs",)
    assert set(world.accounts.made) == {"p-a1-0", "p-a1-1"}
    assert "adopted" in world.events.read()[0].reason


def test_the_same_machine_comes_again_as_the_same_worker_and_takes_no_second_use(
    world: World,
) -> None:
    first = world.registrar.enrol(adopted(world, uses=1))
    world.now = 10_000.0  # the token is old: it only lets in those that are in
    assert world.registrar.enrol(adopted(world, uses=1)).node_id == first.node_id


def test_a_token_that_is_used_up_lets_nobody_in_and_says_so(world: World) -> None:
    world.registrar.enrol(adopted(world, "n1", uses=1))
    with pytest.raises(EnrolmentRefused, match="used up: 1 machines"):
        world.registrar.enrol(adopted(world, "n2", uses=1))
    refused = world.events.read()[-1]
    assert refused.name == "enrolment_refused" and refused.pool == "p"
    assert set(world.accounts.made) == {"p-a1-0"}


def test_a_pools_token_expires_for_newcomers(world: World) -> None:
    world.now = 101.0
    with pytest.raises(TokenRejected, match="expired"):
        world.registrar.enrol(adopted(world))


def test_a_pool_that_is_not_kept_any_more_adopts_nobody(world: World) -> None:
    world.pools = {}
    with pytest.raises(EnrolmentRefused, match="no pool 'p' any more"):
        world.registrar.enrol(adopted(world))
    assert not world.accounts.made


def test_a_teardown_adopts_nobody(world: World) -> None:
    world.adopting = False
    with pytest.raises(EnrolmentRefused, match="REJECTED"):
        world.registrar.enrol(adopted(world))
    assert not world.accounts.made


def test_a_worker_that_was_let_go_does_not_come_back_by_itself(world: World) -> None:
    world.registrar.enrol(adopted(world))
    world.states["p-a1-0"] = "TERMINATED"
    with pytest.raises(EnrolmentRefused, match="not wanted any more"):
        world.registrar.enrol(adopted(world))


# ------------------------------------------------------------------ base nodes


def test_a_base_node_gets_an_account_and_no_pool_and_the_provisioner_hears_nothing(
    world: World,
) -> None:
    answer = world.registrar.enrol(base())
    assert (answer.node_id, answer.pool) == ("broker-1-0", "_base")
    assert answer.role.programs == {} and answer.role.work_queues == ()
    assert world.enrolled == [] and set(world.accounts.made) == {"broker-1-0"}
    assert world.registrar.ready(ReadyReport(node_id="broker-1-0", ok=True, nonce="n1"))
    assert world.reported == []


def test_the_account_of_a_base_node_stays_until_it_is_dismissed(world: World) -> None:
    world.registrar.enrol(base())
    world.registrar.enrol(request())
    world.states["l-0"] = "TERMINATED"
    assert world.registrar.sweep() == ["l-0"]
    world.registrar.dismiss("l-1")  # not one of its kind
    world.registrar.dismiss("broker-1-0")
    assert not world.accounts.made


def test_a_base_token_makes_no_worker_and_takes_no_workers_place(world: World) -> None:
    with pytest.raises(EnrolmentRefused, match="is a worker"):
        world.registrar.enrol(base(launch="l"))
    assert not world.accounts.made


def test_another_nonce_on_a_base_node_is_refused(world: World) -> None:
    world.registrar.enrol(base("n1"))
    with pytest.raises(EnrolmentRefused, match="another machine"):
        world.registrar.enrol(base("n2"))


# ------------------------------------------------------------------ no token for another


def test_no_kind_of_token_passes_for_another(world: World) -> None:
    launch, pool = mint(KEY, "run", "l", 100.0), mint_pool(KEY, "run", "l", "p", 9, 100.0)
    own = mint_base(KEY, "run", "l", 100.0)
    disguised = [
        own.removeprefix("base."),  # base as launch
        f"base.{launch}",
        f"pool.p.9.{launch}",
        pool.removeprefix("pool.p.9."),
        pool.replace(".9.", ".99."),
        pool.replace("pool.p.", "pool.q."),
    ]
    for token in disguised:
        for index in (0, UNASSIGNED):
            with pytest.raises(TokenRejected):
                world.registrar.enrol(request(token=token, launch="l", index=index))
    assert not world.accounts.made


@pytest.mark.parametrize("index", [0, 7])
def test_a_pools_token_chooses_the_index_itself(world: World, index: int) -> None:
    with pytest.raises(TokenRejected, match="this index"):
        world.registrar.enrol(replace(adopted(world), index=index))
    with pytest.raises(TokenRejected, match="this index"):
        world.registrar.enrol(request(index=UNASSIGNED))


# ------------------------------------------------------------------ what a machine claims


def test_a_machine_that_its_cloud_calls_otherwise_is_refused_with_an_event(world: World) -> None:
    world.cloud_ids["l-0"] = "i-right"
    with pytest.raises(EnrolmentRefused, match="calls it i-wrong"):
        world.registrar.enrol(request(cloud_id="i-wrong"))
    assert "i-right" in world.events.read()[-1].reason
    assert world.registrar.enrol(request(cloud_id="i-right")).node_id == "l-0"


def test_a_claim_is_passed_on_while_nobody_knows_better(world: World) -> None:
    steps = (StartStep(name="config", detail="read"), StartStep(name="broker", detail="away"))
    world.registrar.enrol(request(cloud_id="i-claimed", steps=steps))
    assert world.claims["l-0"] == ("i-claimed", "config: read; broker: away")


def test_a_step_is_passed_on_only_from_the_machine_itself(world: World) -> None:
    world.registrar.enrol(request())
    step = StartStep(name="check http", detail="failing: it answers 500")
    world.registrar.starting(StartReport(node_id="l-0", step=step, nonce="n1"))
    assert world.steps == [("l-0", "check http", "failing: it answers 500")]
    with pytest.raises(EnrolmentRefused):
        world.registrar.starting(StartReport(node_id="l-0", step=step, nonce="stolen"))
    assert len(world.steps) == 1


# ------------------------------------------------------------------ minting


def test_a_token_that_is_made_works_and_is_in_no_event(world: World) -> None:
    made = world.registrar.pool_token("p", 40.0, 1)
    config = made["agent_config"]
    assert config["token"] == made["token"] and set(config["broker"]["accounts"]) == {"enrol"}
    assert config["broker"]["management_url"] is None
    wanted = request(token=made["token"], launch=made["launch_id"], index=UNASSIGNED)
    assert world.registrar.enrol(wanted).node_id == f"{made['launch_id']}-0"
    told = [event for event in world.events.read() if event.name == "token_created"]
    assert len(told) == 1 and made["token"] not in repr(world.events.read())


def test_a_base_token_that_is_made_works(world: World) -> None:
    made = world.registrar.base_token("broker-1", 40.0)
    assert world.registrar.enrol(request(token=made["token"], launch="broker-1")).pool == "_base"


def test_an_absurd_wish_for_a_token_names_its_key(world: World) -> None:
    with pytest.raises(NotFound, match="no pool 'q'"):
        world.registrar.pool_token("q", 40.0, 1)
    with pytest.raises(ConfigProblem, match="expires.*90 days") as found:
        world.registrar.pool_token("p", 1e9, 0)
    assert [problem.key for problem in found.value.problems] == ["expires", "uses"]
    with pytest.raises(ConfigProblem, match="launch_id"):
        world.registrar.base_token("a.b", 40.0)
