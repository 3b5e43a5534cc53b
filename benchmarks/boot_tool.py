"""What the boot tool costs, as ratios against a bare loop of the same programs in the same run.

``python -m benchmarks.boot_tool [--services N] [--json]``. Exit code 1 when an aim is
missed. The bare loop spawns each program with ``subprocess`` and waits for it, level by
level, with as many threads as the boot tool has: what no boot tool can be faster than.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

LEVELS = 10


@dataclass(frozen=True)
class Figure:
    """One measurement; ``aim`` is the most that ``value`` may be."""

    name: str
    value: float
    unit: str
    aim: float | None = None
    note: str = ""

    @property
    def met(self) -> bool:
        return self.aim is None or self.value <= self.aim

    def __str__(self) -> str:
        aim = "" if self.aim is None else f"  (aim ≤ {self.aim:g} {self.unit})"
        verdict = "" if self.met else "  MISSED"
        note = f"  [{self.note}]" if self.note else ""
        return f"{self.name:52} {self.value:9.2f} {self.unit}{aim}{verdict}{note}"


def plan_text(services: int, run: str) -> str:
    """LEVELS levels with ``services`` local services in all, each running ``run``."""
    each = services // LEVELS
    lines = ["plan: bench", "levels:"]
    for level in range(LEVELS):
        lines.append("  - services:")
        lines += [f"      s{level}-{n}: {{local: true, boot: {{run: {run}}}}}" for n in range(each)]
    return "\n".join(lines) + "\n"


@contextmanager
def home() -> Iterator[Path]:
    """A home of its own for the runs of one measurement."""
    with tempfile.TemporaryDirectory(prefix="epu-bench-") as directory:
        before = os.environ.get("EPU_HOME")
        os.environ["EPU_HOME"] = directory
        try:
            yield Path(directory)
        finally:
            if before is None:
                del os.environ["EPU_HOME"]
            else:
                os.environ["EPU_HOME"] = before


def timed(work: Callable[[], object]) -> float:
    """Seconds that ``work`` takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def bare_loop(services: int, words: list[str], threads: int) -> float:
    """Seconds for the same programs, level by level, without a boot tool around them."""

    def spawn(_: int) -> None:
        subprocess.run(words, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)

    def levels() -> None:
        for _ in range(LEVELS):
            with ThreadPoolExecutor(min(threads, services // LEVELS)) as pool:
                list(pool.map(spawn, range(services // LEVELS)))

    return timed(levels)


def booted(services: int, run: str) -> tuple[float, float]:
    """Seconds to boot, and seconds to read, check and store, ``services`` of ``run``."""
    from bootlevels.api import Run

    with home() as directory:
        path = directory / "plan.yaml"
        path.write_text(plan_text(services, run))
        began = time.perf_counter()
        prepared = Run.prepare(path)
        prepare = time.perf_counter() - began
        took = timed(lambda: _must(prepared.boot().ok))
        return took, prepare


def _must(ok: bool) -> None:
    if not ok:
        raise SystemExit("the boot failed: its figures mean nothing")


def overhead(services: int) -> list[Figure]:
    """What each service costs."""
    from bootlevels.runner import MAX_THREADS

    figures = []
    bare = bare_loop(services, ["true"], MAX_THREADS)
    took, prepare = booted(services, "'true'")
    all_in = took + prepare
    figures += [
        Figure("true: boot, all in, a service", all_in / services * 1000, "ms", 10),
        Figure("true: of it reading, checking, storing the plan", prepare / services * 1000, "ms"),
        Figure("true: bare loop, a service", bare / services * 1000, "ms"),
        Figure("true: boot / bare loop", took / bare, "×"),
    ]
    # By turns and the best of each: other work on this machine is nobody's cost.
    pairs = [
        (bare_loop(services, ["sleep", "0.05"], MAX_THREADS), booted(services, "sleep 0.05")[0])
        for _ in range(2)
    ]
    bare, took = (min(each) for each in zip(*pairs, strict=True))
    note = f"{took:.2f} s against {bare:.2f} s"
    figures.append(Figure("sleep 50 ms: boot / bare loop", took / bare, "×", 1.5, note))
    return figures


def chatter(lines: int = 100_000) -> list[Figure]:
    """A service that prints much, against the same program into a file that is then read."""
    program = f"seq -f 'a line of output that somebody may want to read %.0f' {lines}"

    def bare() -> None:
        with tempfile.TemporaryFile() as file:
            subprocess.run(["sh", "-c", program], check=True, stdout=file)
            file.seek(0)
            for _ in file:
                pass

    from bootlevels.api import Run

    def once(path: Path, name: str) -> None:
        _must(Run.prepare(path, name=name).boot().ok)

    with home() as directory:
        path = directory / "plan.yaml"
        command = json.dumps(["sh", "-c", program])
        path.write_text(
            f"plan: bench\nlevels: [{{services: {{a: {{local: true, boot: {{run: {command}}}}}}}}}]"
        )
        silent = path.with_name("silent.yaml")
        silent.write_text(path.read_text().replace(json.dumps(program), '"true"'))
        tries = range(5)  # one look at a busy machine is chance: the best of each counts
        quiet = min(timed(partial(once, silent, f"quiet{n}")) for n in tries)
        took = min(timed(partial(once, path, f"loud{n}")) for n in tries)
        base = min(timed(bare) for _ in tries)
    note = f"{(took - quiet) * 1000:.0f} ms against {base * 1000:.0f} ms"
    return [
        Figure(f"{lines} lines of output / reading them", (took - quiet) / base, "×", 1.0, note)
    ]


def validation(services: int = 1000) -> list[Figure]:
    """How long the checks of a large plan take, the import of the checkers not counted."""
    from bootlevels.plan_choices import PlanChoices
    from bootlevels.plan_source import read_launch_plan

    with home() as directory:
        path = directory / "plan.yaml"
        text = plan_text(services, "'true'")
        path.write_text(text.replace("s9-0: {", "s9-0: {attributes: {x: '${s8-0.name}'}, "))
        took = min(timed(lambda: read_launch_plan(path, PlanChoices())) for _ in range(3))
        command = [sys.executable, "-m", "mgmt.cli", "validate", str(path)]
        whole = timed(lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL))
    return [
        Figure(f"validation of {services} services", took, "s", 1.0),
        Figure("  as a command, Python's start included", whole, "s"),
    ]


def memory(services: int) -> list[Figure]:
    """The most memory that booting a large plan takes, in a process of its own."""
    script = (
        "import sys, resource; from pathlib import Path; from bootlevels.api import Run; "
        "assert Run.prepare(Path(sys.argv[1])).boot().ok; "
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    with home() as directory:
        path = directory / "plan.yaml"
        path.write_text(plan_text(services, "'true'"))
        done = subprocess.run(
            [sys.executable, "-c", script, str(path)], check=True, capture_output=True, text=True
        )
    return [Figure("memory of the boot tool", int(done.stdout) / 1024, "MB", 150)]


def main() -> int:
    """Measure, print, and say by the exit code whether every aim was met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--services", type=int, default=1000, help="services in ten levels")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    given = parser.parse_args()
    booted(LEVELS, "'true'")  # imports are not part of any figure
    figures = [
        *overhead(given.services),
        *chatter(),
        *validation(),
        *memory(given.services),
    ]
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    if given.json:
        print(json.dumps([{**asdict(f), "met": f.met} for f in figures], indent=2))
    else:
        print("\n".join(str(figure) for figure in figures))
        load = ", ".join(f"{part:.1f}" for part in os.getloadavg())
        print(f"load {load} on {os.cpu_count()} processors, children {children.ru_utime:.1f} s")
    return 0 if all(figure.met for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
