"""From what was seen of a run to what is wrong with it, each with its repair. PURE.

What could not be looked at is a finding too or is left out; it is never taken for well.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from agent.keeper_names import is_controller, is_sensors
from mgmt.doctor.evidence import Action, Evidence, Finding, Repair, Vitals, names_of
from mgmt.pool_words import by_hand

#: Clocks that differ by more, s, make ages and deadlines wrong in people's eyes.
SKEW = 2.0
#: A disk with less left of it, bytes or part of the whole, is as good as full.
LEAST_FREE, LEAST_PART = 200 * 2**20, 0.05
NODE_DISK_PERCENT = 95.0
#: Ends of one process within RESTARTS_WITHIN seconds that make a loop.
LOOP, RESTARTS_WITHIN = 3, 600.0
#: Past its deadline, or in a state that has none, a node is stuck after so many seconds.
LATE, ENDING_FOR = 60.0, 600.0


def findings_of(seen: Evidence) -> list[Finding]:
    """Everything that is wrong, what all else hangs on first."""
    return [
        *_ended(seen),
        *_disks(seen),
        *_broker(seen),
        *_coordinator(seen),
        *_machines(seen),
        *_switches(seen),
        *_pools(seen),
        *_undead(seen),
        *_stuck(seen),
        *_clocks(seen),
        *_node_disks(seen),
    ]


def _provisioner_answers(seen: Evidence) -> bool:
    missing = (seen.status or {}).get("missing") or {}
    return seen.status is not None and "provisioner" not in missing


def _ended(seen: Evidence) -> Iterator[Finding]:
    if seen.ended and seen.listed:
        what = f"the run is ended and {len(seen.listed)} machines of it are left"
        yield Finding(
            "machines_left",
            f"{what}: {names_of(seen.listed)}",
            f"epu teardown {seen.run} (or let this end them: --fix)",
            Repair(Action.END_MACHINES, tuple(sorted(seen.listed)), grave=True),
        )
    elif seen.half_torn_down and not seen.ended:
        what = "a teardown was begun and has not come to its end"
        yield Finding("half_torn_down", what, f"epu teardown {seen.run} goes on with it")


def _broker(seen: Evidence) -> Iterator[Finding]:
    if seen.ended or not seen.broker_problem:
        return
    if seen.broker_directory:
        remedy = f"epu broker start --dir {seen.broker_directory} --vhost {seen.run}"
        yield Finding("dead_broker", seen.broker_problem, remedy, Repair(Action.START_BROKER))
    else:
        remedy = f"start it where it runs; if its machine is gone: epu repair {seen.run}"
        yield Finding("dead_broker", seen.broker_problem, remedy)


def _coordinator(seen: Evidence) -> Iterator[Finding]:
    if seen.ended:
        return
    loops = [
        (name, loop, _on(machine, seen.vitals))
        for machine in seen.vitals
        for name, loop in sorted(machine.restarts.items())
        if loop.count >= LOOP
    ]
    for name, loop, where in loops:
        minutes = RESTARTS_WITHIN / 60
        what = f"{name}{where} ended {loop.count} times in the last {minutes:g} minutes"
        last = f"; its last words: {loop.last}" if loop.last else ""
        remedy = f"see {name}.log (epu logs fetch {seen.run})"
        yield Finding("restart_loop", what + last, remedy)
    if seen.coordinator_runs is False:
        where = seen.coordinator_directory
        what = f"the coordinator does not run (its supervisord in {where} is gone)"
        remedy = f"epu repair {seen.run}"
        yield Finding("no_coordinator", what, remedy, Repair(Action.START_COORDINATOR))
        return  # whoever is silent is so for this
    if not seen.broker_problem and seen.silence:
        what = f"the coordinator does not answer: {seen.silence}"
        yield Finding("silent_coordinator", what, f"epu repair {seen.run}")
    for name, why in sorted(((seen.status or {}).get("missing") or {}).items()):
        remedy = f"its supervisor restarts it; if that lasts: epu logs fetch {seen.run}"
        yield Finding("silent_component", f"{name} does not answer: {why}", remedy)


def _machines(seen: Evidence) -> Iterator[Finding]:
    for cloud, why in sorted(seen.unlisted.items()):
        what = f"cloud {cloud} can't be listed: {why}"
        yield Finding(
            "cloud_not_listed", what, "give its credentials to this command, or repair it"
        )
    if seen.ended or seen.listed is None:
        return
    if not _provisioner_answers(seen):
        if seen.listed:
            clouds = names_of(set(seen.listed.values()))
            what = f"no provisioner answers, and {clouds} list {len(seen.listed)} workers"
            what += f": {names_of(seen.listed)}"
            yield Finding("workers_without_provisioner", what, *_left_alone(seen))
        return
    if seen.known is None:
        yield from _as_the_provisioner_sees_it(seen)
        return
    if strays := sorted(set(seen.listed) - seen.ever):
        yield Finding(
            "machine_without_record",
            f"{len(strays)} machines of the run are in no record: {names_of(strays)}",
            "the provisioner ends strays after a while; --fix ends them now",
            Repair(Action.END_MACHINES, tuple(strays), grave=True),
        )
    if not seen.unlisted and (lost := sorted(seen.known - set(seen.listed))):
        what = f"{len(lost)} records have no machine: {names_of(lost)}"
        remedy = "two witnesses settle it within minutes; if not: epu node show NODE"
        yield Finding("record_without_machine", what, remedy)


def _as_the_provisioner_sees_it(seen: Evidence) -> Iterator[Finding]:
    """Machines and records where only the coordinator's machine can list the clouds."""
    progress = (seen.status or {}).get("progress") or {}
    for name, cloud in sorted((progress.get("clouds") or {}).items()):
        if strays := cloud.get("strays"):
            what = f"{len(strays)} machines of cloud {name} are in no record: {names_of(strays)}"
            remedy = "the provisioner ends strays after a while; if not, end them in the cloud"
            yield Finding("machine_without_record", what, remedy)
        absent = cloud.get("absent") or {}
        if lost := [node for node, age in absent.items() if age > LATE]:
            what = f"{len(lost)} records have no machine in cloud {name}: {names_of(lost)}"
            remedy = "two witnesses settle it within minutes; if not: epu node show NODE"
            yield Finding("record_without_machine", what, remedy)


