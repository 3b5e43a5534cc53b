"""What every command shares: its options, its output, lazily loaded groups."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.shell_completion import CompletionItem
from click.types import StringParamType

from mgmt.output import Output

if TYPE_CHECKING:
    from agent.messages import BrokerAccess
    from agent.rpc_client import RpcClient
    from mgmt.run_locator import RunningSystem

#: Seconds until a command that asks the coordinator has an answer or gives up. A person
#: waits ten at most, and starting Python and closing connections are part of that.
ANSWER_WITHIN = 8.0
#: Of these, seconds for the broker to let us in. One that hangs takes connections and says
#: nothing; where that much was waited for in vain, more would only be a person's time.
CONNECT_WITHIN = 4.0

F = TypeVar("F", bound=Callable[..., Any])


@dataclass
class Invocation:
    """One run of the ``epu`` command: what it was told, and the way to the system."""

    as_json: bool = False
    quiet: bool = False
    verbose: bool = False
    run: str | None = None
    accounts: str | None = None
    broker: str | None = None
    password_file: str | None = None
    #: Whether somebody is there to be asked for a password.
    may_ask: bool = True

    @property
    def elsewhere(self) -> bool:
        """The system is named by its broker, and no run of this machine is meant."""
        return bool(self.accounts or self.broker)

    @cached_property
    def output(self) -> Output:
        """Where results go."""
        return Output(as_json=self.as_json, quiet=self.quiet, verbose=self.verbose)

    def system(self) -> RunningSystem:
        """The run that is meant. Raises NoSuchRun, ConfigProblem."""
        from mgmt.run_locator import RunningSystem, locate

        if self.broker is None or self.accounts:
            return locate(self.run, self.accounts)
        access = self._access
        return RunningSystem(run=self.run or access.vhost, accounts=None, given=access)

    @cached_property
    def _access(self) -> BrokerAccess:
        """Of ``--broker``; a person is asked once."""
        from pathlib import Path

        from mgmt.broker_address import find_authority, find_password, parse_address

        address = parse_address(str(self.broker))

        def ask() -> str:
            said = f"Password of {address.user} at {address.host}"
            return str(click.prompt(said, hide_input=True, err=True))

        there = self.may_ask and sys.stdin.isatty()
        file = Path(self.password_file) if self.password_file else None
        password = find_password(address, os.environ, file, ask if there else None)
        return address.access(password, find_authority(os.environ) if address.tls else "")

    def ask(self, method: str, *args: Any) -> Any:
        """``management.method(*args)`` within ANSWER_WITHIN, connecting included.

        Raises the EpuError of the other side, or CallFailed.
        """
        from mgmt.answers import ask

        with self.connection() as client:
            return ask(client.call, "management", method, *args, timeout=ANSWER_WITHIN)

    def connection(self) -> RpcClient:
        """A client of the run's broker, to be closed; it connects at its first call."""
        from agent.rpc_client import RpcClient

        return RpcClient(
            self.system().amqp_url(), timeout=ANSWER_WITHIN, connect_within=CONNECT_WITHIN
        )

    def warn_of_missing(self, document: dict[str, Any]) -> None:
        """Say which components did not answer, so that gaps are not taken for peace."""
        for name, why in sorted((document.get("missing") or {}).items()):
            self.output.warning(f"{name} does not answer: {why}")


pass_invocation = click.make_pass_decorator(Invocation, ensure=True)


def _kept(name: str) -> Callable[[click.Context, click.Parameter, Any], Any]:
    def keep(context: click.Context, _: click.Parameter, value: Any) -> Any:
        if value:
            setattr(context.ensure_object(Invocation), name, value)
        return value

    return keep


_OUTPUT_OPTIONS = (
    click.option(
        "--json",
        is_flag=True,
        expose_value=False,
        callback=_kept("as_json"),
        help="The result as JSON (see docs/json.md).",
    ),
    click.option(
        "-q",
        "--quiet",
        is_flag=True,
        expose_value=False,
        callback=_kept("quiet"),
        help="Say nothing on the way.",
    ),
    click.option(
        "-v",
        "--verbose",
        is_flag=True,
        expose_value=False,
        callback=_kept("verbose"),
        help="Say more on the way.",
    ),
)

