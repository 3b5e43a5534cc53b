"""Whole cycles in a small world: losses, brake, drains, holds, what is said and remembered."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from agent.messages import InstanceState as S
from agent.messages import InstanceView, NodeSigns
from coordinator.controller.backoff import BackOff
from coordinator.controller.bounds import BOUNDS
from coordinator.controller.brake import BrakeLevel
from coordinator.controller.pool import PoolState
from coordinator.engines.base import Decision


def settled(make, n, **section):
    made = make({"preserve_n": n}, **section)
    made.add(S.RUNNING, n)
    made.step(3)
    assert made.outcomes[-1].pool_state is PoolState.STABLE
    return made


# ---------------------------------------------------------------------- losses


def test_a_vanished_machine_is_replaced_in_the_next_cycle_and_once(world):
    made = settled(world, 3)
    made.vanish(made.running[0])
    assert made.cycle().batch.launches[0].count == 1
    made.step(10)
    assert made.launched == 1
    assert len(made.running) == 3


def test_a_launch_in_the_place_of_a_vanished_machine_names_it(world, pool_spec):
    made = settled(world, 3)
    lost = made.running[0]
    made.vanish(lost)
    (launch,) = made.step().batch.launches
    assert launch.reason == f"{lost} vanished: 2 of 3 wanted are there"
    made.step(10)
    made.spec = pool_spec({"preserve_n": 4})  # what is launched now is not for the lost one
    (launch,) = made.cycle().batch.launches
    assert launch.reason.startswith("preserve_n is 4")


def test_growth_is_not_for_a_machine_that_vanished_when_nobody_wanted_it(world, pool_spec):
    made = settled(world, 3)
    made.spec = pool_spec({"preserve_n": 2})
    (going,) = [one.node_id for one in made.step().batch.drains]
    made.vanish(going)
    made.spec = pool_spec({"preserve_n": 3})
    (launch,) = made.cycle().batch.launches
    assert launch.reason.startswith("preserve_n is 3")


def test_a_launch_for_a_machine_that_a_person_ended_says_how_many_are_there(world):
    made = settled(world, 3)
    made.to(made.running[0], S.TERMINATED, "asked by a person")
    (launch,) = made.cycle().batch.launches
    assert launch.reason.startswith("2 of 3 wanted are there: preserve_n is 3")


def test_a_vanished_machine_is_replaced_while_the_sensors_are_away(world):
    made = settled(world, 1)
    made.sensors = False
    made.vanish(made.running[0])
    outcome = made.cycle()
    assert outcome.batch.launches[0].count == 1
    assert outcome.pool_state is PoolState.HELD


def test_a_silent_worker_is_asked_once_then_replaced_in_timeout_plus_a_cycle(world):
    made = settled(world, 1)
    (lost,) = made.running
    made.silent[lost] = stopped = made.now
    pinged = []
    while not made.launched:
        pinged += made.step().pings
        assert made.now - stopped < 200
    assert pinged == [lost]
    assert made.now - made.tick - stopped <= 120 + 15 + made.tick
    assert made.instances[lost].state in (S.TERMINATING, S.TERMINATED)
    made.step(10)
    assert made.launched == 1


def test_a_silent_worker_that_comes_back_is_left_alone(world):
    made = settled(world, 1)
    (lost,) = made.running
    made.silent[lost] = made.now
    made.step(130)
    del made.silent[lost]
    made.step(300)
    assert made.launched == 0
    assert [e["health"] for e in made.events("node_health")] == ["OUT_OF_CONTACT", "OK"]


def test_an_outage_of_the_sensors_of_any_length_replaces_nobody(world):
    made = settled(world, 3)
    made.tick = 60.0
    made.silent = dict.fromkeys(made.running, made.now)
    made.sensors = False
    made.step(20)
    made.sensors, made.blind = True, True
    made.step(20)
    made.blind, made.observing_since = False, made.now + 30
    made.tick = 1.0
    made.step(20)
    made.silent.clear()
    made.step(5)
    assert made.launched == 0
    assert len(made.running) == 3
    assert made.outcomes[-1].pool_state is PoolState.STABLE


def test_a_failed_side_program_is_drained_and_its_node_never_taken_back(world, pool_spec):
    made = settled(world, 2)
    made.drains_take = 1000
    lost = made.running[0]
    made.fail_program(lost, "side")
    outcome = made.cycle()
    assert [d.node_id for d in outcome.batch.drains] == [lost]
    assert outcome.batch.launches[0].count == 1
    made.step(5)
    made.spec = pool_spec({"preserve_n": 5})
    made.step(5)
    assert made.instances[lost].state is S.DRAINING
    assert len(made.running) == 5
    assert not any(outcome.batch.cancels for outcome in made.outcomes if outcome.batch)


def test_a_failed_worker_program_is_terminated_without_a_drain(world):
    made = settled(world, 1)
    (lost,) = made.running
    made.fail_program(lost)
    assert [t.node_id for t in made.cycle().batch.terminations] == [lost]


def test_boot_failures_are_replaced_once_each_and_back_off(world):
    made = world({"preserve_n": 1}, changes={"boot_fails": True})
    made.step(1800)
    assert made.machines <= 2
    assert 6 <= made.launched <= 10, "5 s doubling: half an hour sees a handful"
    assert made.events("backoff")
    made.boot_fails = False
    made.step(1900)
    assert len(made.running) == 1


def test_machines_that_vanish_before_they_ever_ran_back_off_too(world):
    made = world({"preserve_n": 1})
    for _ in range(600):
        made.step()
        for node_id in made.ids(S.BOOTING):
            made.vanish(node_id)
    assert made.launched <= 9


def test_a_failed_launch_is_counted_once_however_long_its_record_stays(world):
    made = world({"preserve_n": 1})
    made.add(S.LAUNCH_FAILED, 2, wanted_at=made.now - 1, state_since=made.now)
    made.step(30)
    assert made.memory.backoff.failures == 2


def test_back_off_survives_a_restart_of_the_controller(world):
    made = world({"preserve_n": 1}, changes={"launch_fails": True, "speed": 2})
    made.step(30)
    assert made.memory.backoff.seconds_left(made.now) > 0
    # The World stores and loads the memory in every cycle, as a restart does.
    assert made.cycle().batch is None


# ---------------------------------------------------------------------- brake


def fail_programs(made, count):
    for node_id in made.running[:count]:
        made.fail_program(node_id)


@pytest.mark.parametrize(
    ("pool", "failing", "level", "replaced"),
    [(3, 3, "MANAGED", 1), (5, 4, "MANAGED", 1), (20, 4, "MANAGED", 2), (20, 5, "MELTDOWN", 0)],
)
def test_the_brake_lets_only_so_many_go_at_once(world, pool, failing, level, replaced):
    made = settled(world, pool)
    fail_programs(made, failing)
    outcome = made.cycle()
    assert outcome.actions.brake.level.value == level
    assert made.launched == replaced
    assert len(made.ids(S.TERMINATING)) == replaced
    assert len(made.events("brake")) == 1


def test_in_managed_all_are_replaced_one_after_the_other(world):
    made = settled(world, 5)
    fail_programs(made, 4)
    for _ in range(60):
        made.step()
        assert len(made.ids(S.REQUESTED, S.LAUNCHING, S.BOOTING)) <= 1
    assert made.launched == 4
    assert len(made.running) == 5


@pytest.mark.parametrize("surge", [0, 20])
def test_a_worker_and_its_replacement_are_one_of_the_pool_to_the_brake(world, surge):
    """At most 10 of a pool of 100 at once, and 20 of it are a fifth, whatever is replaced."""
    made = settled(world, 100, max_surge=surge)
    for node_id in made.running[:10]:
        made.fail_program(node_id, "side")  # such a one is drained before it goes
    made.drains_take = 1000
    made.step()
    assert len(made.ids(S.DRAINING)) == 10
    made.fail_program(made.running[0])
    made.step(1 if surge else 2)
    assert made.outcomes[-1].actions.brake.at_once == 10
    assert not made.ids(S.TERMINATING), "an eleventh at once"
    for node_id in made.running[:10]:
        made.fail_program(node_id)
    outcome = made.cycle()
    assert outcome.actions.brake.level is BrakeLevel.MELTDOWN, outcome.actions.brake.reason


def test_replacements_that_run_make_no_larger_pool_to_the_brake(world):
    made = settled(world, 100, max_surge=20)
    for node_id in made.running[:10]:
        made.fail_program(node_id, "side")
    made.drains_take = 1000
    made.step(4)
    assert len(made.running) == 100 and len(made.ids(S.DRAINING)) == 10
    for node_id in made.running[:11]:
        made.fail_program(node_id)
    outcome = made.cycle()
    assert outcome.actions.brake.level is BrakeLevel.MANAGED
    assert len(made.ids(S.TERMINATING)) == 10


def test_vanished_machines_are_not_the_brakes_business(world):
    made = settled(world, 20)
    for node_id in made.running[:10]:
        made.vanish(node_id)
    outcome = made.cycle()
    assert outcome.actions.brake.level is BrakeLevel.NORMAL
    assert made.launched == 10


def test_in_a_meltdown_growth_still_works(world, pool_spec):
    made = settled(world, 10)
    fail_programs(made, 5)
    assert made.step().pool_state is PoolState.HELD
    made.spec = pool_spec({"preserve_n": 12})
    made.step()
    assert made.launched == 2
    made.step(20)
    assert made.launched == 2
    assert not made.ids(S.TERMINATING, S.TERMINATED)


def test_an_unhealthy_worker_stays_while_its_successor_can_not_be_launched(world):
    made = settled(world, 2)
    backoff = BackOff(failures=3, waves=3, until=made.now + 20, last_failure=made.now)
    made.memory = replace(made.memory, backoff=backoff)
    made.fail_program(made.running[0])
    outcome = made.cycle()
    assert outcome.batch is None
    assert "no successor can be launched" in outcome.reason
    made.now += 20
    assert len(made.cycle().batch.terminations) == 1


def test_an_unhealthy_worker_stays_while_another_one_is_still_missing(world):
    made = world({"preserve_n": 2}, changes={"launch_fails": True})
    (node_id,) = made.add(S.RUNNING)
    made.step(25)
    assert made.memory.backoff.seconds_left(made.now) > 0
    made.fail_program(node_id)
    outcome = made.cycle()
    assert outcome.batch is None
    assert "1 unhealthy stay" in outcome.reason


def test_a_refused_batch_leaves_no_phantom_replacement_behind(world):
    made = settled(world, 2)
    (lost, other) = made.running
    made.fail_program(lost)
    refused = made.cycle(apply=False)
    assert refused.batch.launches[0].reason == f"replaces {lost}"
    made.version += 1  # something else changed: the provisioner answered conflict
    outcome = made.cycle()
    assert [t.node_id for t in outcome.batch.terminations] == [lost]
    assert made.launched - refused.batch.launches[0].count == 1


# ---------------------------------------------------------------------- surge, cap


def test_without_surge_a_successor_waits_until_the_old_one_is_gone(world):
    made = settled(world, 2, max_surge=0)
    made.fail_program(made.running[0])
    first = made.cycle()
    assert len(first.batch.terminations) == 1
    assert not first.batch.launches
    for _ in range(10):
        made.step()
        assert made.machines <= 2
    assert len(made.running) == 2


def test_without_surge_only_so_many_places_are_empty_at_once(world):
    made = settled(world, 5, max_surge=0)
    made.tick = 0.1
    fail_programs(made, 3)
    for _ in range(60):
        made.step()
        assert len(made.running) >= 4
    assert made.launched == 3


def test_at_the_cap_replacements_exceed_it_by_the_surge_only(world):
    made = settled(world, 3, max=3)
    fail_programs(made, 3)
    for _ in range(60):
        made.step()
        assert made.machines <= 4
    assert len(made.running) == 3


# ---------------------------------------------------------------------- shrinking, growing


def test_shrinking_by_one_drains_exactly_one(world, pool_spec):
    made = settled(world, 3)
    made.spec = pool_spec({"preserve_n": 2})
    made.step(10)
    assert len(made.ids(S.TERMINATED)) == 1
    assert len(made.running) == 2


def test_pending_workers_are_terminated_and_not_drained(world, pool_spec):
    made = settled(world, 2)
    made.add(S.BOOTING)
    outcome = made.cycle()
    assert len(outcome.batch.terminations) == 1
    assert not outcome.batch.drains


def test_draining_workers_are_taken_back_before_anything_is_launched(world, pool_spec):
    made = settled(world, 4)
    made.drains_take = 1000
    made.spec = pool_spec({"preserve_n": 1})
    made.step()
    made.spec = pool_spec({"preserve_n": 5})
    outcome = made.cycle()
    assert len(outcome.batch.cancels) == 3
    assert outcome.batch.launches[0].count == 1


def test_when_all_are_protected_nobody_goes_and_it_is_said_once(world, pool_spec):
    made = world({"preserve_n": 0})
    made.add(S.RUNNING, 2, protected=True)
    made.step(3)
    assert len(made.running) == 2
    assert len(made.events("protected")) == 1


def test_the_pools_bounds_hold_over_the_engine_and_say_why(world):
    made = world({"preserve_n": 9}, min=2, max=4)
    outcome = made.cycle()
    assert outcome.wanted == 4
    sizes = {step.name: step.size for step in outcome.decision.chain}
    assert sizes["engine"] == sizes["hold"] == sizes["min"] == 9
    assert sizes["max"] == sizes["budget"] == 4
    assert "max is 4" in outcome.decision.reason
    assert world({"preserve_n": 0}, min=2).cycle().wanted == 2


def test_removing_a_unique_id_ends_exactly_its_worker(world, pool_spec):
    engine = {"preserve_n": 3, "unique_instances": {"1": {"a": "x"}, "2": {"a": "y"}}}
    made = world(engine)
    made.step(6)
    gone = next(n for n, one in made.instances.items() if one.unique_id == "2")
    made.spec = pool_spec({"preserve_n": 2, "unique_instances": {"1": {"a": "x"}}})
    outcome = made.cycle()
    assert [d.node_id for d in outcome.batch.drains] == [gone]
    assert not outcome.batch.launches


def test_a_tighter_bound_launches_only_as_many_unique_workers_as_it_allows(world):
    made = world({"preserve_n": 2, "unique_instances": {"1": {}, "2": {}}}, max=1)
    made.step(6)
    assert [made.instances[n].unique_id for n in made.running] == ["1"]
    assert made.launched == 1


def test_adding_a_unique_id_swaps_a_plain_worker_for_it(world, pool_spec):
    made = settled(world, 2)
    made.spec = pool_spec({"preserve_n": 2, "unique_instances": {"1": {"a": "x"}}})
    made.step(10)
    ids = sorted(str(made.instances[n].unique_id) for n in made.running)
    assert ids == ["1", "None"]


# ---------------------------------------------------------------------- zombies, rogues


def test_a_zombie_is_terminated_again_and_not_in_every_cycle(world):
    made = settled(world, 1)
    (zombie,) = made.add(S.TERMINATED, state_since=made.now - 500)
    made.signs[zombie] = {"heard_age": 1.0}
    assert [t.node_id for t in made.cycle(apply=False).batch.terminations] == [zombie]
    assert all(made.cycle().batch is None for _ in range(3))
    made.now += 121
    assert [t.node_id for t in made.cycle(apply=False).batch.terminations] == [zombie]
    assert made.events("node_health")[0]["health"] == "ZOMBIE"


def test_a_node_that_no_record_knows_is_said_once_and_left_alone(world):
    made = settled(world, 1)
    made.extra_nodes["stranger"] = NodeSigns(node_id="stranger", heard_age=1.0)
    made.step(3)
    assert [e["node"] for e in made.events("rogue_node")] == ["stranger"]
    assert made.launched == 0


def test_a_node_that_is_gone_and_whose_record_is_dropped_is_no_rogue(world):
    made = settled(world, 1)
    made.extra_nodes["gone"] = NodeSigns(node_id="gone", heard_age=3700.0)
    made.step(3)
    assert made.events("rogue_node") == []


# ---------------------------------------------------------------------- holds


@pytest.mark.parametrize(
    ("hold", "words"),
    [
        ({"frozen": "teardown"}, "teardown"),
        ({"enabled": False}, "disabled"),
        ({"in_flight": True}, "last commands"),
    ],
)
def test_a_held_pool_gets_no_command_but_is_still_watched(world, hold, words):
    made = settled(world, 2)
    made.vanish(made.running[0])
    made.fail_program(made.running[0])
    for name, value in hold.items():
        setattr(made, name, value)
    outcome = made.cycle()
    assert outcome.batch is None
    assert words in outcome.sentence
    assert outcome.counts["unhealthy"] == 1
    if "in_flight" not in hold:
        assert outcome.pool_state is PoolState.HELD


def test_a_pool_is_stable_after_one_whole_calm_cycle(world):
    made = world({"preserve_n": 1})
    made.add(S.RUNNING)
    assert made.step().pool_state is PoolState.PENDING
    assert made.step().pool_state is PoolState.STABLE


def test_a_pool_that_was_disturbed_is_stable_again_after_a_whole_calm_cycle(world):
    made = settled(world, 1)
    states = []
    for sensors in (False, True, True):
        made.sensors = sensors
        states.append(made.step().pool_state)
    assert states == [PoolState.HELD, PoolState.PENDING, PoolState.STABLE]


def test_an_engine_that_holds_sends_nobody_away(world):
    made = world({"preserve_n": 3})
    made.add(S.RUNNING, 2)
    made.add(S.RUNNING, unique_id="1")

    class Holds:
        Settings = dict

        def decide(self, view):
            return Decision(size=0, reason="no data", held=True)

    made.engine = Holds()
    outcome = made.cycle()
    assert outcome.batch is None
    assert outcome.wanted == 3
    assert "nobody goes while data is missing" in outcome.reason


def test_development_shows_a_failure_and_does_not_compensate_it(world):
    made = world({"preserve_n": 2}, development=True)
    made.step(6)
    assert len(made.running) == 2
    made.fail_program(made.running[0])
    made.to(made.running[1], S.TERMINATED, "terminated by a person")
    (failed,) = made.add(S.BOOT_FAILED, reason="check failed")
    before = made.launched
    assert made.step(5).pool_state is PoolState.FAILED
    assert made.instances[failed].state is S.BOOT_FAILED
    assert made.launched == before


def test_ready_once_is_remembered(world):
    made = world({"preserve_n": 1})
    assert not made.step().ready_once
    made.step(5)
    made.vanish(made.running[0])
    assert made.cycle().ready_once


# ---------------------------------------------------------------------- elastic


def test_new_work_takes_the_last_draining_worker_back(elastic):
    made = elastic(supply=1)
    made.drains_take = 1000
    made.queue = (0, 0)
    made.step(2)
    (last,) = made.ids(S.DRAINING)
    made.queue = (1, 0)
    outcome = made.cycle()
    assert [c.node_id for c in outcome.batch.cancels] == [last]
    assert not outcome.batch.launches


def test_a_stale_reading_holds_the_pool_and_says_so(elastic):
    made = elastic(supply=3)
    made.queue, made.stale_by = (0, 0), 30.0
    outcome = made.step(5)
    assert outcome.pool_state is PoolState.HELD
    assert "30 s old" in outcome.reason
    assert len(made.running) == 3


def test_the_pool_grows_and_shrinks_with_the_queue(elastic):
    made = elastic(maximum=4)
    sizes = []
    for ready in [200] * 40 + [0] * 20:
        made.queue = (ready, 0)
        made.step()
        sizes.append(len(made.running))
    assert max(sizes) == 4
    assert sizes[-1] == 0


# ---------------------------------------------------------------------- words


def test_a_calm_cycle_says_that_it_did_nothing_and_changes_no_memory(world):
    made = settled(world, 2)
    before = made.memory
    outcome = made.cycle()
    assert outcome.sentence.startswith("no action: 2 of 2 wanted")
    assert outcome.events == ()
    assert outcome.memory == before, "the shell need not store it again"


def test_an_explanation_is_plain_json_and_has_every_part(elastic):
    made = elastic(supply=5)
    made.queue = (100, 3)
    made.fail_program(made.running[0])
    explained = made.cycle().explanation()
    assert json.loads(json.dumps(explained, allow_nan=False)) == explained
    assert explained["inputs"]["readings"]["queue.jobs.ready"]["value"] == 100
    assert [bound["name"] for bound in explained["bounds"]] == [name for name, _ in BOUNDS]
    assert {c["command"] for c in explained["commands"]} == {
        "LaunchInstances",
        "TerminateInstance",
    }
    assert explained["brake"]["level"] == "MANAGED"
    assert explained["why_not_more"]
    assert explained["why_not_fewer"]


def test_why_not_more_names_the_bound_and_the_back_off(world):
    made = world({"preserve_n": 9}, max=2, changes={"launch_fails": True})
    made.step(4)
    said = " / ".join(made.cycle().explanation()["why_not_more"])
    assert "9 are wished for, but max is 2" in said
    assert "launches wait" in said


def test_a_held_cycle_explains_itself_too(world):
    made = world({"preserve_n": 1}, changes={"frozen": "teardown"})
    explained = made.cycle().explanation()
    assert explained["why_not_more"] == ["nothing is decided: frozen: teardown"]
    assert explained["commands"] == []


def test_commands_carry_what_the_provisioner_needs(world):
    made = world({"preserve_n": 1}, clouds=["there"], variables={"v": "1"}, drain_timeout=7)
    batch = made.cycle().batch
    (launch,) = batch.launches
    assert batch.based_on == 1
    assert launch.cloud == "there"
    assert launch.variables == {"v": "1"}
    assert launch.role == made.spec.role
    assert launch.launch_id.startswith("workers-")
    ids = [batch.batch_id, launch.launch_id, *(c.command_id for c in batch.commands)]
    assert not any("." in one for one in ids)


def test_who_a_person_lets_drain_is_replaced_and_not_taken_back(world):
    made = world({"preserve_n": 2})
    made.add(S.RUNNING, 1)
    made.add(S.DRAINING, 1, by_person=True)
    batch = made.cycle().batch
    assert not batch.cancels and [launch.count for launch in batch.launches] == [1]


# ---------------------------------------------------------------------- very many


@pytest.mark.parametrize("state", [S.BOOTING, S.RUNNING, S.DRAINING])
def test_no_cycle_compares_every_worker_with_every_other(world, monkeypatch, state):
    """Of ten thousand that start, each cycle took more than ten seconds."""
    many, compared = 300, 0
    made = world({"preserve_n": many - 5}, max=many, max_surge=10)
    made.add(state, many, start_step="enrolled" if state is S.BOOTING else "")
    same = InstanceView.__eq__

    def counted(one, other):
        nonlocal compared
        compared += 1
        return same(one, other)

    monkeypatch.setattr(InstanceView, "__eq__", counted)
    made.step(2)
    assert compared <= 10 * many
