"""``epu broker …`` and ``epu serve``: the processes that a system stands on."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import click

from mgmt.exit_codes import ExitCode
from mgmt.invocation.cli import (
    ANSWER_WITHIN,
    Commands,
    Invocation,
    output_options,
    pass_invocation,
)
from mgmt.output import Table

_DIRECTORY = click.Path(file_okay=False, path_type=Path, resolve_path=True)
_FILE = click.Path(dir_okay=False, path_type=Path, resolve_path=True)


# ------------------------------------------------------------------ broker


@click.group(cls=Commands)
def broker() -> None:
    """Start, stop or look at a private RabbitMQ node."""


_broker_directory = click.option(
    "--dir", "directory", type=_DIRECTORY, required=True, help="Where the node lives."
)


@broker.command(name="start")
@_broker_directory
@click.option("--vhost", help="The run's virtual host (default: epu, or that of --url).")
@click.option("--url", envvar="EPU_BROKER_URL", metavar="URL",
              help="Use this broker instead of a private one; better given as $EPU_BROKER_URL, "
              "because command lines can be read by others. With amqps:// the authorities of "
              "this machine are trusted, or the one in the file $EPU_BROKER_CA.")  # fmt: skip
@click.option("--management-url", envvar="EPU_BROKER_MANAGEMENT_URL", metavar="URL",
              help="The HTTP API of that broker (default: port 15672 of its host, 15671 with "
              "TLS).")  # fmt: skip
@click.option("--listen", "host", metavar="ADDRESS",
              help="Where a private node listens: an IPv4 address of this machine, or auto for "
              "the one that others see (default: 127.0.0.1, or as before). Beyond loopback it "
              "takes TLS only.")  # fmt: skip
@click.option("--insecure", is_flag=True,
              help="A private node: no TLS, wherever it listens. Whoever reads the network then "
              "has the run.")  # fmt: skip
@click.option("--foreground", is_flag=True, help="A private node: stay until it ends or Ctrl-C.")
@output_options
@pass_invocation
def broker_start(
    invocation: Invocation,
    directory: Path,
    vhost: str | None,
    url: str | None,
    management_url: str | None,
    host: str | None,
    insecure: bool,
    foreground: bool,
) -> int:
    """Start a private node, or make an existing broker ready for a run.

    Can be repeated. As a boot program it tells its plan ``accounts``, ``amqp_address``
    and ``management_url``.

    \b
    Examples:
      epu broker start --dir ./broker --vhost demo
      EPU_BROKER_URL=amqp://me:secret@mq:5672 epu broker start --dir ./broker
    """
    from mgmt import broker as nodes

    say = invocation.output.note
    if foreground and not url:
        return nodes.run_broker(directory, vhost or "epu", host, say, insecure)
    if url:
        access = nodes.use_existing_broker(directory, url, management_url, vhost, say=say)
    else:
        access = nodes.start_broker(
            directory, vhost or "epu", say=say, host=host, insecure=insecure
        )
    outputs = {
        "accounts": str(directory / "accounts.json"),
        "amqp_address": access.public_url,
        "management_url": access.management_url or "",
    }
    write_boot_outputs(outputs)
    lines = [f"broker    {access.public_url}", f"accounts  {outputs['accounts']}"]
    invocation.output.result("broker", {**outputs, "running": True}, lines)
    return ExitCode.WELL


@broker.command(name="stop")
@_broker_directory
@output_options
@pass_invocation
def broker_stop(invocation: Invocation, directory: Path) -> None:
    """End the node and everything it started; an existing broker is left alone.

    \b
    Example:
      epu broker stop --dir ./broker
    """
    from mgmt import broker as nodes

    ended = [each.name for each in nodes.stop_broker(directory)]
    line = f"ended {', '.join(ended)}" if ended else f"no broker ran in {directory}"
    invocation.output.result("broker", {"ended": ended, "running": False}, [line])


@broker.command(name="status")
@_broker_directory
@output_options
@pass_invocation
def broker_status(invocation: Invocation, directory: Path) -> int:
    """Say how the broker of a directory is; exit 0 when it answers, else 5.

    \b
    Example:
      epu broker status --dir ./broker
    """
    from mgmt import broker as nodes

    status = nodes.broker_status(directory)
    document = {
        "directory": str(status.directory),
        "state": status.state,
        "address": status.address,
        "management_url": status.management_url,
        "pid": status.pid,
        "memory_bytes": status.memory,
        "processes": status.processes,
        "shared": status.shared,
        "event_exchange": status.event_exchange,
        "running": status.usable,
    }
    details = [f"pid {status.pid}, {status.memory / 2**20:.0f} MB"] if status.pid else []
    line = " ".join(filter(None, (status.state, status.address)))
    invocation.output.result("broker", document, [line, *details])
    return ExitCode.WELL if status.usable else ExitCode.UNREACHABLE


# ------------------------------------------------------------------ serve


@click.command()
@click.option("--dir", "directory", type=_DIRECTORY, required=True,
              help="Where the coordinator keeps its files.")  # fmt: skip
@click.option("--accounts", type=_FILE, help="accounts.json of the broker.")
@click.option("--run", metavar="RUN", envvar="EPU_RUN", help="The run it coordinates.")
@click.option("--cloud", "clouds", multiple=True, metavar="NAME=DRIVER",
              help="A cloud for workers; the first is the default.")  # fmt: skip
@click.option("--cloud-setting", "cloud_settings", multiple=True, metavar="NAME.KEY=VALUE",
              help="A setting of a cloud's driver.")  # fmt: skip
@click.option("--environment", "environment", type=_FILE,
              help="NAME=value lines (0600): the clouds' credentials.")  # fmt: skip
@click.option("--wait", type=click.FloatRange(min=0), default=0.0, metavar="T",
              help="Seconds to wait until --accounts and --environment are brought.")  # fmt: skip
@click.option("--only", multiple=True, metavar="NAME", help="Run only this part here (can be "
              "repeated); the others run elsewhere, by the same broker.")  # fmt: skip
@click.option("--pool", "pools", multiple=True, metavar="POOL", help="The controller and the "
              "sensors service of this pool alone, and nothing else without --only; for several "
              "(POOL,POOL or repeated) one of each for each.")  # fmt: skip
@click.option("--check", "action", flag_value="check", help="Ask every service how it is.")
@click.option("--stop", "action", flag_value="stop", help="End all of them.")
@click.option("--foreground", "action", flag_value="foreground", help="Start, stay until Ctrl-C.")
@click.option("--start", "action", flag_value="start", default=True, hidden=True)
@output_options
@pass_invocation
def serve(
    invocation: Invocation,
    directory: Path,
    accounts: Path | None,
    run: str | None,
    clouds: tuple[str, ...],
    cloud_settings: tuple[str, ...],
    environment: Path | None,
    wait: float,
    only: tuple[str, ...],
    pools: tuple[str, ...],
    action: str,
) -> int:
    """Run the coordinator: provisioner, controller, sensors, registrar, management.

    Can be repeated. As a boot program it tells its plan ``accounts`` and ``state_dir``.
    ``--check`` exits 0 when every service that runs here answers, else 5.

    \b
    Examples:
      epu serve --dir ./coordinator --accounts broker/accounts.json --run demo --cloud here=process
      epu serve --dir ./base --accounts accounts.json --run demo --cloud here=process --pool orders
      epu serve --dir ./coordinator --check
      epu serve --dir ./coordinator --stop
    """
    from mgmt import serve as coordinator

    output = invocation.output
    if action == "stop":
        ended = coordinator.stop(directory)
        coordinator.give_up_pools(directory)  # not before: who lives says again that it is there
        line = "ended" if ended else "did not run"
        output.result("coordinator", {"ended": ended}, [f"coordinator in {directory}: {line}"])
        return ExitCode.WELL
    if action == "check":
        found = coordinator.check(directory, ANSWER_WITHIN - 1)
        # Who is silent comes last: the last line is what a boot tool shows of a failed check.
        by_trouble = sorted(found.items(), key=lambda one: bool(one[1]))
        rows = [(name, problem or "answers") for name, problem in by_trouble]
        well = not any(found.values())
        document = {"services": found, "well": well}
        output.result("coordinator", document, [Table(("SERVICE", "STATE"), rows)])
        return ExitCode.WELL if well else ExitCode.UNREACHABLE
    if accounts is None or not run or not clouds:
        raise click.UsageError("--accounts, --run and at least one --cloud are needed to start")
    from coordinator.config import CoordinatorConfig
    from coordinator.errors import did_you_mean
    from mgmt.keepers import SHARED

    for name in only:
        if name not in coordinator.PROGRAMS:
            hint = did_you_mean(name, coordinator.PROGRAMS)
            raise click.UsageError(f"--only {name}: no part of a coordinator; {hint}")
    parts = only or (SHARED if pools else tuple(coordinator.PROGRAMS))
    names = tuple(dict.fromkeys(name for text in pools for name in text.split(",") if name))
    check_pool_names(names, parts)
    config = CoordinatorConfig(
        run=run,
        accounts=str(accounts),
        state_dir=str(directory),
        clouds=cloud_sections(clouds, cloud_settings),
    )
    if wait or environment:
        from mgmt.serve_wait import wait_for_secrets

        os.environ.update(wait_for_secrets(accounts, environment, wait, output.note))
    if action == "foreground":
        return coordinator.start_in_foreground(config, parts, names)
    served = coordinator.start(config, only=parts, pools=names)
    write_boot_outputs({"accounts": str(accounts), "state_dir": str(directory)})
    pid = served.supervisord.pid
    document = {"pid": pid, "state_dir": str(directory), "accounts": str(accounts)}
    lines = [f"coordinator of run {run} serves in {directory} (supervisord {pid})"]
    output.result("coordinator", document, lines)
    return ExitCode.WELL


def check_pool_names(pools: tuple[str, ...], parts: tuple[str, ...]) -> None:
    """Raise UsageError for names that no pool can have, or without the parts for them."""
    from coordinator.pool_spec import NAME_RULE, is_name
    from mgmt.keepers import SHARED

    for name in pools:
        if not is_name(name):
            raise click.UsageError(f"--pool {name}: a pool's name is {NAME_RULE}")
    if pools and not set(SHARED) <= set(parts):
        raise click.UsageError("--pool: a pool's own controller and sensors run together;"
                               " add --only controller --only sensors")  # fmt: skip


def cloud_sections(clouds: tuple[str, ...], settings: tuple[str, ...]) -> dict[str, dict[str, str]]:
    """``here=process`` and ``here.root=/x`` as ``{"here": {"driver": …, "root": …}}``."""
    from coordinator.clouds.agent_settings import split_settings
    from coordinator.errors import did_you_mean
    from coordinator.plugins import find_plugin

    sections: dict[str, dict[str, str]] = {}
    for text in clouds:
        name, equals, driver = text.partition("=")
        if not equals or not name or not driver:
            raise click.UsageError(f"--cloud {text}: write NAME=DRIVER")
        find_plugin("epu.clouds", driver, f"--cloud {text}")
        sections[name] = {"driver": driver}
    for text in settings:
        key, equals, value = text.partition("=")
        name, dot, setting = key.partition(".")
        if not equals or not dot or not setting:
            raise click.UsageError(f"--cloud-setting {key}: write NAME.KEY=VALUE")
        if name not in sections:
            hint = did_you_mean(name, sections)
            raise click.UsageError(f"--cloud-setting {key}: no cloud '{name}'; {hint}")
        sections[name][setting] = value
    for name, section in sections.items():
        split_settings(section, f"--cloud-setting {name}")
    return sections


def write_boot_outputs(outputs: Mapping[str, str]) -> None:
    """Tell the plan that runs this as a boot program what it found out, if one does."""
    target = os.environ.get("EPU_BOOTOUT")
    if not target:
        return
    from mgmt.broker_files import write_private

    path = Path(target)
    try:
        known = json.loads(path.read_text())
    except (OSError, ValueError):
        known = {}
    write_private(path, json.dumps({**known, **outputs}))


commands = (broker, serve)
