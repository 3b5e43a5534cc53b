"""Whether the system does what it is for: jobs put into every queue reach the datastore.

``python system_test.py --services services.json --jobs 5 --within 60 QUEUE…``

The last level of the plan: exit 0 when all were done in time, 1 when not, and then the boot
has failed.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from bootlevels.plans.basic_services.datastore import datastore
from bootlevels.plans.outputs import write_outputs
from bootlevels.plans.sleeper.producer import ProducerFailed, job_ids, produce, read_access
from bootlevels.plans.webapp.web import DatabaseTrouble

#: Seconds that a job takes, and between two looks.
JOB, LOOK = 0.1, 0.2


def test(options: argparse.Namespace) -> str:
    """Send jobs, wait for them. What was seen; raises TimeoutError saying what is missing."""
    counter = datastore(options.services)
    access = read_access(options.accounts)
    before, began = counter.add(0), time.monotonic()
    for queue in options.queues:
        produce(access, queue, job_ids(options.jobs, f"test-{time.time():.0f}"), JOB)
    sent = options.jobs * len(options.queues)
    while (done := counter.add(0) - before) < sent:
        if time.monotonic() - began > options.within:
            raise TimeoutError(f"{done} of {sent} jobs were done within {options.within:g} s")
        time.sleep(LOOK)
    seconds = time.monotonic() - began
    return f"system test: {sent} jobs through {len(options.queues)} pools in {seconds:.1f} s"


def main() -> int:
    """Exit 0; 1: the test failed; 2: wrong usage."""
    parser = argparse.ArgumentParser(description="Test the whole system.")
    parser.add_argument("--services", type=Path, required=True, help="the rendered configuration")
    parser.add_argument("--accounts", type=Path, required=True, help="the broker's accounts.json")
    parser.add_argument("--jobs", type=int, default=5, help="for each queue")
    parser.add_argument("--within", type=float, default=60.0, metavar="SECONDS")
    parser.add_argument("queues", nargs="+")
    try:
        said = test(parser.parse_args())
        write_outputs({"summary": said})
    except (TimeoutError, DatabaseTrouble, ProducerFailed, OSError, ValueError) as problem:
        print(f"system test: {problem}", file=sys.stderr)
        return 1
    print(said)
    return 0


if __name__ == "__main__":
    sys.exit(main())
