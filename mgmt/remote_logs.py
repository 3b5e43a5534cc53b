"""Logs on the base machines of a run: of a broker or a coordinator on a machine of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import PurePosixPath

from bootlevels.api import Run
from bootlevels.machine_record import MachineLife
from bootlevels.run_place import StepFailed
from bootlevels.transports.files import FileNotMoved, MachineFiles
from mgmt.log_fetch import LogSource

#: Templates whose machines have no agent that could be asked.
TEMPLATES = ("broker", "coordinator")
#: Where such machines have logs, each with its place below the machine's.
DIRECTORIES = {
    "/var/lib/epu/logs": "machine",
    "/var/lib/epu/broker/logs": "broker",
    "/var/lib/epu/coordinator/logs": "coordinator",
}
#: Seconds for looking into one machine, and for each file.
_WITHIN = 10.0


def remote_sources(run: Run) -> Iterator[LogSource]:
    """The logs of the base machines that are there and that programs can be brought to.

    One that can't be looked into is a source that can't be read, so that it is told.
    """
    alive = {one.service for one in run.machines() if one.life is MachineLife.LISTED}
    for service in run.services():
        machine, name = service.spec.machine, service.spec.name
        if machine is None or machine.template not in TEMPLATES or name not in alive:
            continue
        try:
            files = run.files(name)
            paths = files.names(tuple(DIRECTORIES), time.monotonic() + _WITHIN)
        except (StepFailed, FileNotMoved) as problem:
            yield LogSource(f"base/{name}", partial(_fail, str(problem)))
            continue
        for path in paths:
            place = PurePosixPath(path)
            target = f"base/{name}/{DIRECTORIES[str(place.parent)]}/{place.name}"
            yield LogSource(target, _reader(files, path))


def _reader(files: MachineFiles, path: str) -> Callable[[], bytes]:
    def read() -> bytes:
        try:
            return files.fetch_end(path, time.monotonic() + _WITHIN)
        except FileNotMoved as problem:
            raise OSError(str(problem)) from None

    return read


def _fail(why: str) -> bytes:
    raise OSError(why)
