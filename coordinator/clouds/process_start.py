"""Starting one machine of the process cloud, once, whoever else tries at the same time."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from coordinator.clouds import process_launcher
from coordinator.clouds.base import LaunchRequest
from coordinator.clouds.process_machine import (
    LOCK_TIMEOUT,
    MachineDirectory,
    MachineRecord,
    make_socket_directory,
    socket_path,
    write_atomically,
    write_record,
)
from coordinator.clouds.process_table import MARK_VARIABLE, ProcessTable
from coordinator.errors import LaunchRefused, RetryLater
from userdata_templates.render import TemplateProblem, render

#: What a machine inherits of our environment. Everything else, credentials included, stays.
_PASSED_ON = ("HOME", "USER", "LOGNAME", "LANG", "TZ", "TMPDIR", "PYTHONPATH")
_LAUNCHER_TIMEOUT = 30.0


def ensure_started(
    directory: MachineDirectory,
    request: LaunchRequest,
    index: int,
    table: ProcessTable,
    agent_command: Sequence[str] = (),
) -> None:
    """Start machine ``index`` of ``request`` unless it was started or terminated before.

    Returns once its supervisord was executed. May be killed at any point and repeated by
    anybody: the claim says who it is to be, the lock who is at it, ``started`` and the
    processes with its mark whether it was done.

    Raises RetryLater, LaunchRefused, OSError.
    """
    with directory.locked(LOCK_TIMEOUT) as lock:
        record = directory.record()
        if record is not None and record.run != request.run:
            raise LaunchRefused(f"launch id {request.launch_id} was used by another run")
        if directory.terminated() or directory.started():
            return
        if record is None:
            record = _claim(directory, request, index)
        elif table.of([record.mark]):
            directory.mark_started()  # the launcher was killed in its last moment
            return
        _prepare(directory, record, request, agent_command)
        _start(directory, record, lock)


def _claim(directory: MachineDirectory, request: LaunchRequest, index: int) -> MachineRecord:
    mark = secrets.token_hex(12)
    record = MachineRecord(
        run=request.run,
        pool=request.pool,
        launch_id=request.launch_id,
        index=index,
        mark=mark,
        launched_at=time.time(),
        socket=socket_path(directory.path, mark),
    )
    write_record(directory, record)
    return record


def _prepare(
    directory: MachineDirectory,
    record: MachineRecord,
    request: LaunchRequest,
    agent_command: Sequence[str],
) -> None:
    path = directory.path
    identity = {"launch_index": record.index, "cloud_id": record.cloud_id}
    variables = {
        "node_id": record.node_id,
        "directory": path,
        "socket": record.socket,
        # Without a configuration no agent could do anything but fail for ever.
        "agent_command": (agent_command or _agent(path)) if request.user_data else [],
    }
    try:
        supervisord = render("supervisord", "conf", variables)
        for name in ("logs", "conf.d"):
            (path / name).mkdir(mode=0o700, exist_ok=True)
        make_socket_directory(path, record.socket)
        write_atomically(path / "user-data", request.user_data)
        write_atomically(path / "instance-data.json", json.dumps(identity))
        write_atomically(path / "supervisord.conf", supervisord)
    except UnicodeEncodeError:  # whose text holds the user-data
        raise LaunchRefused(f"{record.node_id}: the user-data is not text") from None
    except TemplateProblem as problem:
        raise LaunchRefused(f"{record.node_id}: {problem}") from None


def _start(directory: MachineDirectory, record: MachineRecord, lock: int) -> None:
    launcher = [sys.executable, "-I", "-S", process_launcher.__file__]
    words = [sys.executable, "-m", "supervisor.supervisord", "-n"]
    words += ["-c", f"{directory.path}/supervisord.conf"]
    process = subprocess.Popen(
        [*launcher, str(directory.path), str(lock), *words],
        env=machine_environment(directory.path, record),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        pass_fds=[lock],
        # Never in our session: a session with a marked process in it is the machine's.
        start_new_session=True,
    )
    try:
        _, said = process.communicate(timeout=_LAUNCHER_TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise RetryLater(f"{record.node_id} was not started in time") from None
    if process.returncode != 0:
        last = said.decode(errors="replace").strip().splitlines()[-1:]
        raise RetryLater(f"{record.node_id} was not started: {''.join(last)}")


def _agent(path: Path) -> list[str]:
    agent = [sys.executable, "-m", "agent.service", "--config", f"{path}/user-data"]
    return [*agent, "--instance-data", f"{path}/instance-data.json", "--dir", str(path)]


def machine_environment(path: Path, record: MachineRecord) -> dict[str, str]:
    """What the machine's processes see of the world outside: little, and no secret."""
    passed = {
        name: value
        for name, value in os.environ.items()
        if name in _PASSED_ON or name.startswith("LC_")
    }
    places = os.environ.get("PATH", os.defpath)
    return passed | {
        "PATH": f"{os.path.dirname(sys.executable)}{os.pathsep}{places}",
        "EPU_NODE_ID": record.node_id,
        "EPU_NODE_DIR": str(path),
        MARK_VARIABLE: record.mark,
    }
