"""What a teardown knows about itself: its steps, what was there, the receipt. PURE."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import Enum
from typing import Any

from agent.messages import InstanceState


class Step(str, Enum):
    """The steps in their order; every one may be repeated."""

    FREEZE = "freeze"
    END_WORKERS = "end_workers"
    CONFIRM_WORKERS = "confirm_workers"
    STOP_DENIED = "stop_denied"
    END_LEVELS = "end_levels"
    LIST_CLOUDS = "list_clouds"
    RECEIPT = "receipt"


class StepState(str, Enum):
    """How far a step is; one that a crash left UNDER_WAY is simply done again."""

    UNDER_WAY = "UNDER_WAY"
    DONE = "DONE"
    FAILED = "FAILED"
    SKIPPED = "SKIPPED"


@dataclass(frozen=True, kw_only=True)
class StepRecord:
    """One step: when it began and ended (epoch s), and what came out."""

    state: StepState
    began: float
    ended: float | None = None
    detail: str = ""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A machine that a cloud lists with the run's tag."""

    cloud: str
    cloud_id: str
    pool: str
    node_id: str

    def __str__(self) -> str:
        return f"{self.node_id} ({self.cloud}: {self.cloud_id})"


@dataclass(frozen=True, kw_only=True)
class Listing:
    """What all clouds of the run list, and the clouds that could not be asked.

    ``window``: for how long, s, a listing may not show a machine that is there.
    """

    machines: tuple[Machine, ...] = ()
    problems: dict[str, str] = field(default_factory=dict)
    window: float = 0.0

    @property
    def proves_none(self) -> bool:
        """Every cloud was asked, and none lists a machine of this run."""
        return not self.machines and not self.problems

    def __str__(self) -> str:
        """What stands against ``proves_none``, in words."""
        parts = []
        if self.machines:
            names = ", ".join(str(machine) for machine in self.machines[:5])
            more = f" and {len(self.machines) - 5} more" if len(self.machines) > 5 else ""
            parts.append(f"still listed: {names}{more}")
        parts += [f"cloud {name} can't be listed: {why}" for name, why in self.problems.items()]
        return "; ".join(parts) or "no cloud lists a machine of this run"


@dataclass(frozen=True, kw_only=True)
class Inventory:
    """What there is of a run: node ids of workers, names of booted services."""

    workers: tuple[str, ...] = ()
    services: tuple[str, ...] = ()

    @property
    def empty(self) -> bool:
        return not self.workers and not self.services


@dataclass(frozen=True, kw_only=True)
class DeniedMachine:
    """A machine that its cloud calls gone and whose agent spoke: it was told to stop.

    ``cloud_id`` None: nobody knows the cloud's name for it. ``silent``: its agent answered
    no more before the teardown went on.
    """

    node_id: str
    cloud: str
    cloud_id: str | None = None
    silent: bool = False

    def __str__(self) -> str:
        return f"{self.node_id} ({self.cloud}: {self.cloud_id or 'its name is not known'})"


@dataclass(frozen=True, kw_only=True)
class TeardownRecord:
    """``teardown.json``: one teardown over all its attempts."""

    run: str
    started_at: float
    before: Inventory = Inventory()
    attempts: int = 1
    steps: dict[str, StepRecord] = field(default_factory=dict)
    adopted: tuple[str, ...] = ()
    denied: tuple[DeniedMachine, ...] = ()
    version: int = 1

    def told_to_stop(self, denied: tuple[DeniedMachine, ...]) -> TeardownRecord:
        """With machines that their clouds deny, beside those of before."""
        known = {one.node_id: one for one in (*self.denied, *denied)}
        return replace(self, denied=tuple(known.values()))

    def left_to_owners(self, adopted: tuple[str, ...]) -> TeardownRecord:
        """With the workers whose machines people booted: those were stopped, not ended."""
        return replace(self, adopted=adopted)

    def began(self, step: Step, now: float) -> TeardownRecord:
        return self._with(step, StepRecord(state=StepState.UNDER_WAY, began=now))

    def ended(
        self, step: Step, now: float, detail: str = "", state: StepState = StepState.DONE
    ) -> TeardownRecord:
        before = self.steps.get(step.value)
        began = before.began if before else now
        return self._with(step, StepRecord(state=state, began=began, ended=now, detail=detail))

    def again(self, before: Inventory) -> TeardownRecord:
        """A further attempt: what was there counts from the first one on."""
        known = self.before
        merged = Inventory(
            workers=tuple(sorted({*known.workers, *before.workers})),
            services=tuple(dict.fromkeys((*known.services, *before.services))),
        )
        return replace(self, attempts=self.attempts + 1, before=merged)

    def _with(self, step: Step, record: StepRecord) -> TeardownRecord:
        known = {**self.steps, step.value: record}
        names: list[str] = [each.value for each in Step]
        ordered = {name: known[name] for name in names if name in known}
        return replace(self, steps=ordered)


