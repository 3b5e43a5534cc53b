"""What must always hold (``I1`` … ``I12``), each a sentence and a small function. PURE.

Each takes the facts of one moment and names what breaks it. Two are not judged here: I9
speaks of the boot tool's levels, which no pool has, and I10 (settling) is judged at the end of
a history, by ``settling``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping

from agent.messages import DrainInstance, InstanceState, TerminateInstance
from coordinator.pool_values import PoolSpec
from coordinator.simulation.facts import Decided, Facts, Moved, Sized

S = InstanceState
Invariant = Callable[[Facts], Iterator[str]]

#: The spec's table, written down once more on purpose: a change of the product's own table
#: must be noticed.
_EDGES: dict[InstanceState | None, set[InstanceState]] = {
    None: {S.REQUESTED, S.REJECTED, S.LAUNCH_FAILED, S.TERMINATED, S.BOOTING},
    S.REQUESTED: {S.LAUNCHING, S.LAUNCH_FAILED, S.TERMINATED, S.REJECTED},
    S.LAUNCHING: {S.BOOTING, S.LAUNCH_FAILED, S.TERMINATING, S.TERMINATED},
    S.BOOTING: {S.RUNNING, S.BOOT_FAILED, S.TERMINATING, S.TERMINATED},
    S.RUNNING: {S.DRAINING, S.TERMINATING, S.TERMINATED},
    S.DRAINING: {S.RUNNING, S.TERMINATING, S.TERMINATED},
    S.BOOT_FAILED: {S.TERMINATING, S.TERMINATED},
    S.TERMINATING: {S.TERMINATED},
    S.TERMINATED: set(),
    S.LAUNCH_FAILED: set(),
    S.REJECTED: set(),
}
#: Reasons that begin so end a worker at once: it is silent, or what works on it has failed.
_AT_ONCE = ("MISSING", "ZOMBIE", "PROCESS_ERROR", "vanished")
_UNHEALTHY = ("MISSING", "ZOMBIE", "PROCESS_ERROR", "MONITOR_ERROR")
#: And so does a drain that a rollout asks for.
ROLLOUT = "rollout: "
#: A decision may be so much later than the readings it was made on, s: calls take time.
SLACK = 12.0
#: And so much later at most than the readings were handed to it, s: another pool's commands
#: may be sent in between.
UNDER_WAY = 15.0


def every_machine_has_its_intent(facts: Facts) -> Iterator[str]:
    """I1: a machine of ours was an intent in store before it was a machine, and none leaks."""
    for machine in facts.machines:
        if machine.ours and machine.node_id not in facts.records:
            yield f"machine {machine.cloud_id} ({machine.node_id}) has no record"
    for cloud_id, seconds in facts.orphaned.items():
        if seconds > facts.patience:
            yield f"machine {cloud_id} runs for {seconds:.0f} s though its record is at its end"


def never_more_than_cap_and_surge(facts: Facts) -> Iterator[str]:
    """I2: machines of a pool never exceed its cap and surge, nor their price its budget.

    Not those that people boot: they join unasked, and cost nobody here anything.
    """
    count: Counter[str] = Counter()
    cost: dict[str, float] = {}
    for record in facts.records.values():
        if not record.final and not record.adopted:
            spec = facts.specs.get(record.pool)
            unknown = spec.rules.machine_price if spec is not None else None
            count[record.pool] += 1
            price = record.price if record.price is not None else unknown or 0.0
            cost[record.pool] = cost.get(record.pool, 0.0) + price
    for pool, cap in facts.caps.items():
        if count[pool] > cap:
            yield f"pool {pool} has {count[pool]} machines, more than {cap}"
    for pool, budget in facts.budgets.items():
        if cost.get(pool, 0.0) > budget + 1e-6:
            yield f"pool {pool} costs {cost[pool]:g} $/h, more than {budget:g}"


def no_busy_worker_goes_before_its_deadline(facts: Facts) -> Iterator[str]:
    """I3: a busy worker is ended only by its drain's deadline, MISSING and ZOMBIE excepted.

    So is one whose agent hung while it booted: its silence is what its boot failed by.
    """
    for one in facts.moved:
        if one.to is S.TERMINATING and one.busy and not _may_go_busy(one, facts):
            yield (
                f"{one.node_id} had a job in hand when it went from "
                f"{one.before and one.before.value} to TERMINATING: {one.reason}"
            )


def _may_go_busy(one: Moved, facts: Facts) -> bool:
    if facts.teardown_at_once or one.reason.startswith(_AT_ONCE):
        return True
    if one.before is S.BOOT_FAILED and one.mute:
        return True
    if one.before is S.DRAINING and one.deadline is not None:
        return one.at >= one.deadline
    return False


def one_intent_is_at_most_one_machine(facts: Facts) -> Iterator[str]:
    """I4: no intent ever became two machines."""
    made = Counter(machine.node_id for machine in facts.machines if machine.ours)
    for node_id, count in made.items():
        if count > 1:
            yield f"{node_id} was made {count} times"


def what_ended_never_comes_back(facts: Facts) -> Iterator[str]:
    """I5: nothing leaves a final state, and what shall end never serves again."""
    for one in facts.moved:
        if one.before is not None and not _EDGES[one.before]:
            yield f"{one.node_id} came back from {one.before.value} to {one.to.value}"
        if one.before is S.TERMINATING and one.to is not S.TERMINATED:
            yield f"{one.node_id} came back from TERMINATING to {one.to.value}"


def a_rollout_keeps_what_it_promised(facts: Facts) -> Iterator[str]:
    """I6: while a rollout runs, at least the promised number of workers is well."""
    for one in facts.moved:
        if one.reason.startswith(ROLLOUT) and one.left < one.promised:
            yield (
                f"{one.node_id} was sent away by a rollout, and {one.left} well workers of pool "
                f"{one.pool} are left, not {one.promised}"
            )


def promised(spec: PoolSpec, memory: Mapping[str, object]) -> int:
    """How many workers a rollout leaves well: the wanted size, or the minimum where an old one
    has to go first (no surge; unique ids, of which there are never two).
    """
    if spec.max_surge == 0 or spec.engine.get("unique_instances"):
        return spec.min if not spec.rules.schedule else 0
    return _size(memory)


def holds_and_brakes_hold(facts: Facts) -> Iterator[str]:
    """I7: nothing is done for a held or braked pool, except what the hold allows."""
    for one in facts.decided:
        hold = one.spec.rules.hold
        ends: list[TerminateInstance | DrainInstance] = [*one.batch.terminations, *one.batch.drains]
        replaced = [end for end in ends if end.reason.startswith(_UNHEALTHY)]
        if hold is not None and hold.recommend_only:
            yield f"pool {one.pool} only recommends, and was commanded {one.batch.batch_id}"
        if one.spec.rules.suspends("replace") and _unhealthy_served(replaced):
            yield f"replace is suspended, and {replaced[0].node_id} was ended"
        if one.spec.rules.suspends("scale_in") and _size(one.memory) < _size(one.before):
            yield f"scale_in is suspended, and {_size(one.memory)} are wanted"
        if one.spec.rules.suspends("scale_out") and _grew(one):
            yield f"scale_out is suspended, and {_size(one.memory)} are wanted"
        since = one.memory.get("meltdown_since")
        if one.memory.get("brake") == "MELTDOWN" and since is not None:
            early = 0 <= one.now - since < 600.0
            if early and _unhealthy_served(replaced):
                yield f"MELTDOWN since {one.now - since:.0f} s, and {replaced[0].node_id} goes"


def _unhealthy_served(ends: list[TerminateInstance | DrainInstance]) -> bool:
    """Zombies are no workers: no brake holds them."""
    return any(not end.reason.startswith("ZOMBIE") for end in ends)


def _size(memory: Mapping[str, object]) -> int:
    wanted = memory.get("wanted")
    return wanted if isinstance(wanted, int) else 0


def _grew(one: Decided) -> bool:
    return one.before.get("wanted") is not None and _size(one.memory) > _size(one.before)


def every_change_is_in_the_table(facts: Facts) -> Iterator[str]:
    """I8: every state change is in the table."""
    for one in facts.moved:
        if one.to not in _EDGES[one.before]:
            yield f"{one.node_id} went from {one.before and one.before.value} to {one.to.value}"


def others_are_left_alone(facts: Facts) -> Iterator[str]:
    """I11: machines that are not ours are never touched."""
    for cloud_id in facts.foreign_ended:
        yield f"{cloud_id} is not ours, and was ended"


def scale_in_redelivers_nothing(facts: Facts) -> Iterator[str]:
    """I12: a job goes back to its queue for a failure or a deadline, never for scale-in."""
    for one in facts.redelivered:
        if one.cause == "scale-in":
            yield f"the job of {one.node_id} was given to another because it was scaled in"


def nobody_is_condemned_blind(facts: Facts) -> Iterator[str]:
    """Blindness: MISSING is only who could have been heard and was not, for long enough."""
    for one in facts.decided:
        for end in one.batch.terminations:
            if not end.reason.startswith("MISSING"):
                continue
            if not one.sees:
                yield f"{end.node_id} was called MISSING while the sensors were blind"
            silent = one.unheard.get(end.node_id, 0.0)
            least = one.spec.health.missing_timeout - SLACK
            if silent < least:
                yield f"{end.node_id} was called MISSING after {silent:.0f} s of silence"


def no_size_follows_an_old_reading(facts: Facts) -> Iterator[str]:
    """Staleness: no pool grows or shrinks by what was really read or heard too long ago."""
    for one in facts.sized:
        if one.reading_age is None or one.allowed is None:
            continue
        if one.reading_age <= one.allowed + UNDER_WAY or _forced(one):
            continue
        if one.wanted < one.was or one.launched:
            yield (
                f"pool {one.pool} goes from {one.was} to {one.wanted} on a reading of "
                f"{one.reading_age:.0f} s ago, not {one.allowed:.0f}: {one.reason}"
            )


def _forced(one: Sized) -> bool:
    """Whether a bound that a person set moved the size, not what the engine saw."""
    rules, engine = one.spec.rules, one.spec.engine
    if rules.budget is not None:
        return True  # it moves with prices
    override = {rules.override.size} if rules.override is not None else set()
    caps: set[object] = {one.spec.max, engine.get("max_instances"), *override}
    caps |= {entry.max for entry in rules.schedule}
    steady = [part.get("preserve_n") for part in engine.get("engines", {}).values()]
    floors: set[object] = {one.spec.min, engine.get("min_instances"), *steady, *override}
    floors |= {entry.min for entry in rules.schedule}
    # A minimum stands above a person's size, and a maximum above both.
    if one.wanted < one.was:
        beneath = any(size < one.wanted for size in override)
        return one.wanted in caps or (one.wanted in floors and beneath)
    beyond = any(isinstance(floor, int) and floor > one.wanted for floor in floors)
    return one.wanted in floors or (one.wanted in caps and beyond)


def the_floor_is_kept(facts: Facts) -> Iterator[str]:
    """Bounds: never fewer than ``min`` nor more than ``max`` are wanted."""
    for one in facts.decided:
        rules, wanted = one.spec.rules, one.memory.get("wanted")
        limited = rules.hold is not None or rules.budget is not None or rules.schedule
        if not isinstance(wanted, int) or limited:
            continue
        if wanted < one.spec.min:
            yield f"pool {one.pool} wants {wanted}, fewer than min {one.spec.min}"
        if wanted > one.spec.max:
            yield f"pool {one.pool} wants {wanted}, more than max {one.spec.max}"


def redelivery_cause(ended: Moved | None, at_once: bool) -> str:
    """Why the job of a node that we ended went back to its queue."""
    if ended is None or at_once:
        return "teardown"
    if ended.reason.startswith(_AT_ONCE) or ended.to is S.TERMINATED:
        return "failure"
    if ended.before is S.DRAINING and ended.deadline is not None and ended.at >= ended.deadline:
        return "deadline"
    if ended.before is S.BOOT_FAILED:
        return "boot failed"
    return "scale-in"


INVARIANTS: dict[str, Invariant] = {
    "I1": every_machine_has_its_intent,
    "I2": never_more_than_cap_and_surge,
    "I3": no_busy_worker_goes_before_its_deadline,
    "I4": one_intent_is_at_most_one_machine,
    "I5": what_ended_never_comes_back,
    "I6": a_rollout_keeps_what_it_promised,
    "I7": holds_and_brakes_hold,
    "I8": every_change_is_in_the_table,
    "I11": others_are_left_alone,
    "I12": scale_in_redelivers_nothing,
    "blindness": nobody_is_condemned_blind,
    "staleness": no_size_follows_an_old_reading,
    "bounds": the_floor_is_kept,
}


def broken_by(facts: Facts) -> list[str]:
    """Every invariant that the facts break, as sentences; empty when all hold."""
    return [
        f"{name}: {sentence}"
        for name, invariant in INVARIANTS.items()
        for sentence in invariant(facts)
    ]
