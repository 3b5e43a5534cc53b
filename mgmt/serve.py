"""The coordinator's processes under a supervisord of their own: ``epu serve``.

All of it lives in one directory::

    config.yaml        what every process is told                        (0600)
    config-POOL.yaml   the same for the controller and the sensors service of one pool
    supervisord.conf   the programs, and the path of supervisord's control socket
    logs/              one file per program, rotated

Whoever starts a second one in the same directory gets the first; a supervisord that was
killed is replaced, its orphans are ended before.
"""

from __future__ import annotations

import configparser
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from agent.keeper_names import CONTROLLER, SENSORS, controller_name, pool_of, sensors_name
from agent.rpc_client import BrokerUnreachable, CallFailed, RpcClient
from coordinator.config import CoordinatorConfig, config_file, read_access, write_config
from coordinator.errors import EpuError, NotFound
from mgmt.broker_files import write_private
from mgmt.broker_processes import NodeProcess
from mgmt.keepers import SHARED
from mgmt.serve_processes import (
    MARK_VARIABLE,
    coordinator_processes,
    end_coordinator,
    supervisord_of,
)

#: Program and nameko service name → module run with ``python -m``.
PROGRAMS: dict[str, str] = {
    "provisioner": "coordinator.provisioner.service",
    "controller": "coordinator.controller.service",
    "sensors": "coordinator.sensors.service",
    "registrar": "coordinator.registrar.service",
    "management": "mgmt.service",
}

#: A unix socket's path has 107 bytes; supervisord first makes one with ``.<pid>`` added.
_LONGEST_SOCKET = 107 - len(".4194304")

#: Not for the coordinator's processes, nor for the machines they start: a password, and
#: where the *boot program* writes what it found out.
_KEPT_BACK = ("EPU_BROKER_URL", "EPU_BOOTOUT")


class ServeFailed(EpuError):
    """The coordinator's supervisord did not start, or did not end."""


@dataclass(frozen=True)
class Served:
    """The supervisord of a directory. ``socket``: the path of its control socket."""

    supervisord: NodeProcess
    socket: str


@dataclass(frozen=True)
class Part:
    """A process of a coordinator: its module and the name of its configuration file."""

    module: str
    config: str


def parts_of(only: Collection[str] = PROGRAMS, pools: Collection[str] = ()) -> dict[str, Part]:
    """The processes, by the names of their services.

    ``only``: names of PROGRAMS; the others run elsewhere, by the same broker. ``pools``: each
    has a controller and a sensors service of its own here, instead of the shared ones.
    """
    found: dict[str, Part] = {}
    for name, module in PROGRAMS.items():
        if name in only and not (pools and name in SHARED):
            found[name] = Part(module, config_file())
    for pool in pools:
        for name, own in ((CONTROLLER, controller_name(pool)), (SENSORS, sensors_name(pool))):
            found[own] = Part(PROGRAMS[name], config_file(pool))
    return found


def start(
    config: CoordinatorConfig,
    timeout: float = 10.0,
    only: Collection[str] = PROGRAMS,
    pools: Collection[str] = (),
) -> Served:
    """Write the files and start supervisord unless it runs; returns when it answers.

    ``only`` and ``pools`` as in ``parts_of``.

    Idempotent: a running one is left alone, whatever ``config`` says. Raises
    ConfigProblem for an unusable accounts file, ServeFailed when it does not start
    within ``timeout`` seconds.
    """
    directory = Path(config.state_dir)
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _only_one(directory, timeout):
        running = supervisord_of(directory)
        if running is not None:
            return Served(running, _kept_socket(directory))
        _end(directory, timeout=0)
        write_config(config)
        for pool in pools:
            write_config(replace(config, pool=pool))
        (directory / "logs").mkdir(exist_ok=True, mode=0o700)
        socket = _socket_path(directory)
        text = supervisord_text(directory, socket, sys.executable, parts_of(only, pools))
        write_private(directory / "supervisord.conf", text)
        return _launch(directory, socket, timeout)