def _left_alone(seen: Evidence) -> tuple[str, Repair | None]:
    """Remedy and repair for workers whose provisioner does not answer: they may be at work."""
    end = f"epu doctor {seen.run} --fix --yes --end-workers, then epu teardown {seen.run}"
    if seen.coordinator_runs and not seen.broker_problem:
        # Its supervisor lives and starts it again: whoever is silent now is not gone for ever.
        stop = f"epu serve --stop --dir {seen.coordinator_directory}"
        wait = "its supervisor starts it again within minutes: look again, then epu repair"
        return f"{wait} {seen.run}; only to give it up for ever: {stop}, {end}", None
    first = f"epu repair {seen.run}"
    if seen.broker_problem or seen.coordinator_runs is False:
        first = "repair the above and look again, for they may be at work"
    repair = Repair(Action.END_MACHINES, tuple(sorted(seen.listed or ())), grave=True)
    return f"{first}; only if it is gone for ever: {end}", repair


def _switches(seen: Evidence) -> Iterator[Finding]:
    components = (seen.status or {}).get("components") or {}
    provisioner = components.get("provisioner", {})
    # Who is in the middle of a teardown is told so once: pools that decide again would hinder it.
    if (why := _frozen(components)) and not seen.half_torn_down:
        what = f"all pools are held: {why}"
        yield Finding("frozen", what, "epu resume", Repair(Action.UNFREEZE))
    if provisioner.get("stopping"):
        what = "every worker is being ended (terminate_all)"
        yield Finding("stopping", what, f"epu teardown {seen.run} finishes it")
    elif provisioner.get("enabled") is False:
        what = "launches are disabled"
        yield Finding("disabled", what, "let it launch again: --fix", Repair(Action.ENABLE))
    listening = {name: told for name, told in components.items() if is_sensors(name)}
    for name in sorted(name for name, told in listening.items() if told.get("blind")):
        what = f"the service {name} hears nobody, itself included: no silence counts"
        yield Finding("blind", what, "see the broker and its connections: epu broker status")
    if any(told.get("presence_source") == "none" for told in listening.values()):
        what = "the broker tells nobody when an agent is lost (no event exchange)"
        remedy = "enable the plugin rabbitmq_event_exchange there; losses are found more slowly"
        yield Finding("no_presence", what, remedy)
    progress = (seen.status or {}).get("progress") or {}
    if away := progress.get("accounts_away"):
        what = f"{away['reason']}: launches hold and boot_timeout stands still"
        yield Finding("accounts_away", what, "repair the broker's management API or the registrar")
    for name, cloud in sorted((progress.get("clouds") or {}).items()):
        if cloud.get("problem"):
            what = f"cloud {name}: {cloud['problem']}"
            yield Finding("cloud_problem", what, "the provisioner goes on trying")


