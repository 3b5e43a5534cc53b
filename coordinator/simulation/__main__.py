"""``python -m coordinator.simulation``: live one history and show it, or very many.

A seed that fails prints the line that lives it again, the smallest history found that
still fails, and the last of what happened in it. Exit code 1: something is broken.
"""

from __future__ import annotations

import argparse
import os
import sys
import time

from coordinator.simulation.living import Outcome, live_seed
from coordinator.simulation.many import live_many
from coordinator.simulation.minimise import minimised

#: Lines of the smallest failing history that are shown.
SHOWN = 40


def main(words: list[str] | None = None) -> int:
    """The command. Returns its exit code."""
    options = _parser().parse_args(words)
    if options.seed is not None:
        return _one(options.seed, options.trace)
    began, last_said = time.monotonic(), 0.0
    seeds = range(options.first, options.first + options.seeds)
    failed: dict[int, Outcome] = {}

    def tell(seed: int, outcome: Outcome) -> None:
        nonlocal last_said
        if outcome.broken:
            failed[seed] = outcome
            print(f"seed {seed}: {outcome.broken[0]}", flush=True)
            print(f"  again: {outcome.replay}", flush=True)
        lived[0] += 1
        now = time.monotonic()
        if now - last_said >= 10.0:
            last_said = now
            rate = lived[0] / (now - began)
            print(f"{lived[0]} of {len(seeds)}, {rate:.1f} a second, {len(failed)} broken",
                  file=sys.stderr, flush=True)  # fmt: skip

    lived = [0]
    tally = live_many(
        seeds, options.cores, lambda: time.monotonic() - began > options.minutes * 60, tell
    )
    print(tally.sentence())
    if tally.lived < len(seeds):
        print(f"not all of {len(seeds)}: {options.minutes:g} minutes are over (--minutes)")
    for seed in sorted(failed)[:3]:
        _explain(failed[seed])
    return 1 if failed else 0


def _one(seed: int, trace: bool) -> int:
    outcome = live_seed(seed, whole_trace=trace)
    if trace:
        for happening in outcome.history.happenings:
            print(happening)
        print("\n".join(outcome.lines))
    print(f"seed {seed}: {outcome.seconds:.0f} s, {outcome.events} events, "
          f"{outcome.machines} machines, trace {outcome.digest}")  # fmt: skip
    if not outcome.broken:
        print("everything held")
        return 0
    _explain(outcome)
    return 1


def _explain(outcome: Outcome) -> None:
    """Show the smallest history that fails like this one."""
    for sentence in outcome.broken:
        print(f"BROKEN: {sentence}")
    print(f"again: {outcome.replay}")
    smallest = minimised(outcome)
    cut = len(outcome.history.happenings) - len(smallest.history.happenings)
    print(f"the smallest history found that still fails ({cut} happenings fewer):")
    for pool in smallest.history.pools:
        print(f"  pool {pool.name}: {dict(pool.section)}, {len(pool.arrivals)} arrivals")
    for happening in smallest.history.happenings:
        print(f"  {happening}")
    print("and its end:")
    for line in smallest.lines[-SHOWN:]:
        print(f"  {line[:240]}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m coordinator.simulation",
        description="Lives simulated histories of fleets, and checks that what must hold holds.",
    )
    parser.add_argument("--seed", type=int, help="live this one, and explain what it breaks")
    parser.add_argument("--trace", action="store_true", help="with --seed: print all of it")
    parser.add_argument("--seeds", type=int, default=200, help="how many (default 200)")
    parser.add_argument("--from", dest="first", type=int, default=0, help="the first (default 0)")
    parser.add_argument("--cores", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--minutes", type=float, default=120.0, help="stop after (default 120)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
