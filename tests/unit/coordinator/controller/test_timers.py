"""Every timer outlives a kill -9: with its memory thrown away and loaded again, the controller
decides the same in each second that follows, and otherwise than one that forgot it.
"""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from agent.messages import InstanceState as S
from coordinator.controller.backoff import BackOff
from coordinator.controller.health import HealthNote, HealthStatus
from coordinator.controller.pool import PoolMemory, Replacement, memory_from_dict, memory_to_dict
from coordinator.controller.rollout_memory import Rollout

NOW = 1_000_000.0


def unhealthy(made):
    made.fail_program(made.running[0])


def silent(made):
    made.silent[made.running[0]] = made.now - 200


def zombie(made):
    node = made.running[0]
    made.to(node, S.TERMINATED)
    made.instances[node] = replace(made.instances[node], state_since=made.now - 500)
    made.signs[node] = {"heard_age": 1.0}


def draining(made):
    made.to(made.running[0], S.DRAINING)


def nothing(made):
    pass


FIRST = "workers-old1-0"
TIMERS = {
    # what is remembered, the pool's keys, how many run, what befalls them
    "cooldown_up": ({"no_growth_until": NOW + 5, "wanted": 2},
                    {"n": 3, "cooldown_up": 60}, 2, nothing),
    "cooldown_down": ({"no_shrinking_until": NOW + 5, "wanted": 3},
                      {"n": 2, "cooldown_down": 60}, 3, nothing),
    "stabilization": ({"wishes": ((NOW - 25, 3),), "wanted": 3},
                      {"n": 2, "stabilization_window": 30}, 3, nothing),
    "back-off": ({"backoff": BackOff(failures=1, waves=1, until=NOW + 5, last_failure=NOW - 1)},
                 {"n": 2}, 1, nothing),
    "brake window": ({"unhealthy": {f"n{i}": NOW - 595 for i in range(9)}}, {"n": 5}, 5, unhealthy),
    "meltdown": ({"unhealthy": {f"n{i}": NOW for i in range(9)}, "meltdown_since": NOW - 595},
                 {"n": 5}, 5, unhealthy),
    "braked": ({"unhealthy": {f"n{i}": NOW for i in range(9)}, "meltdown_since": NOW - 900,
                "braked": (NOW - 595,)}, {"n": 5}, 5, unhealthy),
    "replacements": ({"replacements": {"workers-x": Replacement(based_on=1, count=1)}},
                     {"n": 3}, 3, unhealthy),
    "condemned": ({"condemned": frozenset({FIRST}), "wanted": 2}, {"n": 2}, 2, draining),
    "zombies": ({"zombies": {FIRST: NOW - 115}}, {"n": 2}, 2, zombie),
    "silence": ({"health": {FIRST: HealthNote(status=HealthStatus.OUT_OF_CONTACT, since=NOW - 9,
                                              heard=True)}}, {"n": 2}, 2, silent),
    "rollout": ({"rollout": Rollout(started_at=NOW - 9), "wanted": 2}, {"n": 2}, 2, nothing),
}  # fmt: skip


def done_in(world, memory, section, running, befall, restarted):
    """What ten cycles command and say, the memory stored and loaded before each if so."""
    section = dict(section)
    made = world({"preserve_n": section.pop("n")}, **section)
    made.now = NOW
    made.add(S.RUNNING, running)
    befall(made)
    made.memory = memory
    seen = []
    for _ in range(10):
        if restarted:
            made.memory = memory_from_dict(json.loads(json.dumps(memory_to_dict(made.memory))))
        outcome = made.cycle(apply=False)
        batch = outcome.batch
        commands = () if batch is None else tuple(
            (type(one).__name__, getattr(one, "node_id", ""), getattr(one, "count", 0))
            for one in batch.commands
        )  # fmt: skip
        seen.append((outcome.wanted, commands, outcome.pool_state, outcome.reason))
        made.memory = replace(made.memory, wanted=memory.wanted)  # nothing was carried out
        made.now += 1
    return seen


@pytest.mark.parametrize("timer", TIMERS)
def test_a_restart_in_any_second_decides_the_same_and_an_empty_memory_does_not(world, timer):
    values, section, running, befall = TIMERS[timer]
    case = (section, running, befall)
    memory = PoolMemory(**values)
    kept = done_in(world, memory, *case, restarted=False)
    assert done_in(world, memory, *case, restarted=True) == kept
    forgotten = done_in(world, PoolMemory(), *case, restarted=False)
    assert [one[:2] for one in forgotten] != [one[:2] for one in kept], "the timer matters here"


def test_every_field_of_the_memory_that_holds_a_time_is_such_a_timer_or_no_time_at_all():
    times = {key for values, *_ in TIMERS.values() for key in values}
    no_times = {
        "began", "reason", "engine", "engine_memory", "engine_seen", "counted", "pending",
        "rogues", "brake", "ready_once", "calm", "state", "said", "clouds",
    }  # fmt: skip
    assert times | no_times == set(vars(PoolMemory()))
