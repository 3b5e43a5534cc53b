"""``epu``: everything a person types. Commands are imported only when they are used."""

from __future__ import annotations

import os
import sys
import traceback
from typing import Any

import click

from mgmt.exit_codes import ExitCode, verdict
from mgmt.invocation.cli import Lazy, LazyCommands
from mgmt.output import say_error, wants_colour

_BOOT = "bootlevels.cli"
_RUNNING = "bootlevels.running.cli"
_PLANNING = "bootlevels.planning.cli"
_POOLS = "mgmt.pools.cli"
_NODES = "mgmt.nodes.cli"
_SYSTEM = "mgmt.system.cli"
_SERVICES = "mgmt.services.cli"

COMMANDS: dict[str, Lazy] = {
    "boot": Lazy(_BOOT, "Boot a launch plan level by level."),
    "status": Lazy(_BOOT, "Verify every service of a run."),
    "list": Lazy(_BOOT, "List runs."),
    "terminate": Lazy(_BOOT, "End the levels of runs whose workers are gone."),
    "repair": Lazy(_RUNNING, "Boot what was never booted, replace what is broken."),
    "reload": Lazy(_RUNNING, "Make a run what a changed plan says."),
    "reboot": Lazy(_RUNNING, "End a run's services and boot its plan anew."),
    "history": Lazy(_RUNNING, "List everything ever launched as a run."),
    "clean": Lazy(_RUNNING, "Remove what a run left behind."),
    "validate": Lazy(_PLANNING, "Check a launch plan without starting anything."),
    "plan": Lazy(_PLANNING, "Show what booting a plan would launch."),
    "schema": Lazy("mgmt.schemas.cli", "JSON Schemas of launch plans and of results."),
    "samples": Lazy("bootlevels.samples.cli", "The launch plans that come with EPU."),
    "pools": Lazy(_POOLS, "List pools."),
    "pool": Lazy(_POOLS, "Show or change one pool."),
    "explain": Lazy(_POOLS, "Why a pool has the size it has."),
    "replay": Lazy("mgmt.replays.cli", "Decide again what was decided, and compare."),
    "simulate": Lazy("mgmt.simulations.cli", "What policies would cost, over a load trace."),
    "hold": Lazy(_POOLS, "Let no pool grow, shrink or replace anybody."),
    "resume": Lazy(_POOLS, "Let the pools decide again."),
    "wait": Lazy(_POOLS, "Wait until a pool is in a state."),
    "nodes": Lazy(_NODES, "List nodes."),
    "node": Lazy(_NODES, "Show one node and where it is in its life."),
    "token": Lazy("mgmt.tokens.cli", "Let machines join that people boot."),
    "events": Lazy("mgmt.events.cli", "What happened: the history of the system."),
    "logs": Lazy("mgmt.logs.cli", "Collect the logs of a run."),
    "doctor": Lazy("mgmt.doctor.cli", "Find what is wrong, and how to repair it."),
    "graph": Lazy("mgmt.graphs.cli", "Nodes, queue and jobs over time, as a picture or a table."),
    "watch": Lazy("mgmt.watch.cli", "A live view of a system."),
    "teardown": Lazy(_SYSTEM, "End a whole system, with a receipt."),
    "broker": Lazy(_SERVICES, "Start, stop or look at a private RabbitMQ node."),
    "serve": Lazy(_SERVICES, "Run the coordinator under supervisord."),
    "wheelhouse": Lazy("mgmt.wheelhouses.cli", "Wheels for machines that have no index."),
    "image": Lazy("mgmt.images.cli", "Build images for machines of the cloud qemu."),
    "shell": Lazy(_SYSTEM, "Python with the services of a run at hand."),
    "exercise": Lazy(
        "mgmt.exercise.cli", "Break things by a timeline, and judge what comes of it."
    ),
    "demo": Lazy("mgmt.demo.cli", "A whole life of the sample plan on this machine, proven."),
    "completion": Lazy(_SYSTEM, "How to make your shell complete epu's commands."),
}


class Epu(LazyCommands):
    """The root: turns whatever goes wrong into one clear message and an exit code."""

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run a command line and end the process with an exit code of spec ``ExitCode``.

        ``EPU_DEBUG=1`` shows the traceback of an error too.
        """
        extra["standalone_mode"] = False
        sys.exit(_guarded(lambda: super(Epu, self).main(*args, **extra)))


def _guarded(work: Any) -> int:
    """The exit code of ``work``, having said what went wrong, if anything did."""
    try:
        code = work()
        sys.stdout.flush()
        return code if isinstance(code, int) else ExitCode.WELL
    except click.exceptions.NoArgsIsHelpError as problem:
        problem.show()
        return problem.exit_code
    except click.ClickException as problem:
        say_error([_with_hint(problem)])
        return problem.exit_code
    except click.Abort:
        say_error(["interrupted"])
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        # The reader (head, less) has seen enough; Python must not try to flush again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.PROBLEM
    except Exception as problem:
        if os.environ.get("EPU_DEBUG"):
            traceback.print_exc()
        code, lines = verdict(problem)
        say_error(lines)
        return code


def _with_hint(problem: click.ClickException) -> str:
    """One line: what is wrong, and where wrong usage is explained."""
    text = problem.format_message().rstrip(".")
    context = getattr(problem, "ctx", None)
    return text if context is None else f"{text} (see: {context.command_path} --help)"


@click.command(
    cls=Epu,
    name="epu",
    lazy=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 well, 1 a problem, 2 wrong usage, 3 no such run, pool or node, "
    "4 workers not confirmed gone, 5 broker or coordinator not reachable, 130 interrupted.",
)
@click.version_option(package_name="epu")
@click.pass_context
def epu(context: click.Context) -> None:
    """EPU: services on machines that do not disappear, as many as are needed.

    \b
    Examples:
      epu boot sleeper -n demo     boot a sample plan
      epu pools                    the pools of the only living run
      epu pool set-n epu-sleeper 3 keep three workers
      epu explain epu-sleeper      why it has the size it has
      epu teardown demo            end all of it, with a receipt
    """
    context.color = wants_colour()


def main() -> None:
    """The console script ``epu``."""
    epu.main(prog_name="epu")


if __name__ == "__main__":
    # The commands import this module by its name: let there be only one of it.
    from mgmt.cli import main as installed_main

    installed_main()
