"""Looking at the running sleeper beside everything else: samples, and a line for each change."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from agent.keepers import KeeperCalls
from agent.rpc_client import CallFailed, RpcClient
from mgmt.demo.proofs import Sample

#: Seconds between two looks.
LOOK_EVERY = 0.25


class Watch:
    """A thread that looks at one pool until it is closed; ``say`` gets lines to print."""

    def __init__(self, url: str, pool: str, done_file: Path, say: Callable[[str], None]) -> None:
        self._url = url
        self._pool = pool
        self._done_file = done_file
        self._say = say
        self._closing = threading.Event()
        self.samples: list[Sample] = []
        self.status: dict[str, Any] = {}
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._thread.join(timeout=15)

    def wait_for(self, condition: Callable[[Sample], bool], timeout: float, what: str) -> Sample:
        """The first sample from now on that fits. Raises TimeoutError saying ``what``."""
        deadline = time.monotonic() + timeout
        seen = len(self.samples)
        while time.monotonic() < deadline:
            for sample in self.samples[seen:]:
                seen += 1
                if condition(sample):
                    return sample
            self._closing.wait(LOOK_EVERY / 2)
        last = self.samples[-1] if self.samples else None
        raise TimeoutError(f"{what}: not within {timeout:g} s; last seen: {last}")

    def _run(self) -> None:
        said: tuple[object, ...] = ()
        with RpcClient(self._url, timeout=5) as client:
            call = KeeperCalls(client.call).call
            while not self._closing.wait(LOOK_EVERY):
                with suppress(CallFailed):
                    self.status = call("controller", "pool", self._pool)
                    sample = sample_of(self.status, done_count(self._done_file), time.time())
                    if sample is None:
                        continue
                    self.samples.append(sample)
                    now = (sample.done // 5, sample.running, sample.pending, sample.draining)
                    if now != said:
                        said = now
                        self._say(line_of(sample, self.status))


def sample_of(status: dict[str, Any], done: int, now: float) -> Sample | None:
    """A look at a pool's status as a Sample; None of a controller that did not look yet itself.

    One that was just started anew knows of no workers, which is no sign that there are none.
    """
    if status["decided_age"] is None:
        return None
    # A status is as of the controller's last cycle, not of now.
    seen_at = now - status["decided_age"]
    counts = {name.rsplit(".", 1)[-1]: one["value"] for name, one in status["readings"].items()}
    return Sample(
        at=seen_at,
        done=done,
        ready=_whole(counts.get("ready")),
        unacknowledged=_whole(counts.get("unacknowledged")),
        running=status["running"],
        pending=status["pending"],
        draining=status["draining"],
        wanted=status["wanted"],
        state=status["state"],
        reason=status["reason"],
    )


def line_of(sample: Sample, status: dict[str, Any]) -> str:
    """One line of the live view: jobs, a sign for each worker, the reason."""
    signs = "".join(_sign(instance) for instance in status["instances"])
    waiting = "?" if sample.ready is None else sample.ready
    in_hand = "?" if sample.unacknowledged is None else sample.unacknowledged
    jobs = f"jobs {sample.done:3} done {waiting:>3} waiting {in_hand:>2} in hand"
    return f"{jobs} | {signs:<8} | {sample.reason}"


#: What the lines of ``line_of`` show; the queue's figures are the broker's, up to a second old.
LEGEND = "each worker: ● busy  ○ idle  … starting  ▽ draining  × ending"


def _sign(instance: dict[str, Any]) -> str:
    """● busy, ○ idle, … booting, ▽ draining, × anything else."""
    if instance["state"] == "RUNNING":
        return "●" if instance["busy"] else "○"
    if instance["state"] in ("REQUESTED", "LAUNCHING", "BOOTING"):
        return "…"
    return "▽" if instance["state"] == "DRAINING" else "×"


def done_count(path: Path) -> int:
    """Different jobs in the done-file."""
    try:
        return len({line.split()[0] for line in path.read_text().splitlines() if line.strip()})
    except FileNotFoundError:
        return 0


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)
