"""The sleeper's worker: takes jobs from a queue and sleeps for as long as each says.

A job is JSON: ``{"id": "…", "sleep": seconds}``. All that a worker owes its queue and its node
is done by ``agent.worker``.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

from agent.worker import Job, NotAJob, run

#: The longest sleep, seconds.
LONGEST = 86_400


def seconds_of(job: Job) -> float:
    """How long to sleep. Raises NotAJob."""
    found = job.json()
    try:
        seconds = float(found["sleep"])
        str(found["id"])
    except (ValueError, TypeError, KeyError) as problem:
        raise NotAJob(f"not a job: {problem!r}") from None
    if not 0 <= seconds <= LONGEST:
        raise NotAJob(f"sleep must be between 0 and {LONGEST}, not {seconds}")
    return seconds


def note_done(path: Path, job_id: str, node_id: str) -> None:
    """One line by one write: workers of many nodes may share the file."""
    line = f"{job_id} {node_id} {time.time():.3f}\n".encode()
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(handle, line)
    finally:
        os.close(handle)


def main() -> None:
    """The command line; exit 0 after SIGTERM, 2 when it was started wrongly."""
    parser = argparse.ArgumentParser(description="A worker that sleeps for each job.")
    parser.add_argument("--queue", required=True, help="the durable queue the jobs are in")
    parser.add_argument(
        "--done-file", type=Path, help="append a line 'job-id node-id time' for each job done"
    )
    options = parser.parse_args()

    def sleep(job: Job) -> None:
        time.sleep(seconds_of(job))
        if options.done_file is not None:
            note_done(options.done_file, job.id, os.environ.get("EPU_NODE_ID", ""))

    run(sleep, options.queue)


if __name__ == "__main__":
    main()
