"""``epu explain``: why a pool has the size it has, from the controller's last reasoning."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from coordinator.errors import NotFound
from mgmt.answers import Call, ask
from mgmt.output import age_text, clock_text, text_of
from mgmt.status import no_such_pool, pool_names

#: What the controller says of a bound that changed nothing.
NOT_LIMITING = "not limiting"


def explain(call: Call, pool: str, at: float | None = None) -> dict[str, Any]:
    """The controller's reasoning for ``pool``, now or as it was ``at`` a time (epoch seconds).

    Raises NotFound with the nearest name, or when nothing had been decided yet.
    """
    try:
        return dict(ask(call, "controller", "explain", pool, at) or {})
    except NotFound as problem:
        known = pool_names(call)
        if pool in known:
            raise problem from None  # the pool is there; it has nothing to explain yet
        raise no_such_pool(pool, known) from None


def explanation_lines(found: Mapping[str, Any], *, past: bool = False) -> list[str]:
    """The reasoning as a person reads it: why not otherwise, inputs, wish, bounds, result.

    ``past``: it is not the pool's state of now.
    """
    if not found.get("inputs"):
        return [text_of(found.get("sentence") or found.get("reason") or "nothing decided yet")]
    how = f"{'was' if past else 'is'} {found['state']}"
    return [
        f"pool {found['pool']} {how}: {text_of(found.get('reason'))}",
        *_sentences("why not more", found.get("why_not_more")),
        *_sentences("why not fewer", found.get("why_not_fewer")),
        "",
        f"  decided    {clock_text(found['time'])}",
        f"  result     wanted {text_of(found.get('wanted'))}",
        f"  did        {text_of(found.get('sentence'))}",
        *_commands(found.get("commands") or ()),
        "",
        "inputs",
        *_inputs(found["inputs"]),
        "",
        "from the wish to the result",
        *_chain(found),
        *_brakes(found),
    ]


def _inputs(inputs: Mapping[str, Any]) -> Iterator[str]:
    counts = inputs.get("counts") or {}
    there = ", ".join(
        f"{counts[name]} {name.replace('_', ' ')}"
        for name in counts
        if counts[name] and name not in ("supply", "machines")
    )
    size = counts.get("supply", 0)
    counted = f"; {size} of them {'counts' if size == 1 else 'count'} for the size"
    yield f"  workers    {there + counted if there else 'none'}"
    for name, reading in sorted((inputs.get("readings") or {}).items()):
        age, value = reading["age"], reading["value"]
        shown = f"{age_text(age)} old" if isinstance(age, (int, float)) else "no age"
        number = f"{value:,.6g}" if isinstance(value, (int, float)) else text_of(value)
        yield f"  reading    {name} = {number} ({shown})"
    for node, judged in sorted((inputs.get("unhealthy") or {}).items()):
        yield f"  unhealthy  {node}: {judged['health']}, {judged['reason']}"
    if inputs.get("previous_size") is not None:
        yield f"  before     wanted {inputs['previous_size']}"


def _chain(found: Mapping[str, Any]) -> Iterator[str]:
    wish = found.get("wish")
    if wish is None:
        yield f"  no decision in this cycle: {text_of(found.get('reason'))}"
        return
    width = max(20, len(found["engine"]))  # an engine of one's own has a long name
    yield f"  {found['engine']:<{width}} {wish['size']:>5}  {wish['reason']}"
    idle, size = [], wish["size"]
    for bound in found.get("bounds") or ():
        if bound["size"] == size and bound["reason"] == NOT_LIMITING:
            idle.append(bound["name"])
        else:
            yield f"  {bound['name']:<{width}} {bound['size']:>5}  {bound['reason']}"
        size = bound["size"]
    if idle:
        yield f"  not limiting: {', '.join(idle)}"


def _brakes(found: Mapping[str, Any]) -> Iterator[str]:
    cloud = found.get("cloud") or {}
    for name, closed in (cloud.get("closed") or {}).items():
        yield f"  closed     {name}, {age_text(closed['seconds_left'])} more: {closed['reason']}"
    if cloud.get("reason"):
        yield f"  cloud      {cloud['chosen']}, {cloud['reason']}"
    brake = found.get("brake") or {}
    if brake.get("level", "NORMAL") != "NORMAL":
        yield f"  brake      {brake['level']}: {text_of(brake.get('reason'))}"
    rollout = found.get("rollout") or {}
    if rollout.get("state") in ("RUNNING", "PAUSED"):
        again = rollout.get("seconds_left") or 0
        more = f" ({age_text(again)} more)" if again > 0 else ""
        yield f"  rollout    {rollout['state']}: {text_of(rollout.get('reason'))}{more}"
    backoff = found.get("backoff") or {}
    left = backoff.get("seconds_left") or 0
    if left > 0:
        failures = backoff.get("failures")
        yield f"  back-off   {age_text(left)} more after {failures} failures: {backoff.get('last')}"


def _commands(commands: Any) -> Iterator[str]:
    for command in commands:
        whom = command.get("node_id") or f"{command.get('count')} as {command.get('launch_id')}"
        yield f"  command    {command['command']} {whom}: {command['reason']}"


def _sentences(title: str, sentences: Any) -> Iterator[str]:
    if isinstance(sentences, str):
        sentences = [sentences]
    for sentence in sentences or ():
        yield f"  {title:<14} {sentence}"
