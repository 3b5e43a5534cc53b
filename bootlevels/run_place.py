"""Where a run lives on the launching machine, and the failure that every step may raise."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path


class StepFailed(Exception):
    """A step did not succeed; ``tail`` are a program's last lines, secrets masked."""

    def __init__(
        self,
        text: str,
        *,
        tail: tuple[str, ...] = (),
        unreachable: bool = False,
        interrupted: bool = False,
    ) -> None:
        self.tail = tail
        self.unreachable = unreachable
        self.interrupted = interrupted
        super().__init__(text)


@dataclass(frozen=True, kw_only=True)
class RunPlace:
    """Where a run lives, and what its programs are told. ``home`` is EPU_HOME."""

    name: str
    directory: Path
    home: Path

    def log(self, service: str) -> Path:
        return self.directory / "logs" / f"{service}.log"

    def bootout(self, service: str) -> Path:
        return self.directory / "bootout" / f"{service}.json"

    def kept_keys(self, machine: str) -> Path:
        """Where the ssh host key of a machine is kept from the first contact on."""
        return self.directory / "ssh" / machine

    @property
    def mark(self) -> str:
        """Tells this run from one of the same name elsewhere, on machines that both use."""
        return f"{self.name}-{zlib.crc32(str(self.directory).encode()):08x}"

    def environment(self, service: str) -> dict[str, str]:
        """For programs on this machine."""
        return {
            **self.environment_elsewhere(service),
            "EPU_HOME": str(self.home),
            "EPU_RUN_DIR": str(self.directory),
            "EPU_PLACE": str(self.directory),
            "EPU_BOOTOUT": str(self.bootout(service)),
        }

    def environment_elsewhere(self, service: str) -> dict[str, str]:
        """For programs on other machines, where this one's directories mean nothing."""
        return {"EPU_RUN": self.name, "EPU_SERVICE": service}
