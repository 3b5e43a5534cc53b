"""``epu exercise``."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mgmt.exit_codes import ExitCode
from mgmt.invocation.cli import Invocation, pass_invocation, system_options

if TYPE_CHECKING:
    from mgmt.exercise.conductor import Exercise
    from mgmt.exercise.timeline import Timeline
    from mgmt.run_locator import RunningSystem


@click.command()
@click.argument("timeline", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--graph", "picture", type=click.Path(dir_okay=False, path_type=Path),
              metavar="FILE", help="Where the picture goes: .svg, .png or .csv (default: "
              "exercise.svg, in the run's directory or here).")  # fmt: skip
@click.option("--check", is_flag=True, help="Only say whether it could be done; break nothing.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask before things are broken.")
@system_options
@pass_invocation
def exercise(
    invocation: Invocation, timeline: Path, picture: Path | None, check: bool, yes: bool
) -> int:
    """Do to a running system what TIMELINE says, and judge what comes of it.

    A timeline (YAML, docs/exercises.md) submits jobs, kills a worker's machine or a process
    of the coordinator, restarts the run's private broker, changes N, and says what must be
    true in the end. Only what belongs to the run is ever ended, and a broker of somebody
    else never. Exit 0 when all held, 1 when something did not.

    \b
    Examples:
      epu exercise storm.yaml --check
      epu exercise storm.yaml --run demo --yes --graph storm.png
    """
    from mgmt.exercise.conductor import Exercise
    from mgmt.exercise.timeline_file import read_timeline

    output = invocation.output
    if picture is not None:
        from mgmt.graph import format_of

        format_of(picture)
    wanted = read_timeline(timeline)
    system = invocation.system()
    began = time.monotonic()

    def say(line: str) -> None:
        output.note(f"{time.monotonic() - began:6.1f} s  {line}")

    found = Exercise(timeline=wanted, system=system, say=say)
    found.check()
    if check:
        lines = [f"{step.at:6.1f} s  {step}" for step in wanted.steps]
        output.result("exercise", {"exercise": wanted.exercise, "possible": True},
                      [*lines, "all of it can be done from here"])  # fmt: skip
        return ExitCode.WELL
    if wanted.disturbances and not yes:
        _confirm(wanted, system)
    began = time.monotonic()
    found.perform()
    drawn = _draw(found, picture or _usual_place(system))
    held = all(proof.held for proof in found.proofs)
    document = {
        "exercise": wanted.exercise,
        "run": system.run,
        "pool": wanted.pool,
        "held": held,
        "sent": len(found.sent),
        "proofs": [
            {"claim": proof.claim, "held": proof.held, "figures": proof.figures}
            for proof in found.proofs
        ],
        "seconds": round(time.monotonic() - began, 1),
        "graph": str(drawn),
    }
    lines = [f"{'yes' if p.held else 'NO':>3}  {p.claim} ({p.figures})" for p in found.proofs]
    output.result("exercise", document, [*lines, f"graph: {drawn}"])
    return ExitCode.WELL if held else ExitCode.PROBLEM


def _confirm(wanted: Timeline, system: RunningSystem) -> None:
    steps = "; ".join(str(step) for step in wanted.disturbances)
    if not sys.stdin.isatty():
        raise click.UsageError(f"it breaks things in run '{system.run}': say --yes")
    click.confirm(f"In run '{system.run}': {steps}. Go on?", abort=True, err=True)


def _usual_place(system: RunningSystem) -> Path:
    directory = system.state_dir.parent if system.state_dir is not None else Path()
    return directory / "exercise.svg"


def _draw(found: Exercise, target: Path) -> Path:
    from mgmt.graph import Mark
    from mgmt.pool_picture import draw_pool, pool_panels

    sent = set(found.sent)
    done = {
        str(event.extra.get("job")): event.time
        for event in reversed(found.events)
        if event.name == "job_end" and event.extra.get("outcome", "done") == "done"
    }
    moments = [at for job, at in done.items() if job in sent]
    panels = pool_panels(found.samples, [(found.began, 0.0), *found.sent_at], moments)
    marks = [Mark(at, str(step)) for at, step in found.begun if step.wait is None]
    title = f"{found.timeline.exercise} ({found.timeline.pool})"
    return draw_pool(target, panels, title, marks, found.began)


commands = (exercise,)
