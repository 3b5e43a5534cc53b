"""What a cloud driver is. PURE: values and the protocol only.

A driver is one class in one file plus an entry point in the group ``epu.clouds``; it
passes ``coordinator.testing.CloudDriverContract``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from agent.cloud_status import DEFAULT_BATCH_LIMIT


class MachineState(str, Enum):
    """What a cloud says of a machine. Only ``GONE`` ends a record by itself."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    STOPPING = "STOPPING"
    GONE = "GONE"


@dataclass(frozen=True, kw_only=True)
class LaunchRequest:
    """``count`` machines of one kind, indexes 0…count−1, as one idempotent launch.

    ``launch_id`` is the idempotency token and, with ``run`` and ``pool`` (or the boot
    tool's service name), the tags of every machine. ``user_data`` is the text the machine
    reads at its first boot; it holds no secret but a short-lived enrolment token.
    ``settings`` are the pool template's own keys (image, type, …), as text.
    """

    launch_id: str
    run: str
    pool: str
    count: int
    user_data: str = field(repr=False)
    attempt: int = 1
    settings: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class CloudInstance:
    """One machine as the cloud lists it. ``launched_at`` is the cloud's time, epoch s."""

    cloud_id: str
    run: str
    pool: str
    launch_id: str
    index: int
    state: MachineState
    addresses: tuple[str, ...] = ()
    launched_at: float | None = None
    price: float | None = None
    problem: str = ""


@dataclass(frozen=True, kw_only=True)
class ExecCommand:
    """A command of this host that is a program on a machine: see ``RunsPrograms``.

    ``environment`` is all that the command gets, nothing is inherited.
    """

    words: tuple[str, ...] = field(repr=False)
    environment: dict[str, str] = field(repr=False)
    directory: str


class RunsPrograms(Protocol):
    """What a driver may offer beside ``CloudDriver``: programs on its machines, from here.

    The boot tool's transport ``exec`` uses it for machines without an agent and without
    sshd. A driver that has no such way simply lacks the method.
    """

    def exec_command(
        self, cloud_id: str, words: Sequence[str], environment: Mapping[str, str]
    ) -> ExecCommand:
        """The command that runs ``words`` on the machine ``cloud_id``.

        Started in a process group of its own, it has the program's input, output and exit
        code; when its group is killed, no process of the program is left, and when the
        machine is terminated, neither. The program begins in the machine's own directory,
        which it may write to. Values of ``environment`` must not get into ``words``.
        Starts nothing itself. Raises NotFound when the machine is gone, RetryLater.
        """
        ...


class ExplainsBoot(Protocol):
    """What a driver may offer beside ``CloudDriver``: how far a machine's first boot is."""

    def boot_status(self, cloud_id: str) -> str | None:
        """What ``cloud-init status --long`` says on the machine, or None while it can't be had.

        Reads, never waits for the boot. Unknown or gone machines: None. Raises RetryLater.
        """
        ...


def batch_limit_of(driver: CloudDriver) -> int:
    """How many machines one launch of ``driver`` may have."""
    if not driver.batches:
        return 1
    return max(1, int(getattr(driver, "batch_limit", DEFAULT_BATCH_LIMIT)))


class CloudDriver(Protocol):
    """The only door to an IaaS.

    ``consistency_window``: for how many seconds after a change a listing may not show it
    yet (0 for a driver that reads the world itself). ``batches``: whether one call may
    start more than one machine. A driver may also be one of ``RunsPrograms``
    and ``ExplainsBoot``, and have

    * ``batch_limit``: machines of one launch at most, where it ``batches`` (default 100);
    * ``user_data_form``: which templates of ``userdata_templates`` fit its machines:
      ``cloud-init`` (the default), or ``agent-config`` where only our agent reads them.
    * ``machine_knows_id`` False: cloud-init's instance id may be another name than the
      ``cloud_id`` it lists, so that nobody compares the two when a node enrols.
    * ``loopback_address``: by which its machines reach this host's loopback interface, where
      that is another than 127.0.0.1.

    Every method may raise RetryLater, InsufficientCapacity, LaunchRefused or
    CredentialsRejected from ``coordinator.errors``; nothing else on purpose.
    """

    consistency_window: float
    batches: bool

    def launch(self, request: LaunchRequest) -> None:
        """Start the machines of ``request`` unless its ``launch_id`` was used before.

        Idempotent in ``launch_id`` at any distance and from any process. InsufficientCapacity
        says that neither this nor an earlier call of that launch id made a machine: another
        cloud is asked then. After RetryLater nobody knows. LaunchRefused for a launch id that
        another run has used.
        """
        ...

    def list_instances(
        self, run: str, launch_ids: Sequence[str] | None = None
    ) -> Sequence[CloudInstance]:
        """Machines tagged with ``run``; only those of ``launch_ids`` when given. May lag."""
        ...

    def terminate(self, cloud_ids: Sequence[str]) -> None:
        """End these machines. Already gone is no error; may return before they are."""
        ...

    def console_output(self, cloud_id: str) -> str | None:
        """The last lines the machine printed, or None where the cloud has none."""
        ...