def start_in_foreground(
    config: CoordinatorConfig, only: Collection[str] = PROGRAMS, pools: Collection[str] = ()
) -> int:
    """The same, but wait for its end; the exit code. Ctrl-C or SIGTERM ends all of it."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    served = start(config, only=only, pools=pools)
    signal.signal(signal.SIGTERM, interrupt)
    try:
        while served.supervisord.alive:
            time.sleep(0.2)
    except KeyboardInterrupt:
        stop(Path(config.state_dir))
        return 130
    return 0


def stop(directory: Path, timeout: float = 30.0) -> bool:
    """End the supervisord of ``directory`` and everything of it; False when none ran.

    Raises ServeFailed when a process outlives even SIGKILL, naming it.
    """
    if not directory.is_dir():
        return False
    with _only_one(directory, timeout):
        there = bool(coordinator_processes(directory))
        _end(directory, timeout)
        return there


def check(directory: Path, timeout: float = 10.0) -> dict[str, str]:
    """Ask every service of it for its ``status``; name → what is wrong, "" for well.

    All of it takes at most ``timeout`` seconds. Raises NotFound when nothing was started
    in ``directory``.
    """
    if not (directory / "supervisord.conf").exists():
        raise NotFound(f"no coordinator was started in {directory}")
    config = yaml.safe_load((directory / "config.yaml").read_text())
    url = read_access(config["epu"]["accounts"]).amqp_url("coordinator")
    deadline = time.monotonic() + timeout
    result = {}
    names = _kept_programs(directory)
    with RpcClient(url, timeout=timeout) as client:
        for name in names:
            left = max(deadline - time.monotonic(), 0.1)
            try:
                found = client.call(name, "status", timeout=min(left, timeout / 2))
                # Before that, whoever hands a pool over would not know whose it is.
                known = not pool_of(name) or found.get("known", True)
                result[name] = "" if known else "the provisioner has not heard of it yet"
            except BrokerUnreachable as problem:
                return dict.fromkeys(names, str(problem))
            except CallFailed as problem:
                result[name] = str(problem)
    return result


def give_up_pools(directory: Path, timeout: float = 3.0) -> None:
    """Tell the provisioner that the pools with controllers in ``directory`` have none any more.

    Not where all ends with it, nor when it does not answer: then their pools stay theirs.
    """
    names = _kept_programs(directory)
    pools = sorted({pool_of(name) for name in names} - {""})
    if not pools or "provisioner" in names:
        return
    with suppress(CallFailed, EpuError, OSError, KeyError, yaml.YAMLError):
        config = yaml.safe_load((directory / config_file()).read_text())
        url = read_access(config["epu"]["accounts"]).amqp_url("coordinator")
        with RpcClient(url, timeout=timeout) as client:
            for pool in pools:
                client.call("provisioner", "release_keeper", pool)


def supervisord_text(
    directory: Path, socket: str, python: str, parts: Mapping[str, Part] | None = None
) -> str:
    """The configuration of supervisord. PURE but for its arguments.

    A program that ends is started again without limit: one that lived a second at once,
    one that did not after a pause that grows by a second each time. So nobody ever ends
    FATAL, and a full disk does not become a busy loop. Everybody's password is in
    ``config.yaml``, none here and none on a command line.
    """
    programs = parts_of() if parts is None else parts
    sections = [
        _section(
            "supervisord",
            nodaemon="true",
            logfile=directory / "logs" / "supervisord.log",
            logfile_maxbytes="2MB",
            logfile_backups=2,
            pidfile=directory / "supervisord.pid",
            childlogdir=directory / "logs",
            silent="true",
        ),
        _section("unix_http_server", file=socket, chmod="0700"),
        _section("supervisorctl", serverurl=f"unix://{socket}"),
        "[rpcinterface:supervisor]\n"
        "supervisor.rpcinterface_factory = "
        "supervisor.rpcinterface:make_main_rpcinterface\n",
        # supervisord ends its groups one after the other, a group's members together.
        _section("group:coordinator", programs=",".join(programs)),
    ]
    for name, part in programs.items():
        words = (python, "-m", part.module, "--config", str(directory / part.config))
        sections.append(
            _section(
                f"program:{name}",
                command=" ".join(_quoted(word) for word in words),
                directory=directory,
                autorestart="true",
                startsecs=1,
                startretries=1_000_000_000,
                stopwaitsecs=8,
                stopasgroup="true",
                killasgroup="true",
                redirect_stderr="true",
                stdout_logfile=directory / "logs" / f"{name}.log",
                stdout_logfile_maxbytes="5MB",
                stdout_logfile_backups=3,
            )
        )
    return "\n".join(sections)


def _section(name: str, **values: object) -> str:
    lines = [
        f"{key} = {value if key == 'command' else _plain(value)}" for key, value in values.items()
    ]
    return "\n".join((f"[{name}]", *lines, ""))


def _plain(value: object) -> str:
    """supervisord expands ``%(name)s`` in every value."""
    return str(value).replace("%", "%%")


def _quoted(word: str) -> str:
    """One word of a command, for supervisord's shlex."""
    return '"' + _plain(word).replace("\\", "\\\\").replace('"', '\\"') + '"'


