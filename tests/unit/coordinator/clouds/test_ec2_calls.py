"""Which call comes next: never two machines for an index, and in the end every index."""

from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.clouds.ec2_calls import (
    Ask,
    CallState,
    Exhausted,
    Resolve,
    RunCall,
    gaps,
    next_step,
)
from coordinator.clouds.ec2_offerings import Market, Offering, Shortages
from coordinator.clouds.ec2_settings import read_machine

PLAIN = read_machine({"image": "i", "type": "a, b"}, {})
SPOT = read_machine({"image": "i", "type": "a, b", "market": "spot", "on_demand_base": "2"}, {})
SPLIT = read_machine({"image": "i", "type": "a, b", "split_batches": "true"}, {})


def call(number, base, count, state, offering=PLAIN.candidates[0]):
    return RunCall(
        number=number, base=base, count=count, offering=offering, state=state, asked_at=0.0
    )


def test_a_batch_is_one_call_for_the_first_offering():
    step = next_step(50, 0, [], PLAIN, Shortages(), 0.0)
    assert step == Ask(number=1, base=0, count=50, offering=Offering(type="a"))


def test_a_call_of_unknown_outcome_comes_before_any_other():
    asked = call(1, 0, 50, CallState.ASKED)
    assert next_step(50, 0, [asked], PLAIN, Shortages(), 0.0) == Resolve(call=asked)


def test_a_call_that_never_arrived_keeps_its_number():
    step = next_step(1, 0, [call(1, 0, 1, CallState.UNSENT)], PLAIN, Shortages(), 0.0)
    assert isinstance(step, Ask) and step.number == 1


def test_the_next_offering_has_a_number_of_its_own():
    shortages = Shortages().after_refusal(Offering(type="a"), 1, "ICE", 0.0)
    step = next_step(1, 0, [call(1, 0, 1, CallState.NOTHING)], PLAIN, shortages, 1.0)
    assert step == Ask(number=2, base=0, count=1, offering=Offering(type="b"))


def test_when_all_is_exhausted_each_offering_is_named():
    shortages = Shortages().after_refusal(Offering(type="a"), 1, "no a", 0.0)
    shortages = shortages.after_refusal(Offering(type="b"), 1, "no b", 0.0)
    step = next_step(1, 0, [], PLAIN, shortages, 1.0)
    assert isinstance(step, Exhausted)
    assert "no a" in step.reasons[0] and "no b" in step.reasons[1]


def test_the_base_on_demand_is_a_call_and_the_rest_of_spot_another():
    first = next_step(10, 2, [], SPOT, Shortages(), 0.0)
    assert first == Ask(number=1, base=0, count=2, offering=Offering(type="a"))
    made = call(1, 0, 2, CallState.MADE)
    second = next_step(10, 2, [made], SPOT, Shortages(), 0.0)
    assert second == Ask(number=2, base=2, count=8, offering=Offering(type="a", market=Market.SPOT))


def test_no_room_on_demand_does_not_keep_spot_waiting():
    shortages = Shortages()
    for kind in "ab":
        shortages = shortages.after_refusal(Offering(type=kind), 2, "ICE", 0.0)
    step = next_step(10, 2, [], SPOT, shortages, 1.0)
    assert isinstance(step, Ask) and (step.base, step.count) == (2, 8)


def test_a_batch_that_may_be_split_is_halved_once_nothing_has_room_for_all():
    shortages = Shortages()
    for kind in "ab":
        shortages = shortages.after_refusal(Offering(type=kind), 50, "ICE", 0.0)
    assert isinstance(next_step(50, 0, [], PLAIN, shortages, 1.0), Exhausted)
    step = next_step(50, 0, [], SPLIT, shortages, 1.0)
    assert step == Ask(number=1, base=0, count=25, offering=Offering(type="a"))


def test_what_was_made_leaves_gaps():
    made = [call(1, 2, 3, CallState.MADE), call(2, 7, 1, CallState.MADE)]
    assert gaps(10, 0, made) == [(0, 2), (5, 7), (8, 10)]
    assert gaps(10, 9, made) == [(0, 2), (5, 7), (8, 9), (9, 10)]


@settings(max_examples=200)
@given(
    count=st.integers(1, 40),
    on_demand=st.integers(0, 5),
    outcomes=st.lists(st.sampled_from(["made", "full", "unsent", "lost"]), max_size=80),
    room=st.integers(0, 40),
)
def test_every_index_is_made_once_however_calls_end(count, on_demand, outcomes, room):
    """A world of tokens: a lost reply may hide that machines were made."""
    machine = read_machine(
        {"image": "i", "type": "a,b", "market": "spot", "on_demand_base": "9",
         "split_batches": "true"}, {},
    )  # fmt: skip
    calls, shortages, now = {}, Shortages(), 0.0
    tokens, world = {}, []

    def run(number, base, size, offering):
        if number in tokens:
            assert tokens[number] == (base, size, offering), "same token, other parameters"
        else:
            tokens[number] = (base, size, offering)
            world.extend(range(base, base + size))

    script = iter(outcomes)
    for _ in range(2000):
        step = next_step(count, on_demand, list(calls.values()), machine, shortages, now)
        if step is None:
            break
        if isinstance(step, Exhausted):
            now += 3000.0
            continue
        if isinstance(step, Resolve):
            one = step.call
            run(one.number, one.base, one.count, one.offering)
            calls[one.number] = call(one.number, one.base, one.count, CallState.MADE, one.offering)
            continue
        how, size = next(script, "made"), step.count
        state = {"made": CallState.MADE, "full": CallState.NOTHING, "unsent": CallState.UNSENT,
                 "lost": CallState.ASKED}[how]  # fmt: skip
        if how == "full" or (how == "made" and size > max(room, 1)):
            state = CallState.NOTHING
            shortages = shortages.after_refusal(step.offering, size, "ICE", now)
        elif how == "made" or (how == "lost" and size % 2):
            run(step.number, step.base, size, step.offering)
        calls[step.number] = call(step.number, step.base, size, state, step.offering)
    assert sorted(world) == list(range(count))
