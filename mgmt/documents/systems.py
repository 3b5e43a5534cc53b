"""Documents about a system as a whole: its end, its ills, its broker and coordinator."""

from __future__ import annotations

from typing import Literal

from mgmt.documents.parts import Part


class Inventory(Part):
    """What there is of a run."""

    workers: list[str]
    """Node ids."""
    services: list[str]


class StepTaken(Part):
    """One step of a teardown."""

    state: Literal["UNDER_WAY", "DONE", "FAILED"]
    began: float
    ended: float | None
    detail: str


class DeniedMachine(Part):
    """A machine that its cloud calls gone, and whose agent spoke and was told to stop."""

    node_id: str
    cloud: str
    cloud_id: str | None
    """Null: nobody learned the cloud's name for it."""
    silent: bool
    """Its agent answered no more before the teardown went on."""


class Receipt(Part):
    """The proof of a teardown."""

    run: str
    clean: bool
    """Nothing is left."""
    before: Inventory
    left: Inventory
    left_on_purpose: bool
    adopted: list[str]
    """Workers whose machines people booted: stopped, the machines left to them."""
    denied: list[DeniedMachine]
    """Look in the cloud whether they run: no listing shows them."""
    started_at: float
    ended_at: float
    seconds: float
    attempts: int
    steps: dict[str, StepTaken]


class TeardownPreview(Part):
    """What a teardown would end."""

    run: str
    workers: list[str]
    services: list[str]


class Repair(Part):
    """What `--fix` can do."""

    action: Literal[
        "start_broker", "start_coordinator", "unfreeze", "resume_pool", "enable", "end_machines"
    ]
    subjects: list[str]
    """Pools or node ids."""
    grave: bool
    """It ends machines that may be at work."""


class Finding(Part):
    """One thing that is wrong."""

    kind: str
    what: str
    remedy: str
    repair: Repair | None
    """Null where we can do nothing."""
    fixed: bool


class Doctor(Part):
    """What is wrong with a run."""

    run: str
    well: bool
    findings: list[Finding]


class Check(Part):
    """One thing that was looked for on this machine."""

    name: str
    found: str
    """Where, or which; empty when it lacks."""
    needed_by: str
    remedy: str
    required: bool


class Install(Part):
    """Whether this machine is fit."""

    fit: bool
    checks: list[Check]


class BrokerStarted(Part):
    """A broker that is ready for a run."""

    accounts: str
    """The file with its accounts."""
    amqp_address: str
    management_url: str
    running: bool


class BrokerStopped(Part):
    """A broker that was ended."""

    ended: list[str]
    """Names of processes."""
    running: bool


class BrokerStatus(Part):
    """How the broker of a directory is."""

    directory: str
    state: str
    address: str
    management_url: str
    pid: int | None
    memory_bytes: int
    processes: int
    shared: bool
    """It is somebody else's; we only have a part of it."""
    event_exchange: bool
    running: bool


class CoordinatorStarted(Part):
    """A coordinator that serves."""

    pid: int
    """Of its supervisord."""
    state_dir: str
    accounts: str


class CoordinatorChecked(Part):
    """How the services of a coordinator are."""

    services: dict[str, str]
    """What is wrong with each, empty for well."""
    well: bool


class CoordinatorStopped(Part):
    """A coordinator that was ended."""

    ended: bool
    """False: it did not run."""


class Wheel(Part):
    """A wheel."""

    source: str
    sha256: str
    size: int


class Wheelhouse(Part):
    """Wheels for machines that have no index."""

    directory: str
    sha256: str
    """Of its manifest."""
    wheels: dict[str, Wheel]
    """By file name."""
    fresh: int
    """How many were written now."""


class ImageDescription(Part):
    """What an image holds."""

    digest: str
    suite: str
    kernel: str
    packages: int
    agent: str
    """Its version; empty: none is baked in."""
    command_line: str
    built_at: float
    version: int


class Image(Part):
    """An image of the cloud `qemu`."""

    name: str
    path: str
    image: ImageDescription


class ImageBuilt(Image):
    """An image that is there now."""

    fresh: bool
    """False: it was there already."""
    seconds: float


class Images(Part):
    """The images of this machine."""

    store: str
    images: list[Image]
