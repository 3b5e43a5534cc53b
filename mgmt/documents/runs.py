"""Documents of the boot tool: plans and runs."""

from __future__ import annotations

from typing import Any, Literal

from bootlevels.boot_sequence import ServiceState
from mgmt.documents.parts import Part


class Failure(Part):
    """What did not work."""

    service: str
    action: str
    error: str
    output: list[str]
    """The last lines."""


class ServiceTimes(Part):
    """How far a service's last launch was when, and what it took."""

    launched_at: float | None
    booted_at: float | None
    verified_at: float | None
    seen_well_at: float | None
    terminated_at: float | None
    boot_seconds: float | None
    verify_seconds: float | None
    seconds: float | None


class RunService(Part):
    """A service of a run."""

    name: str
    level: int
    kind: str
    state: ServiceState
    error: str
    launches: int
    times: ServiceTimes
    attributes: dict[str, str]
    """Secrets are masked."""


class RunLevel(Part):
    """A level of a run."""

    level: int
    launched_at: float | None
    verified_at: float | None
    seconds: float | None


class DescribedRun(Part):
    """A run of a launch plan."""

    run: str
    directory: str
    plan: str
    profile: str
    created_at: float
    booted_at: float | None
    terminated_at: float | None
    levels: list[RunLevel]
    services: list[RunService]
    ok: bool
    failures: list[Failure]
    repaired: list[str]
    """Services that were replaced."""
    idle: list[str]
    """Services whose machines were started early for nothing."""


class AskedService(RunService):
    """A service, and what it answered now."""

    ok: bool
    detail: str


class RunStatus(Part):
    """Whether each service of a run is well now."""

    run: str
    directory: str
    plan: str
    profile: str
    created_at: float
    booted_at: float | None
    terminated_at: float | None
    levels: list[RunLevel]
    services: list[AskedService]
    ok: bool


class ListedRun(Part):
    """A run in a list of runs."""

    run: str
    plan: str
    profile: str
    state: Literal["PARTIAL", "BOOTED", "TERMINATED"]
    created_at: float
    directory: str


class Runs(Part):
    """The runs of this `EPU_HOME`."""

    runs: list[ListedRun]
    unreadable: list[str]
    """Records that can't be read, and why."""


class Terminated(Part):
    """How one run's end went."""

    ok: bool
    failures: list[Failure] | None = None
    repaired: list[str] | None = None
    idle: list[str] | None = None
    exit_code: int = 0
    """Why not, when it could not begin."""


class Terminations(Part):
    """How the end of each run went."""

    runs: dict[str, Terminated]


class Change(Part):
    """What a reload does to a service."""

    service: str
    change: str
    level: int
    why: str


class Reload(Part):
    """What a reload would change."""

    run: str
    changes: list[Change]


class Launch(Part):
    """One launch of a service, or of a machine for it."""

    life: str
    """The directory of the record that has it."""
    kind: Literal["service", "machine"]
    service: str
    identity: str
    state: str
    cloud: str
    cloud_id: str
    addresses: list[str]
    launched_at: float | None
    ended_at: float | None
    error: str


class RunHistory(Part):
    """Everything ever launched as a run."""

    run: str
    launches: list[Launch]
    """Oldest first."""


class Removal(Part):
    """Something that a run left behind."""

    what: str
    problem: str
    """Why it is not gone; empty when it is."""


class Cleaned(Part):
    """What was removed of what a run left behind."""

    run: str
    removed: list[Removal]


class PlanProblem(Part):
    """One thing that is wrong in a plan."""

    what: str
    key: str
    where: str
    remedy: str


class Validation(Part):
    """Whether a launch plan is right."""

    ok: bool
    problems: list[PlanProblem]
    warnings: list[PlanProblem]


class Launches(Part):
    """What a boot would start."""

    machines: dict[str, list[str]]
    """Services, by cloud."""
    local_programs: list[str]
    pools: list[str]


class PlanLevel(Part):
    """A level of a plan."""

    level: int
    description: str
    services: list[dict[str, Any]]
    """As the plan says, with every value that is known by now."""


class DescribedPlan(Part):
    """What booting a plan would launch."""

    run: str
    plan: str
    description: str
    source: str
    profile: str
    globals: dict[str, str]
    clouds: dict[str, dict[str, Any]]
    levels: list[PlanLevel]
    launches: Launches


class Sample(Part):
    """A shipped launch plan."""

    name: str
    description: str
    profiles: list[str]
    path: str


class Samples(Part):
    """The shipped launch plans."""

    samples: list[Sample]


class SampleCopied(Part):
    """A sample that was copied."""

    sample: str
    plan: str
    """The path of the copy."""
