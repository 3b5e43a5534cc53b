"""The programs of a node's role, put under the node's supervisord.

What a person wrote (words, environment) never enters a supervisord file: its format can't
express every value (`` ;`` starts a comment, quotes can't be escaped in ``environment``).
supervisord runs ``program_launcher.py`` with a file of ours, and that starts the program
with exactly these words and this environment.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from agent import program_launcher
from agent.messages import NodeRole, ProgramSpec
from agent.private_files import write_private

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*")
#: The agent runs under the same supervisord by this name.
_RESERVED = frozenset({"agent"})
#: Seconds of grace for a program that does not do the pool's work.
_STOP_WAIT = 10
#: Seconds after which supervisord kills a worker that got SIGTERM. The deadline of a drain is
#: kept by ``agent.drain``, which can let a worker finish whose drain was cancelled meanwhile.
_WORKER_STOP_WAIT = 86_400


class ProgramProblem(ValueError):
    """A program of the role can't be run on this node; the text names it."""


@dataclass(frozen=True, kw_only=True)
class NodePlace:
    """Where on a node things are."""

    directory: Path
    broker_file: Path

    @property
    def conf_dir(self) -> Path:
        return self.directory / "conf.d"

    @property
    def log_dir(self) -> Path:
        return self.directory / "logs"

    @property
    def program_dir(self) -> Path:
        return self.directory / "programs"


def node_environment(
    place: NodePlace, node_id: str, run: str, pool: str, variables: Mapping[str, str] | None = None
) -> dict[str, str]:
    """The environment that every program of the node gets beside its own."""
    return {
        "EPU_RUN": run,
        "EPU_POOL": pool,
        "EPU_NODE_ID": node_id,
        "EPU_NODE_DIR": str(place.directory),
        "EPU_BROKER_FILE": str(place.broker_file),
        **(variables or {}),
    }


def process_names(name: str, spec: ProgramSpec) -> tuple[str, ...]:
    """The names under which supervisord knows the copies of a program."""
    if spec.copies == 1:
        return (name,)
    return tuple(f"{name}:{name}-{number}" for number in range(spec.copies))


def worker_names(role: NodeRole) -> frozenset[str]:
    """Process names of all programs of the role that take jobs."""
    return frozenset(
        process
        for name, spec in role.programs.items()
        if spec.worker
        for process in process_names(name, spec)
    )


def role_names(role: NodeRole) -> frozenset[str]:
    """Process names of all programs of the role."""
    return frozenset(
        process for name, spec in role.programs.items() for process in process_names(name, spec)
    )


def program_conf(name: str, spec: ProgramSpec, place: NodePlace, drain_timeout: float) -> str:
    """One ``[program:x]`` section of supervisord.

    A worker has time after SIGTERM to finish the job in hand, more than any drain;
    whatever ends by itself is started again; one that can't stay up for ``start_seconds``
    in four tries ends FATAL.
    """
    copies = spec.copies > 1
    process = "%(program_name)s-%(process_num)d" if copies else "%(program_name)s"
    launcher = str(Path(program_launcher.__file__).resolve())
    words = [sys.executable, "-I", "-S", launcher, str(program_file(place, name))]
    command = " ".join(_word(word) for word in words)
    lines = {
        "command": command + (" %(process_num)d" if copies else " 0"),
        "process_name": process,
        "numprocs": str(spec.copies),
        "autostart": "true",
        "autorestart": "true",
        "startsecs": str(max(0, math.ceil(spec.start_seconds))),
        "startretries": "3",
        "stopsignal": "TERM",
        "stopwaitsecs": str(
            max(_WORKER_STOP_WAIT, math.ceil(drain_timeout)) if spec.worker else _STOP_WAIT
        ),
        "killasgroup": "true",
        "stdout_logfile": f"{_plain(place.log_dir)}/{process}.log",
        "stderr_logfile": f"{_plain(place.log_dir)}/{process}.err",
        "stdout_logfile_maxbytes": "5MB",
        "stderr_logfile_maxbytes": "5MB",
        "stdout_logfile_backups": "1",
        "stderr_logfile_backups": "1",
    }
    body = "\n".join(f"{key}={value}" for key, value in lines.items())
    return f"[program:{name}]\n{body}\n"


