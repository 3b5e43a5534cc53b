"""Brings the broker's accounts from its machine to the coordinator's, and to this one.

The accounts are secret: they go from machine to machine by the way the boot tool runs
programs there, the cloud driver's own or ssh, as input and output of those programs, into
files that only their owner can read. No word of a command, no log, no record and no user-data
has them.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path

from bootlevels.api import Run
from bootlevels.plans.outputs import write_outputs
from bootlevels.run_place import StepFailed
from bootlevels.transports.files import FileNotMoved
from coordinator.errors import EpuError

ON_THE_BROKER = "/var/lib/epu/broker/accounts.json"
ON_THE_COORDINATOR = "/etc/epu/accounts.json"
CREDENTIALS = "/etc/epu/coordinator.env"


def main() -> int:
    """Bring them; tells the plan ``accounts``, the file on this machine."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--run", default=os.environ.get("EPU_RUN"), help="default: $EPU_RUN")
    parser.add_argument("--broker", required=True, metavar="SERVICE", help="on its machine")
    parser.add_argument("--coordinator", required=True, metavar="SERVICE", help="on its machine")
    parser.add_argument("--accounts", type=Path, required=True, help="where they go here")
    parser.add_argument("--credentials", type=Path, help="for the coordinator: NAME=value lines")
    parser.add_argument("--within", type=float, default=100.0, metavar="SECONDS")
    asked = parser.parse_args()
    if not asked.run:
        parser.error("which run? Give --run or set EPU_RUN")
    deadline = time.monotonic() + asked.within
    try:
        run = Run.open(asked.run)
        accounts = run.files(asked.broker).fetch(ON_THE_BROKER, deadline)
        keep_here(asked.accounts, accounts)
        if ca := json.loads(accounts).get("ca"):
            # For `epu --broker` on machines that have nothing but an address and a password.
            keep_here(asked.accounts.with_name("ca.pem"), ca.encode())
        credentials = asked.credentials.read_bytes() if asked.credentials else b""
        coordinator = run.files(asked.coordinator)
        coordinator.put(CREDENTIALS, credentials, deadline)
        coordinator.put(ON_THE_COORDINATOR, accounts, deadline)
        write_outputs({"accounts": str(asked.accounts)})
    except (EpuError, StepFailed, FileNotMoved, OSError, ValueError) as problem:
        print(f"the accounts were not brought: {problem}", file=sys.stderr)
        return 1
    return 0


def keep_here(path: Path, content: bytes) -> None:
    """Write a file that only its owner can read; all of it or nothing."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    os.rename(new, path)


if __name__ == "__main__":
    sys.exit(main())
