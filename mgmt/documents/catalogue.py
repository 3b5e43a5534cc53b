"""Which command prints which document with ``--json``, and the JSON Schema of each.

This is the one place that knows: ``epu schema COMMAND`` prints from it, docs/json.md is
made of it, and tests hold what commands really print to it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from bootlevels.json_document import JSON_VERSION
from bootlevels.plan_schema import DIALECT
from mgmt.documents import history, nodes, pools, runs, systems
from mgmt.documents.parts import Part


@dataclass(frozen=True)
class Printed:
    """``epu <commands> --json`` prints ``model`` as the schema ``epu.<name>``.

    ``lines``: one such object a line, for as long as the command goes on, and without the
    keys ``schema`` and ``version``.
    """

    name: str
    model: type[Part]
    commands: tuple[str, ...]
    lines: bool = False

    @property
    def identity(self) -> str:
        return f"epu.{self.name}"

    def prints_for(self, command: str) -> bool:
        """Whether ``command`` (its words without options) may print it."""
        return any(each.partition(" --")[0] == command for each in self.commands)


_NODE_ORDERS = ("drain", "undrain", "protect", "unprotect", "terminate")
_POOL_CHANGES = ("show", "set-n", "reconfigure", "hold", "resume", "override")

CATALOGUE: tuple[Printed, ...] = (
    Printed("run", runs.DescribedRun, ("boot", "repair", "reload", "reboot")),
    Printed("reload", runs.Reload, ("reload --dry-run",)),
    Printed("run-status", runs.RunStatus, ("status",)),
    Printed("runs", runs.Runs, ("list",)),
    Printed("terminations", runs.Terminations, ("terminate",)),
    Printed("history", runs.RunHistory, ("history",)),
    Printed("cleaned", runs.Cleaned, ("clean",)),
    Printed("validation", runs.Validation, ("validate",)),
    Printed("plan", runs.DescribedPlan, ("plan",)),
    Printed("samples", runs.Samples, ("samples list",)),
    Printed("sample", runs.SampleCopied, ("samples copy",)),
    Printed("pools", pools.Pools, ("pools",)),
    Printed("pool", pools.Pool, (*(f"pool {word}" for word in _POOL_CHANGES), "wait")),
    Printed("pool-added", pools.PoolAdded, ("pool add",)),
    Printed("pool-removed", pools.PoolRemoved, ("pool remove",)),
    Printed("rollout", pools.PoolRollout, ("pool rollout",)),
    Printed("hold", pools.Hold, ("hold", "resume")),
    Printed("explanation", pools.Explanation, ("explain",)),
    Printed("nodes", nodes.Nodes, ("nodes",)),
    Printed("node", nodes.Node, ("node show",)),
    Printed("node-logs", nodes.NodeLogs, ("node logs",)),
    Printed("node-exec", nodes.NodeExec, ("node exec",)),
    Printed("node-order", nodes.NodeOrder, tuple(f"node {word}" for word in _NODE_ORDERS)),
    Printed("token", nodes.Token, ("token create",)),
    Printed("events", history.Events, ("events",)),
    Printed("event", history.Happened, ("events --follow",), lines=True),
    Printed("picture", history.Picture, ("watch",), lines=True),
    Printed("logs", history.Logs, ("logs fetch",)),
    Printed("graph", history.Graph, ("graph",)),
    Printed("replay", history.Replay, ("replay",)),
    Printed("simulation", history.Simulation, ("simulate",)),
    Printed("exercise", history.Exercise, ("exercise",)),
    Printed("exercise", history.ExerciseCheck, ("exercise --check",)),
    Printed("doctor", systems.Doctor, ("doctor",)),
    Printed("install", systems.Install, ("doctor --install",)),
    Printed("receipt", systems.Receipt, ("teardown",)),
    Printed("teardown-preview", systems.TeardownPreview, ("teardown --dry-run",)),
    Printed("broker", systems.BrokerStarted, ("broker start",)),
    Printed("broker", systems.BrokerStatus, ("broker status",)),
    Printed("broker", systems.BrokerStopped, ("broker stop",)),
    Printed("coordinator", systems.CoordinatorStarted, ("serve",)),
    Printed("coordinator", systems.CoordinatorChecked, ("serve --check",)),
    Printed("coordinator", systems.CoordinatorStopped, ("serve --stop",)),
    Printed("wheelhouse", systems.Wheelhouse, ("wheelhouse build",)),
    Printed("image", systems.ImageBuilt, ("image build",)),
    Printed("images", systems.Images, ("image list",)),
)


def printed_by(command: str) -> tuple[Printed, ...]:
    """What ``command`` (its words without options) may print; empty for one without JSON."""
    return tuple(each for each in CATALOGUE if each.prints_for(command))


def commands() -> list[str]:
    """All commands that print JSON, as they are typed, without options."""
    found = {each.partition(" --")[0] for one in CATALOGUE for each in one.commands}
    return sorted(found)


def schema_of(printed: Iterable[Printed]) -> dict[str, Any]:
    """The JSON Schema of one document, or of one of several."""
    found = [_single(each) for each in printed]
    if len(found) == 1:
        return {"$schema": DIALECT, **found[0]}
    parts: dict[str, Any] = {}
    for each in found:
        parts |= each.pop("$defs", {})
    return {"$schema": DIALECT, "anyOf": found, "$defs": parts}


def _single(printed: Printed) -> dict[str, Any]:
    """As the model says, with the two keys that every whole document has."""
    schema = printed.model.model_json_schema()
    if not printed.lines:
        said = {"schema": {"const": printed.identity}, "version": {"const": JSON_VERSION}}
        schema["properties"] = {**said, **schema.get("properties", {})}
        schema["required"] = [*said, *schema.get("required", [])]
    schema["title"] = printed.identity
    return schema