def _socket_path(directory: Path) -> str:
    """Where the control socket goes: here, or, where paths are long, in a private place."""
    here = str(directory / "supervisor.sock")
    if len(os.fsencode(here)) <= _LONGEST_SOCKET:
        return here
    return str(Path(tempfile.mkdtemp(prefix="epu-")) / "s")


def _launch(directory: Path, socket: str, timeout: float) -> Served:
    environment = {key: value for key, value in os.environ.items() if key not in _KEPT_BACK}
    environment[MARK_VARIABLE] = str(directory)
    words = [sys.executable, "-m", "supervisor.supervisord", "-n"]
    words += ["-c", str(directory / "supervisord.conf")]
    with open(directory / "logs" / "supervisord.out", "ab") as out:
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=with_own_packages(environment),
            start_new_session=True,
            umask=0o077,
        )
    deadline = time.monotonic() + timeout
    while process.poll() is None and time.monotonic() < deadline:
        if Path(socket).is_socket() and (running := supervisord_of(directory)):
            return Served(running, socket)
        time.sleep(0.05)
    _end(directory, timeout=2)
    process.wait(timeout=5)
    said = (directory / "logs" / "supervisord.out").read_text(errors="replace")
    last = (said.strip().splitlines() or ["it said nothing"])[-1]
    raise ServeFailed(f"supervisord did not start in {directory}: {last}")


def with_own_packages(environment: Mapping[str, str]) -> dict[str, str]:
    """``environment`` in which a Python finds the packages that this one runs from.

    A checkout works like an installation, wherever the programs are started.
    """
    root = str(Path(__file__).resolve().parent.parent)
    path = environment.get("PYTHONPATH", "")
    if "site-packages" in root or root in path.split(os.pathsep):
        return dict(environment)
    return {**environment, "PYTHONPATH": os.pathsep.join(filter(None, (root, path)))}


def _kept_socket(directory: Path) -> str:
    """The socket that the last start wrote into the configuration; "" for none."""
    return _kept(directory, "unix_http_server", "file").replace("%%", "%")


def _kept_programs(directory: Path) -> list[str]:
    """The processes that the last start wrote into it."""
    return _kept(directory, "group:coordinator", "programs").split(",")


def _kept(directory: Path, section: str, key: str) -> str:
    parser = configparser.RawConfigParser()
    parser.read(directory / "supervisord.conf")
    return parser.get(section, key, fallback="")


def _end(directory: Path, timeout: float) -> None:
    """End what runs for ``directory`` and remove what supervisord would leave behind."""
    left = end_coordinator(directory, timeout)
    if left:
        names = ", ".join(f"{process.name} (pid {process.pid})" for process in left)
        raise ServeFailed(f"these processes of {directory} can't be ended: {names}")
    socket = _kept_socket(directory)
    if socket:
        Path(socket).unlink(missing_ok=True)
        if Path(socket).parent != directory:
            shutil.rmtree(Path(socket).parent, ignore_errors=True)
    (directory / "supervisord.pid").unlink(missing_ok=True)


@contextmanager
def _only_one(directory: Path, timeout: float) -> Iterator[None]:
    """Two commands never start or stop in one directory at the same time: one waits."""
    deadline = time.monotonic() + max(timeout, 1.0)
    with open(directory / "serve.lock", "a") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise ServeFailed(f"another command is at work in {directory}") from None
                time.sleep(0.1)
        yield
