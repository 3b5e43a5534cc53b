"""The tables of a run's record, and rows as the values that everything else uses."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Column, Float, Integer, MetaData, RowMapping, String, Table

from agent.wire import to_wire
from bootlevels.attributes import literal_secrets
from bootlevels.boot_sequence import ServiceState
from bootlevels.machine_record import MachineLife, MachineRecord
from bootlevels.plan import LaunchPlan
from bootlevels.record_file import file_problems
from bootlevels.run_secrets import RunSecrets
from bootlevels.transports.program import Started

#: Grows with every change of the tables; a record of another format is not guessed at.
FORMAT = 2

metadata = MetaData()
run_table = Table(
    "run",
    metadata,
    Column("name", String, primary_key=True),
    Column("plan", String, nullable=False),
    Column("given", String, nullable=False),
    Column("remapped", String, nullable=False, default="{}"),
    Column("created_at", Float, nullable=False),
    Column("booted_at", Float),
    Column("terminated_at", Float),
)
services_table = Table(
    "services",
    metadata,
    Column("name", String, primary_key=True),
    Column("state", String, nullable=False),
    Column("launches", Integer, nullable=False, default=0),
    Column("launched_at", Float),
    Column("booted_at", Float),
    Column("verified_at", Float),
    Column("seen_well_at", Float),
    Column("terminated_at", Float),
    Column("step", String, nullable=False, default=""),
    Column("error", String, nullable=False, default=""),
    Column("error_at", Float),
    Column("outputs", String, nullable=False, default="{}"),
    Column("inputs", String, nullable=False, default=""),
    Column("pid", Integer),
    Column("pid_mark", String, nullable=False, default=""),
)
launches_table = Table(
    "launches",
    metadata,
    Column("service", String, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("launched_at", Float, nullable=False),
    Column("booted_at", Float),
    Column("verified_at", Float),
    Column("ended_at", Float),
    Column("error", String, nullable=False, default=""),
)
machines_table = Table(
    "machines",
    metadata,
    Column("launch_id", String, primary_key=True),
    Column("service", String, nullable=False),
    Column("cloud", String, nullable=False),
    Column("life", String, nullable=False),
    Column("cloud_id", String, nullable=False, default=""),
    Column("addresses", String, nullable=False, default="[]"),
    Column("intended_at", Float),
    Column("listed_at", Float),
    Column("gone_at", Float),
)
TABLES = {t.name: t for t in (services_table, launches_table, machines_table)}


@dataclass(frozen=True, kw_only=True)
class ServiceRecord:
    """What is known of one service; times in seconds since the epoch, of its last launch.

    ``verified_at`` is when it first was well after its boot, ``seen_well_at`` when it last
    was. ``step`` and ``error`` are of the last failure and are cleared by the next success.
    ``inputs`` tells whether values it was booted with are others now. ``launches`` counts.
    """

    name: str
    state: ServiceState = ServiceState.NEW
    launches: int = 0
    launched_at: float | None = None
    booted_at: float | None = None
    verified_at: float | None = None
    seen_well_at: float | None = None
    terminated_at: float | None = None
    step: str = ""
    error: str = ""
    error_at: float | None = None
    outputs: dict[str, str] = field(default_factory=dict)
    inputs: str = ""
    running: Started | None = None


@dataclass(frozen=True, kw_only=True)
class LaunchRecord:
    """One launch of a service, over or not; times in seconds since the epoch."""

    service: str
    number: int
    launched_at: float
    booted_at: float | None = None
    verified_at: float | None = None
    ended_at: float | None = None
    error: str = ""


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """What is known of a run.

    ``given`` are the globals of its command line, ``remapped`` its drivers by cloud.
    """

    name: str
    plan: LaunchPlan
    given: dict[str, str]
    remapped: dict[str, str] = field(default_factory=dict)
    created_at: float
    booted_at: float | None = None
    terminated_at: float | None = None


def run_row(
    kept: RunSecrets,
    plan: LaunchPlan,
    given: Mapping[str, str],
    remapped: Mapping[str, str],
    before: Any = None,
) -> dict[str, str]:
    """The stored plan; its secrets are in their own file before this is written.

    ``before``: the plan that is stored now. Raises RecordProblem.
    """
    with file_problems(kept.directory):
        kept.keep(literal_secrets(plan), json.dumps(before, ensure_ascii=False))
    return {
        "plan": json.dumps(kept.sealed(to_wire(plan))),
        "given": json.dumps(kept.sealed(dict(given))),
        "remapped": json.dumps(dict(remapped)),
    }


_SERVICE_SAME = tuple(
    column.name
    for column in services_table.columns
    if column.name not in ("state", "outputs", "pid", "pid_mark")
)


def service_row(service: ServiceRecord) -> dict[str, Any]:
    """``service`` as a row of its table."""
    running = service.running
    return {
        **{key: getattr(service, key) for key in _SERVICE_SAME},
        "state": service.state.value,
        "outputs": json.dumps(service.outputs),
        "pid": running.pid if running else None,
        "pid_mark": running.mark if running else "",
    }


def service_of(row: RowMapping) -> ServiceRecord:
    """The value of a row that ``service_row`` made."""
    return ServiceRecord(
        **{key: row[key] for key in _SERVICE_SAME},
        state=ServiceState(row["state"]),
        outputs=json.loads(row["outputs"]),
        running=Started(row["pid"], row["pid_mark"]) if row["pid"] is not None else None,
    )


def launch_row(service: ServiceRecord) -> dict[str, Any]:
    """The present launch of ``service`` as a row of the launches."""
    return {
        "service": service.name,
        "number": service.launches,
        "launched_at": service.launched_at,
        "booted_at": service.booted_at,
        "verified_at": service.verified_at,
        "ended_at": service.terminated_at,
        "error": service.error,
    }


def machine_row(machine: MachineRecord) -> dict[str, Any]:
    """``machine`` as a row of its table."""
    values = vars(machine)
    addresses = json.dumps(list(machine.addresses))
    return {**values, "life": machine.life.value, "addresses": addresses}


def machine_of(row: Mapping[str, Any]) -> MachineRecord:
    """The value of a row that ``machine_row`` made."""
    plain = dict(row)
    addresses = tuple(json.loads(plain.pop("addresses")))
    return MachineRecord(**{**plain, "life": MachineLife(row["life"])}, addresses=addresses)
