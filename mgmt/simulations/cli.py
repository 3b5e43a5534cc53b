"""``epu simulate``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from coordinator.errors import ConfigProblem
from mgmt.exit_codes import ExitCode
from mgmt.invocation.cli import Invocation, pass_invocation, system_options
from mgmt.output import Table, age_text

if TYPE_CHECKING:
    from coordinator.simulation.policy_report import PolicyReport
    from coordinator.simulation.trace_load import Trace
    from coordinator.simulation.trace_times import Times

_FILE = click.Path(dir_okay=False, path_type=Path)
#: Seconds, where neither a person nor a recorded run says how long a boot takes.
_BOOT_TIME = "60"


@click.command(name="simulate")
@click.option("--pool", "pools", multiple=True, required=True, metavar="FILE", type=_FILE,
              help="A pool's section, as for 'epu pool add -f'; several are compared.")  # fmt: skip
@click.option("--trace", required=True, metavar="CSV|RUN", help="A file, or a recorded run.")
@click.option("--of", metavar="POOL", help="Which pool of a recorded run.")
@click.option("--service", metavar="TIMES", help="Seconds a message takes; see below.")
@click.option("--boot-time", metavar="TIMES",
              help=f"Of a machine (default: the recorded run's, else {_BOOT_TIME} s).")  # fmt: skip
@click.option("--price", type=click.FloatRange(min=0), metavar="$", help="Per machine and hour.")
@click.option("--high-water", type=click.FloatRange(min=0), metavar="N",
              help="Messages, for 'over high water' (default: the engine's own).")  # fmt: skip
@click.option("--wait-target", type=click.FloatRange(min=0), metavar="S",
              help="Say which share of messages waits longer.")  # fmt: skip
@click.option("--workers", type=click.IntRange(min=0), metavar="N",
              help="Workers at the beginning (default: the pool's min).")  # fmt: skip
@click.option("--step", type=click.FloatRange(min=1), default=30.0, show_default=True,
              metavar="S", help="Longest time between two cycles.")  # fmt: skip
@click.option("--seed", type=int, default=1, show_default=True, help="Of all that is drawn.")
@click.option("--out", metavar="FILE", type=_FILE, help="Draw it: .svg, .png or .csv.")
@system_options
@pass_invocation
def simulate_command(
    invocation: Invocation,
    pools: tuple[Path, ...],
    trace: str,
    of: str | None,
    service: str | None,
    boot_time: str | None,
    price: float | None,
    high_water: float | None,
    wait_target: float | None,
    workers: int | None,
    step: float,
    seed: int,
    out: Path | None,
) -> int:
    """What pools would cost and how long messages would wait, over a load trace.

    The engines and bounds are those that run in the controller. A trace is CSV with the
    columns time,service (each message), time,arrivals (messages until the next row) or
    time,queue (its length). TIMES are 60, lognormal:60,20 (mean, deviation), exponential:30
    or uniform:40,90. See docs/simulate.md.

    \b
    Examples:
      epu simulate --pool batch.yaml --trace week.csv --service exponential:20 --price 0.1
      epu simulate --pool a.yaml --pool b.yaml --trace week.csv --service 20 --out ab.svg
      epu simulate --pool new.yaml --trace demo --of batch
    """
    from random import Random

    from coordinator.simulation.policy_report import report_of
    from coordinator.simulation.policy_run import run_policy
    from coordinator.simulation.trace_load import load_of
    from coordinator.simulation.trace_times import times_of
    from mgmt.simulations.inputs import policies_of, trace_of

    given_service = _given("--service", service, times_of)
    given_boot = _given("--boot-time", boot_time, times_of)
    if out is not None:
        _suffix_checked(out)
    policies = policies_of(pools)
    found, measured = trace_of(invocation, trace, of)
    if found.needs_service and given_service is None:
        raise click.UsageError("the trace does not say how long a message takes: give --service")
    boots = given_boot or measured or times_of(_BOOT_TIME)
    load = load_of(found, given_service, Random(seed))
    if load.group > 1:
        invocation.output.note(f"{load.group} messages at a time: there are very many")
    runs = {
        policy.name: run_policy(
            policy.spec,
            policy.engine,
            load,
            boots,
            seed=seed,
            step=step,
            workers=workers,
        )
        for policy in policies
    }
    reports = [
        report_of(name, run, price=price, high_water=high_water, wait_target=wait_target)
        for name, run in runs.items()
    ]
    if out is not None:
        from mgmt.graph import write_graph
        from mgmt.simulations.drawing import panels_of

        write_graph(out, panels_of(runs, out.suffix.lower() == ".csv"), f"trace {trace}")
        invocation.output.note(f"drawn in {out}")
    document = {
        "trace": {"source": found.source, "kind": found.kind, "began": load.began,
                  "seconds": load.ends - load.began, "messages": len(load.arrivals) * load.group,
                  "service": load.mean_service},
        "boot_time": str(boots),
        "seed": seed,
        "step": step,
        "policies": [report.to_dict() for report in reports],
    }  # fmt: skip
    columns = ("", *(report.policy for report in reports))
    lines: list[str | Table] = [
        _said_of(found, load.mean_service, boots),
        Table(columns, _rows(reports)),
    ]
    lines += [line for report in reports for line in _troubles(report)]
    invocation.output.result("simulation", document, lines)
    failed = any(report.failures for report in reports)
    return ExitCode.PROBLEM if failed else ExitCode.WELL


def _given(option: str, text: str | None, parse: Callable[[str, str], Times]) -> Times | None:
    return None if text is None else parse(text, option)


def _suffix_checked(out: Path) -> None:
    from mgmt.graph import format_of

    format_of(out)
    if not out.absolute().parent.is_dir():
        raise ConfigProblem(f"--out: there is no directory {out.absolute().parent}")


def _said_of(trace: Trace, service: float | None, boots: Times) -> str:
    words = {"jobs": "messages", "rates": "arrivals", "queue": "a queue's length"}[trace.kind]
    told = "" if service is None else f", {service:.3g} s each on average"
    span = age_text(trace.ends - trace.began)
    times = f"{boots} s".removeprefix("fixed:")
    if boots.kind == "measured":
        mean = sum(boots.numbers) / len(boots.numbers)
        times = f"what {len(boots.numbers)} of the run took ({mean:.3g} s on average)"
    return f"{span} of {words} from {trace.source}{told}; boots take {times}"


def _rows(reports: list[PolicyReport]) -> list[tuple[str, ...]]:
    """A row for each figure, a column for each policy."""
    figures: list[tuple[str, Callable[[PolicyReport], str]]] = [
        ("cost, $", lambda one: _number(one.cost, ".2f")),
        ("machine-hours", lambda one: _number(one.machine_hours, ".1f")),
        ("workers min / mean / max", lambda one:
            f"{one.workers_min} / {one.workers_mean:.1f} / {one.workers_max}"),
        ("launches, terminations", lambda one: f"{one.launches}, {one.terminations}"),
        ("messages", lambda one: str(one.messages)),
        ("wait p50 / p90", lambda one: f"{_wait(one.wait_p50)} / {_wait(one.wait_p90)}"),
        ("wait p99 / max", lambda one: f"{_wait(one.wait_p99)} / {_wait(one.wait_max)}"),
        ("waited longer", lambda one: _number(one.waited_longer, ".2%")),
        ("over high water", lambda one: _time(one.over_high_water)),
        ("over target", lambda one: _time(one.over_target)),
        ("longest queue", lambda one: f"{one.queue_max:g}"),
        ("left at the end", lambda one: str(one.unserved)),
    ]  # fmt: skip
    rows = [(name, *(text(report) for report in reports)) for name, text in figures]
    return [row for row in rows if any(cell != "-" for cell in row[1:])]


def _troubles(report: PolicyReport) -> list[str]:
    """What went wrong with a policy's engine, or what it lacked."""
    failed = [
        f"{report.policy}: the engine failed in {count} of {report.cycles} cycles: {what}"
        for what, count in report.failures.items()
    ]
    held = [
        f"{report.policy}: held in {count} of {report.cycles} cycles: {what}"
        for what, count in report.held.items()
    ]
    return failed[:5] + held[:1]


def _number(value: Any, form: str) -> str:
    return "-" if value is None else format(value, form)


def _wait(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{seconds:.1f}s" if seconds < 60 else age_text(seconds)


def _time(seconds: float | None) -> str:
    return "-" if seconds is None else age_text(seconds)


commands = (simulate_command,)