def _frozen(components: Mapping[str, Mapping[str, Any]]) -> str:
    """Why engines are frozen, as any controller tells; "" when none is."""
    reasons = (told.get("frozen") for name, told in components.items() if is_controller(name))
    return next((str(reason) for reason in reasons if reason), "")


def _pools(seen: Evidence) -> Iterator[Finding]:
    for pool in (seen.status or {}).get("pools") or ():
        name = str(pool["name"])
        resume = Repair(Action.RESUME_POOL, (name,))
        if pool.get("brake") == "MELTDOWN":
            what = f"the brake of pool {name} is open at MELTDOWN: {pool.get('reason')}"
            yield Finding("brake", what, f"find out why, then: epu pool resume {name}", resume)
        elif pool.get("state") == "HELD":
            if not _held_by_others(seen):  # else it was said once for all
                what = f"pool {name} is held: {pool.get('reason')}"
                why = f"epu explain {name}; if a person held it: epu pool resume {name}"
                yield Finding("held_pool", what, why, resume)
        elif pool.get("state") == "FAILED":
            what = f"pool {name} is FAILED: {pool.get('reason')}"
            yield Finding("failed_pool", what, f"epu explain {name}; epu nodes --pool {name} --all")
        if pool.get("state") != "HELD" and (held := by_hand(pool)):
            what = f"pool {name}: {held}, by a person"
            yield Finding("suspended_pool", what, f"when that is over: epu pool resume {name}")
        failing = pool.get("failing") or {}
        if failing.get("count", 0) > 1:
            what = f"pool {name}: {failing['count']} launches or boots failed, and none came"
            node_id = str(failing["last"]).split()[0]
            remedy = (
                f"epu node show {node_id}; to keep the next one that fails for a look: "
                f"epu pool reconfigure {name} retain_failed=1"
            )
            yield Finding(
                "failing_pool", f"{what} to run since; the last: {failing['last']}", remedy
            )


def _held_by_others(seen: Evidence) -> bool:
    """Pools hold because all are held, or because somebody whom they need does not answer."""
    status = seen.status or {}
    return bool(_frozen(status.get("components") or {}) or status.get("missing"))


def _undead(seen: Evidence) -> Iterator[Finding]:
    """Machines that may cost money although nobody counts on them."""
    for pool in (seen.status or {}).get("pools") or ():
        for node in pool.get("zombies") or ():
            machine = node.get("cloud_id") or "its name there was never learned"
            what = f"node {node['node_id']} beats though cloud {node['cloud']} calls it gone"
            remedy = "its agent is told to stop; see in the cloud whether the machine runs"
            yield Finding("zombie", f"{what} ({machine})", remedy)
        for node_id in pool.get("rogues") or ():
            what = (
                f"node {node_id} beats in the name of pool {pool['name']}, and no record knows it"
            )
            yield Finding("rogue", what, "find its machine and end it by hand; nobody else does")


