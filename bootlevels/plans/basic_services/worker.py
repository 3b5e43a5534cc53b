"""The workers of both pools: each job is counted in the datastore.

``python worker.py --services services.json --queue QUEUE``
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from agent.worker import Job, run
from bootlevels.plans.basic_services.datastore import datastore


def main() -> None:
    """Exit 0 after SIGTERM, 2 when it was started wrongly."""
    parser = argparse.ArgumentParser(description="A worker that counts its jobs.")
    parser.add_argument("--services", type=Path, required=True, help="the rendered configuration")
    parser.add_argument("--queue", required=True)
    options = parser.parse_args()
    counter = datastore(options.services)

    def work(job: Job) -> None:
        time.sleep(float(job.json()["sleep"]))
        counter.add(1)

    run(work, options.queue)


if __name__ == "__main__":
    main()
