"""One node as a person reads it: what ``epu node show`` prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mgmt.output import age_text, clock_text, text_of

#: States in which a node has not started yet.
_STARTING = frozenset({"REQUESTED", "LAUNCHING", "BOOTING"})


def node_lines(document: Mapping[str, Any]) -> list[str]:
    """A document of ``node_details.node`` in lines; its history is left to a table."""
    now = float(document["now"])

    def ago(moment: float | None) -> str:
        return "-" if moment is None else f"{age_text(now - moment)} ago"

    cloud = text_of(document["cloud"])
    if document["cloud_id"]:
        cloud += f"  {document['cloud_id']}"
    if document["claimed_cloud_id"]:
        cloud += f"  (calls itself {document['claimed_cloud_id']})"
    facts = [
        ("pool", text_of(document["pool"])),
        ("state", f"{document['state']} since {age_text(now - document['state_since'])}"),
        ("reason", text_of(document["reason"])),
        ("health", health_text(document)),
        ("busy", busy_text(document)),
        ("cloud", cloud),
        ("addresses", ", ".join(document["addresses"]) or "-"),
        ("template", text_of(document["template"])),
        ("wanted", ago(document["wanted_at"])),
    ]
    if document.get("price") is not None:
        facts.append(("price", price_text(document["price"], now - document["wanted_at"])))
    if document.get("protected"):
        facts.append(("protected", "yes: its pool keeps it ('epu node unprotect' lets it go)"))
    if document["state"] in _STARTING or document["boot_cause"]:
        facts.append(("start", start_text(document)))
    if document["boot_cause"]:
        facts.append(("cause", str(document["boot_cause"])))
    if document["kept_until"]:
        facts.append(("kept", f"for a look, until {clock_text(document['kept_until'])}"))
    lines = [f"node {document['node_id']}", *(f"  {name:<11}{value}" for name, value in facts)]
    lines += figure_lines(document)
    for program in document.get("failed_programs") or ():
        lines += ["", f"  program {program['name']}: {program['state']}, exit status "
                  f"{program['exit_status']}"]  # fmt: skip
        said = program["stderr_tail"] or program["problem"]
        lines += [f"    {line}" for line in said.splitlines()]
    if document["boot_detail"]:
        lines += ["", *(f"  {line}" for line in str(document["boot_detail"]).splitlines())]
    return lines


def figure_lines(document: Mapping[str, Any]) -> list[str]:
    """The node's figures as it last said them, and which of its sensors say nothing."""
    figures, ages = document.get("figures") or {}, document.get("figure_ages") or {}
    problems = document.get("sensor_problems") or {}
    if not figures and not problems:
        return []
    heard = float(document.get("heard_age") or 0.0)
    lines = ["", f"  figures, heard {age_text(heard)} ago"]
    for name in sorted(figures):
        measured = f"  measured {age_text(heard + ages[name])} ago" if name in ages else ""
        lines.append(f"    {name:<32} {figure_text(name, figures[name]):>14}{measured}")
    lines += [f"    sensor {name}: {problem}" for name, problem in sorted(problems.items())]
    return lines


def figure_text(name: str, value: float) -> str:
    """A figure with its unit, where it is one of the machine's own (docs/pools.md)."""
    last = name.rpartition(".")[2]
    if last in ("memory_available", "rss", "agent_rss"):
        return f"{value / 2**20:,.1f} MiB"
    if last in ("network_sent", "network_received"):
        return f"{value / 2**10:,.1f} KiB/s"
    if last.endswith("_percent") and (last == name or name.startswith("program.")):
        return f"{value:,.1f} %"
    return f"{value:,.2f}"


def price_text(price: float, age: float) -> str:
    """What a machine costs, and has cost if it was paid since it was wanted ``age`` s ago."""
    return f"{price:g} $/h, about {price * max(age, 0.0) / 3600:.2f} $ so far"


def start_text(document: Mapping[str, Any]) -> str:
    """Where a node is, or was, in its start: the last step that its agent told."""
    now = float(document["now"])
    if not document["start_step"]:
        left = document["boot_deadline"]
        waits = f"; boot_timeout in {age_text(left - now)}" if left and left > now else ""
        return f"nothing heard of its agent yet{waits}"
    at = document["start_step_at"]
    when = f", {age_text(now - at)} ago" if at is not None else ""
    first = next(iter(str(document["start_detail"]).splitlines()), "")
    return f"{document['start_step']}{when}" + (f": {first}" if first else "")


def health_text(document: Mapping[str, Any]) -> str:
    """The health, and why when it is not well."""
    reason = document.get("health_reason")
    return text_of(document["health"]) + (f": {reason}" if reason else "")


def busy_text(document: Mapping[str, Any]) -> str:
    """Whether a node has work in hand, how much and for how long, or why that is not known."""
    if document.get("busy_problem"):
        return f"not known: {document['busy_problem']}"
    busy = document.get("busy")
    if busy is None:
        return "-"
    jobs, spell = document.get("jobs"), document.get("busy_for")
    count = f", {jobs} {'job' if jobs == 1 else 'jobs'} in hand" if busy and jobs else ""
    return ("yes" if busy else "no") + count + (f", for {age_text(spell)}" if spell else "")


#: Events that the changes of a node's state tell already.
_TOLD_BY_STATES = frozenset({
    "new_node", "node_started", "node_ready", "node_ready_failed", "node_terminating",
    "node_terminated", "drain_started",
})  # fmt: skip


def history_rows(
    document: Mapping[str, Any], events: Sequence[Mapping[str, Any]] = ()
) -> list[tuple[str, str, str, str]]:
    """Time, state (or event, in lower case), who and why of all that happened, oldest first."""
    rows = [
        (line["at"], line["state"], line["actor"], line["reason"]) for line in document["history"]
    ]
    rows += [
        (event["time"], event["name"], event["actor"] or event["source"], event["reason"])
        for event in events
        if event["name"] not in _TOLD_BY_STATES
    ]
    return [
        (clock_text(at), what, text_of(who), _one_line(str(why)))
        for at, what, who, why in sorted(rows, key=lambda row: float(row[0]))
    ]


def _one_line(text: str) -> str:
    lines = text.splitlines()
    return text_of(lines[0] + (" …" if len(lines) > 1 else "") if lines else "")