def _stuck(seen: Evidence) -> Iterator[Finding]:
    for node in seen.late:
        why = stuck(node)
        if why:
            what = f"node {node['node_id']} is stuck in {node['state']}: {why}"
            reason = f" ({node['reason']})" if node.get("reason") else ""
            yield Finding("stuck_node", what + reason, f"epu node show {node['node_id']}")


def stuck(node: Mapping[str, Any]) -> str:
    """Why a node on its way (a document of ``epu node show``) is late; "" when it is not."""
    now, state = float(node["now"]), node["state"]
    since = now - float(node["state_since"])
    deadlines = {
        "REQUESTED": node.get("launch_deadline"),
        "LAUNCHING": node.get("launch_deadline"),
        "BOOTING": node.get("boot_deadline"),
        "DRAINING": node.get("drain_deadline"),
    }
    deadline = deadlines.get(state)
    if deadline is not None and now > deadline + LATE:
        return f"its deadline passed {now - deadline:.0f} s ago"
    if state == "TERMINATING" and since > ENDING_FOR:
        return f"its end was asked for {since:.0f} s ago"
    if state == "BOOT_FAILED" and since > ENDING_FOR and not node.get("kept_until"):
        return f"it failed {since:.0f} s ago and was not cleared away"
    return ""


def _on(machine: Vitals, of: tuple[Vitals, ...]) -> str:
    """Which of several machines with parts of the coordinator; "" when there is one only."""
    return f" on {machine.host} ({', '.join(machine.services)})" if len(of) > 1 else ""


def _clocks(seen: Evidence) -> Iterator[Finding]:
    ahead = {f"the coordinator{_on(one, seen.vitals)}": one.ahead for one in seen.vitals}
    ahead |= {name: signs.ahead for name, signs in seen.nodes.items()}
    for name, seconds in ahead.items():
        if seconds is not None and abs(seconds) > SKEW:
            way = "ahead of" if seconds > 0 else "behind"
            what = f"the clock of {name} is {abs(seconds):.1f} s {way} this machine's"
            yield Finding("clock_skew", what, "run a time service (chrony) there and here")


def _disks(seen: Evidence) -> Iterator[Finding]:
    """Of the machines that all else stands on: a broker whose disk is full blocks everybody."""
    found = {"this machine": seen.disk_here}
    for one in seen.vitals:
        # A coordinator in a directory of this machine has this machine's disk.
        here = seen.disk_here and seen.coordinator_directory and seen.disk_here[1] == one.total
        if one.free is not None and one.total is not None and not here:
            found[f"the coordinator's machine{_on(one, seen.vitals)}"] = (one.free, one.total)
    for name, disk in found.items():
        if disk and (disk[0] < LEAST_FREE or disk[0] < LEAST_PART * disk[1]):
            what = f"the disk of {name} has {_size(disk[0])} left of {_size(disk[1])}"
            yield Finding(
                "full_disk",
                what,
                "free some space; of ended runs (epu list) the directories can be removed",
            )


def _size(size: int) -> str:
    return f"{size / 2**30:.0f} GB" if size >= 10 * 2**30 else f"{size / 2**20:.0f} MB"


def _node_disks(seen: Evidence) -> Iterator[Finding]:
    for name, signs in seen.nodes.items():
        if signs.disk_percent is not None and signs.disk_percent >= NODE_DISK_PERCENT:
            what = f"the disk of node {name} is {signs.disk_percent:.0f} % full"
            yield Finding("full_disk", what, f"epu node exec {name} -- df -h")