_RUN_OPTIONS = (
    click.option(
        "--run",
        envvar="EPU_RUN",
        metavar="RUN",
        expose_value=False,
        callback=_kept("run"),
        help="The run that is meant (default: $EPU_RUN, or the only living one).",
    ),
    click.option(
        "--accounts",
        envvar="EPU_ACCOUNTS",
        metavar="FILE",
        expose_value=False,
        callback=_kept("accounts"),
        help="accounts.json of a system that no plan booted (default: $EPU_ACCOUNTS).",
    ),
    click.option(
        "--broker",
        envvar="EPU_BROKER",
        metavar="URL",
        expose_value=False,
        callback=_kept("broker"),
        help="amqps://USER@HOST:PORT/VHOST of a system elsewhere; $EPU_BROKER_PASSWORD and, for "
        "a private node, $EPU_BROKER_CA (its ca.pem).",
    ),
    click.option(
        "--password-file",
        envvar="EPU_BROKER_PASSWORD_FILE",
        metavar="FILE",
        expose_value=False,
        callback=_kept("password_file"),
        help="With --broker: holds the password; only its owner may read it.",
    ),
)


def output_options(command: F) -> F:
    """``--json``, ``-q``, ``-v``: every command has them."""
    for option in reversed(_OUTPUT_OPTIONS):
        command = option(command)
    return command


def system_options(command: F) -> F:
    """The same, and the choice of a run: for commands that ask a running system."""
    for option in reversed(_RUN_OPTIONS):
        command = option(command)
    return output_options(command)


class _Name(StringParamType):
    """The name of one of ``NAMED``, completed by a shell from what there is."""

    name = "name"

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        from mgmt.completion import names_of

        told = ctx.find_object(Invocation) or Invocation()
        told.may_ask = False
        found = names_of(self.kind, told.system)
        items = [CompletionItem(name) for name in found if name.startswith(incomplete)]
        # A plan is a file too, which the shell knows best.
        return [*items, CompletionItem(incomplete, type="file")] if self.kind == "PLAN" else items


#: What arguments and options stand for, as their usage calls it, that can be completed.
NAMED = ("RUN", "POOL", "NODE", "PLAN", "SAMPLE", "COMMAND")


def completing_names(command: click.Command) -> None:
    """Have a shell complete what has one of the ``NAMED`` names in a command's usage."""
    for param in command.params:
        kind = (param.metavar or "").strip("[]….")
        if kind in NAMED and type(param.type) is StringParamType:
            param.type = _Name(kind)
    if isinstance(command, click.Group):
        for inner in command.commands.values():
            completing_names(inner)


class Commands(click.Group):
    """A group that suggests the nearest command for one that it does not have."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = str(args[0])
        known = self.list_commands(ctx)
        if name not in known and not name.startswith("-") and not ctx.resilient_parsing:
            near = get_close_matches(name, known, n=1)
            hint = f" (did you mean '{near[0]}'?)" if near else ""
            ctx.fail(f"no command '{name}'{hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The first sentence of each, whole: click would cut it where the line ends."""
        found = ((name, self.get_command(ctx, name)) for name in self.list_commands(ctx))
        rows = [(name, each.get_short_help_str(limit=1000)) for name, each in found if each]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


@dataclass(frozen=True)
class Lazy:
    """A command that is imported when it is needed: ``package.module``, its short help.

    The module's ``commands`` is a sequence of click commands; the one of that name is it.
    """

    module: str
    help: str


class LazyCommands(Commands):
    """A group that can print its help without importing any of its commands."""

    def __init__(self, *args: Any, lazy: dict[str, Lazy], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = self.lazy.get(cmd_name)
        if entry is None:
            return None
        known: Sequence[click.Command] = import_module(entry.module).commands
        found = next((command for command in known if command.name == cmd_name), None)
        if found is not None and ctx.resilient_parsing:
            completing_names(found)
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.help) for name, entry in self.lazy.items()])
