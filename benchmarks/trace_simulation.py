"""A week of 5-minute points through ``epu simulate``'s core, for each kind of policy.

``python -m benchmarks.trace_simulation [--json]``. Exit code 1 when the aim is missed: 5 s
of CPU for one pool and a week. Beside it the time of a bare loop over as many cycles, taken
in the same run, so that figures of a slow or busy machine can be told from slow code.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from random import Random
from typing import Any

from coordinator.plugins import find_plugin
from coordinator.pool_spec import parse_pool
from coordinator.simulation.policy_run import run_policy
from coordinator.simulation.trace_load import Trace, load_of
from coordinator.simulation.trace_times import times_of

AIM = 5.0
BEGAN = 1_790_000_000.0
POINTS = 7 * 288
ENGINES: tuple[dict[str, Any], ...] = (
    {
        "type": "queue_length",
        "queue": "work",
        "queuelen_high_water": 10,
        "queuelen_low_water": 2,
        "max_instances": 40,
    },
    {"type": "target_tracking", "queue": "work", "target": 2},
    {"type": "time_to_drain", "queue": "work", "drain_time": 300, "boot_time": 60},
)


def week() -> Trace:
    """Office days: about 300,000 messages, noisy, none at night."""
    random = Random(5)
    hours = (place % 288 / 12 for place in range(POINTS))
    values = tuple(
        max(0.0, round(150 + 140 * math.sin((hour - 8) / 24 * 2 * math.pi) + random.gauss(0, 20)))
        for hour in hours
    )
    times = tuple(BEGAN + 300 * place for place in range(POINTS))
    return Trace(kind="rates", times=times, values=values)


def bare_loop(turns: int) -> float:
    """Seconds of CPU for so many turns of plain Python, 100 additions each."""
    began = time.process_time()
    for _ in range(turns):
        total = 0
        for number in range(100):
            total += number
    return time.process_time() - began


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for section in ENGINES:
        spec = parse_pool("p", {"engine": section, "max": 60, "stabilization_window": 600})
        engine = find_plugin("epu.engines", spec.engine_type)()
        began = time.process_time()
        load = load_of(week(), times_of("exponential:20"), Random(1))
        run = run_policy(spec, engine, load, times_of("lognormal:60,20"), seed=1)
        seconds = time.process_time() - began
        rows.append(
            {
                "engine": spec.engine_type,
                "seconds": round(seconds, 2),
                "cycles": run.cycles,
                "messages": len(load.arrivals),
                "times_bare_loop": round(seconds / bare_loop(run.cycles), 1),
            }
        )
    met = all(row["seconds"] <= AIM for row in rows)
    document = {"load_average": os.getloadavg()[0], "aim": AIM, "met": met, "rows": rows}
    if asked.json:
        print(json.dumps(document))
    else:
        for row in rows:
            print(
                f"{row['engine']:16} {row['seconds']:6.2f} s CPU (aim <= {AIM:g} s), "
                f"{row['cycles']} cycles, {row['messages']} messages, "
                f"{row['times_bare_loop']} times a bare loop"
            )
        print(f"load average {document['load_average']:.1f}")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
