"""What a person types to reach a service's machine, quoted for a shell."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bootlevels.transports.ssh import SshTarget


def ssh_command(target: SshTarget) -> str:
    """``ssh`` to ``target``."""
    port = ["-p", str(target.port)] if target.port else []
    return shlex.join(["ssh", *_options(target), *port, _place(target.user, target.host)])


def scp_command(target: SshTarget, source: str, destination: str, user: str = "") -> str:
    """``scp`` of the file ``source`` here to ``destination`` there, as ``user`` if given."""
    port = ["-P", str(target.port)] if target.port else []
    there = f"{_place(user or target.user, target.host, brackets=True)}:{destination}"
    return shlex.join(["scp", *_options(target), *port, source, there])


def _options(target: SshTarget) -> list[str]:
    key = ["-i", target.key] if target.key else []
    hosts = target.known_hosts or ("" if target.known_to_user else str(target.kept_keys))
    return [*key, *(["-o", f"UserKnownHostsFile={hosts}"] if hosts else [])]


def _place(user: str, host: str, *, brackets: bool = False) -> str:
    shown = f"[{host}]" if brackets and ":" in host else host
    return f"{user}@{shown}" if user else shown