def record_of(kept: Mapping[str, Any]) -> TeardownRecord:
    """A TeardownRecord from the JSON of an earlier attempt. Raises KeyError, ValueError."""
    steps = {
        str(name): StepRecord(**{**step, "state": StepState(step["state"])})
        for name, step in kept["steps"].items()
    }
    return TeardownRecord(
        run=str(kept["run"]),
        started_at=float(kept["started_at"]),
        before=_inventory(kept["before"]),
        attempts=int(kept["attempts"]),
        steps=steps,
        adopted=tuple(kept.get("adopted") or ()),
        denied=tuple(DeniedMachine(**one) for one in kept.get("denied") or ()),
    )


def _inventory(kept: Mapping[str, Sequence[str]]) -> Inventory:
    return Inventory(workers=tuple(kept["workers"]), services=tuple(kept["services"]))


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """``receipt.json``: what was there, what is left, how long. Times: epoch s.

    ``adopted``: workers whose machines people booted. Their agents have stopped; their
    machines are their owners' and nobody here could look whether they run. ``denied``:
    machines that spoke although their clouds call them gone; those clouds list them nowhere, so
    whether they run is for a person to find out.
    """

    run: str
    started_at: float
    ended_at: float
    attempts: int
    before: Inventory
    left: Inventory
    left_on_purpose: bool
    steps: dict[str, StepRecord]
    adopted: tuple[str, ...] = ()
    denied: tuple[DeniedMachine, ...] = ()
    version: int = 1

    @property
    def clean(self) -> bool:
        """Whether nothing is left."""
        return self.left.empty

    def document(self) -> dict[str, Any]:
        """The receipt as plain JSON values."""
        seconds = round(self.ended_at - self.started_at, 3)
        return {"schema": "epu.receipt", **asdict(self), "clean": self.clean, "seconds": seconds}

    def lines(self) -> list[str]:
        """The receipt as a person reads it."""
        return [
            f"Receipt for run {self.run}",
            f"  was there   {_counted(self.before)}",
            f"  is left     {_counted(self.left)}"
            + (" (left on purpose)" if self.left_on_purpose and not self.clean else ""),
            *([f"  adopted     {adopted_text(self.adopted)}"] if self.adopted else []),
            *([f"  denied      {denied_text(self.denied)}"] if self.denied else []),
            f"  took        {self.ended_at - self.started_at:.1f} s"
            + (f" in {self.attempts} attempts" if self.attempts > 1 else ""),
            *(_step_line(name, step) for name, step in self.steps.items()),
        ]


def adopted_text(adopted: Sequence[str]) -> str:
    """What became of machines that people booted, in words."""
    names = ", ".join(adopted[:8]) + (", …" if len(adopted) > 8 else "")
    return f"agents stopped, machines left to their owners: {names}"


def denied_text(denied: Sequence[DeniedMachine]) -> str:
    """What became of machines that their clouds call gone and that spoke, in words."""
    names = ", ".join(str(one) for one in denied[:8]) + (", …" if len(denied) > 8 else "")
    speak = [one.node_id for one in denied if not one.silent]
    after = f"; still speaking: {', '.join(speak[:8])}" if speak else ""
    return f"told to stop, see in the cloud whether they run: {names}{after}"


def progress_text(progress: Mapping[str, Any]) -> str:
    """One line of what the provisioner still has to do."""
    ended = InstanceState.TERMINATED.value
    states = {
        state: n for state, n in (progress.get("states") or {}).items() if n and state != ended
    }
    counted = ", ".join(f"{n} {state}" for state, n in sorted(states.items()))
    remaining = len(progress.get("remaining") or ())
    problems = [
        f"cloud {name}: {cloud['problem']}"
        for name, cloud in sorted((progress.get("clouds") or {}).items())
        if cloud.get("problem")
    ]
    workers = "1 worker" if remaining == 1 else f"{remaining} workers"
    what = f"{workers} left" + (f" ({counted})" if counted else "")
    return "; ".join([what, *problems])


def _step_line(name: str, step: StepRecord) -> str:
    title, state = name.replace("_", " "), step.state.value.lower()
    return f"  {title:<17} {state:<9} {step.detail}".rstrip()


def _counted(inventory: Inventory) -> str:
    if inventory.empty:
        return "nothing"
    parts = []
    for word, names in (("worker", inventory.workers), ("service", inventory.services)):
        if names:
            shown = ", ".join(names[:8]) + (", …" if len(names) > 8 else "")
            parts.append(f"{len(names)} {word}{'s' if len(names) != 1 else ''} ({shown})")
    return " and ".join(parts)
