"""``epu doctor``."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from mgmt.exit_codes import ExitCode
from mgmt.invocation.cli import Invocation, pass_invocation, system_options
from mgmt.output import Table

if TYPE_CHECKING:
    from mgmt.doctor.evidence import Finding
    from mgmt.doctor.look import Place


@click.command()
@click.argument("run_name", metavar="[RUN]", required=False)
@click.option("--fix", is_flag=True, help="Offer each repair that can be made from here.")
@click.option("-y", "--yes", is_flag=True, help="With --fix: make them without asking.")
@click.option("--end-workers", is_flag=True,
              help="With --yes: also end machines that nobody looks after any more.")  # fmt: skip
@click.option("--install", is_flag=True, help="Is this machine fit? Asks no run.")
@click.option("--cloud", "clouds", multiple=True, metavar="NAME",
              type=click.Choice(["process", "container", "qemu", "ec2", "libcloud"]),
              help="With --install: a cloud that must work from here.")  # fmt: skip
@system_options
@pass_invocation
def doctor(
    invocation: Invocation,
    run_name: str | None,
    fix: bool,
    yes: bool,
    end_workers: bool,
    install: bool,
    clouds: tuple[str, ...],
) -> int:
    """Find what is wrong with a run, and how to repair it; exit 1 when something was found.

    A dead broker, machines without records and records without machines, stuck nodes, held
    pools, clocks, disks, processes that restart in a loop. Of a run whose provisioner is
    gone for ever it lists the workers by the clouds' tags and offers to end them. With
    --install: what this machine lacks, and the command that installs it.

    \b
    Examples:
      epu doctor demo
      epu doctor demo --fix
      epu doctor demo --fix --yes --end-workers
      epu doctor --install --cloud ec2
    """
    if install:
        return _install(invocation, clouds)
    if (yes or end_workers) and not fix:
        raise click.UsageError("--yes and --end-workers go with --fix")
    from mgmt.doctor.findings import findings_of
    from mgmt.doctor.look import look

    place = _place(invocation, run_name)
    found = findings_of(look(place))
    if not invocation.as_json:
        for number, finding in enumerate(found, start=1):
            click.echo(f"{number}. {finding.what}\n   repair: {finding.remedy}")
    left = _fix(invocation, found, place, yes, end_workers) if fix else list(found)
    document = {
        "run": place.name,
        "findings": [{**asdict(each), "fixed": each not in left} for each in found],
        "well": not left,
    }
    repaired = f", {len(found) - len(left)} repaired" if fix else ""
    counted = f"{len(found)} problem{'s' if len(found) != 1 else ''} found{repaired}"
    how = "is ended, and no cloud lists a machine of it" if place.ended else "is well"
    line = counted if found else f"OK: run {place.name} {how}"
    invocation.output.result("doctor", document, [line])
    return ExitCode.PROBLEM if left else ExitCode.WELL


def _place(invocation: Invocation, run_name: str | None) -> Place:
    from mgmt.doctor.look import Place, place_of
    from mgmt.run_locator import only_living_run

    if invocation.elsewhere and not run_name:
        system = invocation.system()
        return Place(system.run, None, system)
    return place_of(run_name or invocation.run or only_living_run().name)


def _fix(
    invocation: Invocation, found: list[Finding], place: Place, yes: bool, end_workers: bool
) -> list[Finding]:
    """Offer each repair; what is left of the findings."""
    from mgmt.doctor.evidence import Action

    left, started = [], False
    for finding in found:
        repair = finding.repair
        if started and repair is not None and repair.grave:
            # Whoever looks after these machines may be on the way back.
            invocation.output.note(f"not now, look again first: {finding.what}")
        elif _offer(invocation, finding, place, yes, end_workers):
            assert repair is not None
            started |= repair.action in (Action.START_BROKER, Action.START_COORDINATOR)
            continue
        left.append(finding)
    return left


def _offer(
    invocation: Invocation, finding: Finding, place: Place, yes: bool, end_workers: bool
) -> bool:
    """Whether the finding was repaired now."""
    from agent.rpc_client import CallFailed
    from coordinator.errors import EpuError
    from mgmt.doctor.repairs import perform

    output, repair = invocation.output, finding.repair
    if repair is None:
        return False
    if yes and repair.grave and not end_workers:
        output.note(f"not repaired without --end-workers: {finding.what}")
        return False
    if not yes:
        if not sys.stdin.isatty():
            output.note(f"not repaired, as nobody can be asked (--yes): {finding.what}")
            return False
        if not click.confirm(
            f"{finding.what}\n  {repair.action.value.replace('_', ' ')}?", err=True
        ):
            return False
    try:
        output.note(perform(repair, place))
    except (EpuError, CallFailed, OSError) as problem:
        output.warning(f"{repair.words}: {problem}")
        return False
    return True


def _install(invocation: Invocation, clouds: tuple[str, ...]) -> int:
    from mgmt.doctor.machine import examine, verdict_line

    checks = examine(frozenset(clouds))
    rows = [
        (each.name, each.mark, each.found or "-", each.needed_by, each.remedy if each.lacks else "")
        for each in checks
    ]
    missing = [each for each in checks if each.lacks and each.required]
    document = {"checks": [asdict(each) for each in checks], "fit": not missing}
    table = Table(("WHAT", "", "FOUND", "NEEDED BY", "TO INSTALL"), rows)
    invocation.output.result("install", document, [table, verdict_line(checks)])
    return ExitCode.PROBLEM if missing else ExitCode.WELL


commands = (doctor,)