def program_file(place: NodePlace, name: str) -> Path:
    """The file that tells the launcher what to start."""
    return place.program_dir / f"{name}.json"


def launch_file(
    spec: ProgramSpec, name: str, role: NodeRole, place: NodePlace, environment: Mapping[str, str]
) -> str:
    """The content of ``program_file``: words, environment, directory, busy files by copy."""
    busy = [str(path) for path in _busy_files(role, place, name, spec)]
    directory = place.directory / spec.directory if spec.directory else place.directory
    return json.dumps(
        {
            "command": list(spec.command),
            "environment": {**environment, **spec.environment},
            "directory": str(directory),
            "busy_files": busy,
        },
        indent=1,
    )


def _busy_files(role: NodeRole, place: NodePlace, name: str, spec: ProgramSpec) -> list[Path]:
    """The busy file of each copy of a program."""
    source = role.busy_source
    if source is None or not source.file or not spec.worker:
        return []
    base = place.directory / source.file
    if len(worker_names(role)) <= 1:
        return [base]
    return [base.with_name(f"{base.name}.{name}.{number}") for number in range(spec.copies)]


def busy_files(role: NodeRole, place: NodePlace) -> tuple[Path, ...]:
    """The busy file that all workers may share, then those that they are told to write."""
    source = role.busy_source
    if source is None or not source.file:
        return ()
    base = place.directory / source.file
    own = [
        path
        for name, spec in role.programs.items()
        for path in _busy_files(role, place, name, spec)
        if path != base
    ]
    return (base, *own)


def write_programs(role: NodeRole, place: NodePlace, environment: Mapping[str, str]) -> None:
    """Write the files of all programs; the same role again changes nothing.

    Nothing is written unless every program is fine. Raises ProgramProblem, OSError.
    """
    check_programs(role, place)
    for folder in (place.conf_dir, place.log_dir, place.program_dir):
        folder.mkdir(mode=0o700, exist_ok=True)
    wanted = {f"{name}.conf" for name in role.programs}
    for known in place.program_dir.glob("*.json"):
        if f"{known.stem}.conf" not in wanted:
            (place.conf_dir / f"{known.stem}.conf").unlink(missing_ok=True)
            known.unlink()
    for name, spec in role.programs.items():
        content = launch_file(spec, name, role, place, environment)
        write_private(program_file(place, name), content)
        conf = program_conf(name, spec, place, role.drain_timeout)
        write_private(place.conf_dir / f"{name}.conf", conf)


def check_programs(role: NodeRole, place: NodePlace) -> None:
    """Raises ProgramProblem for what could not be run, naming the program."""
    for name, spec in role.programs.items():
        if not _NAME.fullmatch(name) or name in _RESERVED:
            raise ProgramProblem(
                f"program '{name}': a name has letters, digits, - and _ and is not 'agent'"
            )
        for text in (*spec.command, *spec.environment, *spec.environment.values()):
            if "\0" in text:
                raise ProgramProblem(f"program '{name}': a word holds a zero byte")
        for key in spec.environment:
            if not key or "=" in key:
                raise ProgramProblem(f"program '{name}': '{key}' can't name a variable")
    _plain(place.directory)


def _plain(path: Path) -> str:
    """A path as supervisord's files take it. Raises ProgramProblem for those they can't."""
    text = str(path)
    if re.search(r"[\n\r\0]|\s[;#]|%\(here\)s", text):
        raise ProgramProblem(f"supervisord can't use the path {text!r}")
    return text.replace("%", "%%")


def _word(text: str) -> str:
    """One word of a supervisord ``command`` (split by shlex, ``%`` expanded)."""
    return "'" + _plain(Path(text)).replace("'", "'\"'\"'") + "'"
