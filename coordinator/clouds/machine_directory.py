"""One machine of this host as a directory: what is in it, and its life on disk.

    machine.json    who it is; written once, before anything else (the claim)
    lock            held by whoever starts it
    started         it was started once, and never will be again
    terminated      it was terminated (the tombstone): nothing may start it any more
    logs/           what it printed; stays when the rest is wiped
    all else        the machine's disk, as its cloud made it

Directories are never removed or renamed by the driver, so that a lock or a tombstone means
the same to everybody at any time.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from coordinator.clouds.machine_launcher import STARTED, TOMBSTONE
from coordinator.errors import RetryLater

RECORD = "machine.json"
_LOCK = "lock"
#: How long to wait for somebody else who is starting the same machine, seconds.
LOCK_TIMEOUT = 15.0
#: Directories on which a machine mounts things, in a mount namespace of its own. They are
#: empty here, and must never be emptied: if ever one were not, it would be this host's root.
MOUNT_POINTS = frozenset({"lower", "merged"})
#: What stays of a terminated machine. All else goes: it may hold secrets.
_KEPT = frozenset({RECORD, _LOCK, STARTED, TOMBSTONE, "logs"})


@dataclass(frozen=True, kw_only=True)
class MachineRecord:
    """Who a machine is; times in epoch s.

    ``socket`` is where its supervisord listens, for a cloud that knows it.
    """

    run: str
    pool: str
    launch_id: str
    index: int
    mark: str
    launched_at: float
    socket: str = ""

    @property
    def node_id(self) -> str:
        return f"{self.launch_id}-{self.index}"

    @property
    def cloud_id(self) -> str:
        """Names the directory and the mark, so that it finds both without a search."""
        return f"{self.node_id}.{self.mark}"


class MachineDirectory:
    """The directory of one machine. Every method may raise OSError."""

    def __init__(self, root: Path, node_id: str) -> None:
        self.path = root / node_id

    def record(self) -> MachineRecord | None:
        """Who this machine is; None when nothing was claimed here.

        A file that a power failure left damaged counts as none: its machine ended then.
        """
        try:
            return MachineRecord(**json.loads((self.path / RECORD).read_text()))
        except (FileNotFoundError, NotADirectoryError, ValueError, TypeError):
            return None

    def started(self) -> bool:
        return (self.path / STARTED).exists()

    def terminated(self) -> bool:
        return (self.path / TOMBSTONE).exists()

    def mark_started(self) -> None:
        write_atomically(self.path / STARTED, "")

    def mark_terminated(self) -> None:
        write_atomically(self.path / TOMBSTONE, "")

    def make_logs(self) -> None:
        (self.path / "logs").mkdir(mode=0o700, exist_ok=True)

    @contextmanager
    def locked(self, timeout: float) -> Iterator[int]:
        """Hold the machine's lock; gives its descriptor, to be inherited by the launcher.

        Raises RetryLater when somebody else holds it for longer than ``timeout`` seconds.
        """
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            deadline = time.monotonic() + timeout
            while not _try_lock(descriptor):
                if time.monotonic() > deadline:
                    raise RetryLater(f"{self.path.name} is being started by another process")
                time.sleep(0.01)
            yield descriptor
        finally:
            os.close(descriptor)

    def is_locked(self) -> bool:
        """Whether somebody is starting it right now."""
        try:
            descriptor = os.open(self.path / _LOCK, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            return not _try_lock(descriptor)
        finally:
            os.close(descriptor)

    def clean(self, record: MachineRecord) -> None:
        """Remove all but the logs and the files that say what became of the machine."""
        for entry in self.path.iterdir():
            if entry.name in _KEPT:
                continue
            if entry.name in MOUNT_POINTS:
                entry.rmdir()
            elif entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink(missing_ok=True)
        self.remove_socket(record)

    def remove_socket(self, record: MachineRecord) -> None:
        """Remove what holds the socket of a machine without processes, if that is elsewhere."""
        if record.socket and not record.socket.startswith(f"{self.path}/"):
            shutil.rmtree(Path(record.socket).parent, ignore_errors=True)


def write_record(directory: MachineDirectory, record: MachineRecord) -> None:
    """Claim the directory for ``record``."""
    write_atomically(directory.path / RECORD, json.dumps(asdict(record)))


def write_atomically(path: Path, text: str) -> None:
    """Create or replace a file (mode 0600): all of it or, on any error, nothing."""
    new = path.with_name(f".{path.name}.new")
    descriptor = os.open(
        new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
    )
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(text.encode())
        os.rename(new, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(new)
        raise


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
