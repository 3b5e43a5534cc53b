"""The record of a run: one SQLite file, written ahead of everything that is done.

Others read it while the boot goes on (WAL); a second writer is kept out by a lock file.
Both are 0600 from the moment they exist. Plans are stored with ``env:NAME`` as written and
with references in place of literal secrets (``run_secrets``), so a record holds no secret
but what boot programs make up and give as outputs.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, insert, select, update

from agent.wire import MalformedMessage, from_wire, to_wire
from bootlevels.attributes import literal_secrets
from bootlevels.boot_sequence import NEXT_STATES, ServiceState
from bootlevels.machine_record import MachineLife, MachineRecord
from bootlevels.plan import LaunchPlan
from bootlevels.record_file import (
    RecordProblem,
    file_problems,
    record_engine,
    set_durable,
    transaction,
)
from bootlevels.record_tables import (
    FORMAT,
    TABLES,
    LaunchRecord,
    RunRecord,
    ServiceRecord,
    launch_row,
    launches_table,
    machine_of,
    machine_row,
    machines_table,
    metadata,
    run_row,
    run_table,
    service_of,
    service_row,
    services_table,
)
from bootlevels.record_writer import GroupWriter, Key, Row
from bootlevels.run_home import RECORD_NAME
from bootlevels.run_secrets import RunSecrets
from bootlevels.transports.program import Started
from coordinator.errors import InvalidTransition

__all__ = ["LaunchRecord", "Record", "RecordProblem", "RunRecord", "ServiceRecord"]


_REPLACE = {name: insert(table).prefix_with("OR REPLACE") for name, table in TABLES.items()}


class Record:
    """One run's record, safe for threads.

    Who only reads sees the file as it is at each call. The writer (there is one, see
    ``run_lock``) keeps what it wrote in memory too. Writes are durable when they return,
    but those with ``wait=False``: these are as soon as the next one that waits.
    """

    def __init__(self, directory: Path, *, writable: bool = False) -> None:
        self.path = directory / RECORD_NAME
        self._writable = writable
        self._engine = record_engine(self.path, writable)
        self._lock = threading.RLock()
        self._known: dict[str, ServiceRecord] | None = None
        self._outputs: dict[str, dict[str, str]] | None = None
        self._machines: dict[str, MachineRecord] = {}
        self._connection: Connection | None = None
        self._writer = GroupWriter(self._commit)
        self._secrets = RunSecrets.of(directory)

    @classmethod
    def create(
        cls,
        directory: Path,
        name: str,
        plan: LaunchPlan,
        given: Mapping[str, str],
        now: float,
        remapped: Mapping[str, str] | None = None,
    ) -> Record:
        """A new record in ``directory``, which holds none yet."""
        # Under another name first: a record is complete or it is not there.
        path, unfinished = directory / RECORD_NAME, directory / f"{RECORD_NAME}.new"
        try:
            unfinished.unlink(missing_ok=True)
            os.close(os.open(unfinished, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        except OSError as error:
            raise RecordProblem(f"{unfinished} can't be written: {error.strerror}") from None
        kept = RunSecrets(directory)
        engine = record_engine(unfinished, writable=True, wal=False)
        with transaction(engine, unfinished) as connection:
            metadata.create_all(connection, checkfirst=False)
            connection.exec_driver_sql(f"PRAGMA user_version={FORMAT}")
            row = run_row(kept, plan, given, remapped or {})
            connection.execute(insert(run_table).values(**row, name=name, created_at=now))
        engine.dispose()
        os.replace(unfinished, path)
        return cls(directory, writable=True)

    def close(self) -> None:
        """Write what is left and let go of the file."""
        self._writer.close()
        if self._connection is not None:
            self._connection.close()
        self._engine.dispose()

    # ---------------------------------------------------------------- reading

    def run(self) -> RunRecord:
        """The run itself. Raises RecordProblem when the file holds none."""
        with self._lock, transaction(self._engine, self.path) as connection:
            version = connection.exec_driver_sql("PRAGMA user_version").scalar()
            if version != FORMAT:
                raise RecordProblem(
                    f"{self.path} has format {version}, this version reads {FORMAT}: "
                    "use the version of epu that wrote it"
                )
            row = connection.execute(select(run_table)).mappings().first()
            self._secrets = RunSecrets.of(self.path.parent)  # another writer's may be new
        if row is None:
            raise RecordProblem(f"{self.path} is not the record of a run")
        try:
            plan = from_wire(LaunchPlan, self._secrets.unsealed(json.loads(row["plan"])))
            given = from_wire(dict[str, str], self._secrets.unsealed(json.loads(row["given"])))
            remapped = from_wire(dict[str, str], json.loads(row["remapped"]))
        except (ValueError, MalformedMessage) as problem:
            raise RecordProblem(f"{self.path} can't be read: {problem}") from None
        times = {key: row[key] for key in ("created_at", "booted_at", "terminated_at")}
        return RunRecord(name=row["name"], plan=plan, given=given, remapped=remapped, **times)

    def services(self) -> dict[str, ServiceRecord]:
        """Every service that ever left NEW, by name."""
        with self._lock:
            return dict(self._services())

    def service(self, name: str) -> ServiceRecord:
        """The service called ``name``; NEW when nothing is stored."""
        with self._lock:
            return self._services().get(name) or ServiceRecord(name=name)

    def outputs(self) -> Mapping[str, Mapping[str, str]]:
        """What the boot programs of all services gave, by service; the writer's is live."""
        with self._lock:
            if self._known is None or self._outputs is None:
                found = {name: one.outputs for name, one in self._services().items()}
                self._outputs = found if self._writable else None
                return found
            return self._outputs

    def states(self) -> dict[str, ServiceState]:
        return {name: service.state for name, service in self.services().items()}

    def launches(self) -> list[LaunchRecord]:
        """Every launch of every service, oldest first."""
        with self._lock, transaction(self._engine, self.path) as connection:
            ordered = select(launches_table).order_by("launched_at", "service")
            rows = connection.execute(ordered).mappings().all()
        return [LaunchRecord(**row) for row in rows]

    def machines(self, service: str | None = None) -> list[MachineRecord]:
        """Every machine ever intended, of one service or of all, oldest first."""
        with self._lock:
            self._services()
            found = self._machines if self._writable else self._stored_machines()
            return [m for m in found.values() if service in (None, m.service)]

    def _services(self) -> dict[str, ServiceRecord]:
        """Stored services; the writer reads them once."""
        if self._known is not None:
            return self._known
        with transaction(self._engine, self.path) as connection:
            rows = connection.execute(select(services_table)).mappings().all()
        found = {row["name"]: self._clear(service_of(row)) for row in rows}
        if self._writable:
            self._known, self._machines = found, self._stored_machines()
        return found

    def _clear(self, service: ServiceRecord) -> ServiceRecord:
        return replace(service, outputs=self._secrets.unsealed(service.outputs))

    def _stored_machines(self) -> dict[str, MachineRecord]:
        with transaction(self._engine, self.path) as connection:
            ordered = select(machines_table).order_by("intended_at", "launch_id")
            rows = connection.execute(ordered).mappings().all()
        return {row["launch_id"]: machine_of(dict(row)) for row in rows}

    # ---------------------------------------------------------------- writing: the run

    def store_plan(
        self,
        plan: LaunchPlan,
        given: Mapping[str, str],
        remapped: Mapping[str, str] | None = None,
    ) -> None:
        """The plan as it is now, for a boot that goes on with another one."""
        with self._lock, transaction(self._engine, self.path) as connection:
            before = connection.execute(select(run_table.c.plan)).scalar() or ""
        row = run_row(self._secrets, plan, given, remapped or {}, json.loads(before))
        self._update_run(**row)
        with file_problems(self.path):
            self._secrets.keep_only(literal_secrets(plan))

    def as_stored(self, plan: LaunchPlan) -> LaunchPlan:
        """``plan`` as ``run`` would give it back: secrets that are not at hand stay sealed."""
        with self._lock, transaction(self._engine, self.path) as connection:
            text = json.loads(connection.execute(select(run_table.c.plan)).scalar() or "{}")
        same = self._secrets.salted_as(json.dumps(text, ensure_ascii=False), literal_secrets(plan))
        return from_wire(LaunchPlan, self._secrets.unsealed(same.sealed(to_wire(plan))))

    def mark_booted(self, now: float) -> None:
        self._update_run(booted_at=now)

    def mark_terminated(self, now: float) -> None:
        self._update_run(terminated_at=now)

    def _update_run(self, **values: Any) -> None:
        self._writer.flush()
        with self._lock, transaction(self._engine, self.path) as connection:
            connection.execute(update(run_table).values(**values))

    # ---------------------------------------------------------------- writing: services

    def requested(self, name: str, now: float) -> None:
        """Its machine is about to be asked for, long before its level's turn."""
        self._launch(name, ServiceState.REQUESTED, now, wait=True)

    def launched(self, name: str, now: float, inputs: str = "", *, wait: bool = True) -> None:
        """Its boot is about to begin; what an earlier one gave is void."""
        self._launch(name, ServiceState.LAUNCHED, now, wait=wait, inputs=inputs)

    def booted(
        self, name: str, outputs: Mapping[str, str], now: float, *, wait: bool = True
    ) -> None:
        given = dict(outputs)
        self._move(name, ServiceState.BOOTED, wait=wait, booted_at=now, outputs=given, running=None)

    def verified(self, name: str, now: float, *, wait: bool = True) -> None:
        """It is well; for the first time after its boot, or again."""
        first = self.service(name).verified_at or now
        self._move(
            name,
            ServiceState.VERIFIED,
            wait=wait,
            verified_at=first,
            seen_well_at=now,
            running=None,
        )

    def replacing(self, name: str) -> None:
        """What there is of it is about to be ended, to be booted anew or to be removed."""
        self._move(name, ServiceState.REPLACING)

    def removed(self, name: str, now: float) -> None:
        """Nothing of it is left; it is as if it had never been booted."""
        self._move(name, ServiceState.NEW, terminated_at=now, outputs={}, running=None)

    def terminating(self, name: str) -> None:
        self._move(name, ServiceState.TERMINATING)

    def terminated(self, name: str, now: float) -> None:
        self._move(name, ServiceState.TERMINATED, terminated_at=now, running=None)

    def failed(self, name: str, step: str, error: str, now: float) -> None:
        """What went wrong; the state stays where it was, its program has ended."""
        self._set(name, wait=True, step=step, error=error, error_at=now, running=None)

    def program_started(self, name: str, started: Started) -> None:
        """Write down how to find the program that is about to run."""
        self._set(name, wait=not started.noted, running=started)

    def program_ended(self, name: str) -> None:
        self._set(name, wait=False, running=None)

    def flush(self) -> None:
        """Return when all that was written is on the disk. Raises RecordProblem."""
        self._writer.flush()

    def _launch(
        self, name: str, state: ServiceState, now: float, *, wait: bool, **values: Any
    ) -> None:
        with self._lock:
            before = self.service(name)
            again = before.state is ServiceState.REQUESTED  # one launch, asked for early
            values["launched_at"] = before.launched_at if again else now
            values["launches"] = before.launches + (not again)
            times = dict.fromkeys(("booted_at", "verified_at", "seen_well_at", "terminated_at"))
            self._move(name, state, wait=False, outputs={}, **times, **values)
        if wait:
            self._writer.flush()

    def _move(self, name: str, state: ServiceState, *, wait: bool = True, **values: Any) -> None:
        with self._lock:
            before = self.service(name).state
            if state not in NEXT_STATES[before]:
                raise InvalidTransition(f"service {name}: {before.value} → {state.value}")
            cleared = {"step": "", "error": "", "error_at": None}
            self._set(name, wait=False, state=state, **cleared, **values)
        if wait:
            self._writer.flush()

    def _set(self, name: str, *, wait: bool, **values: Any) -> None:
        with self._lock:
            self._may_write()
            service = replace(self.service(name), **values)
            self._services()[name] = service
            if self._outputs is not None:
                self._outputs[name] = service.outputs
            row = service_row(service)
            row["outputs"] = json.dumps(self._secrets.sealed(dict(service.outputs)))
            self._writer.put(("services", (name,)), row)
            if service.launches and values.keys() - {"running"}:
                key = ("launches", (name, service.launches))
                self._writer.put(key, launch_row(service))
        if wait:
            self._writer.flush()

    # ---------------------------------------------------------------- writing: machines

    def machine_intended(self, service: str, launch_id: str, cloud: str, now: float) -> None:
        """The cloud is about to be asked for a machine."""
        machine = MachineRecord(launch_id=launch_id, service=service, cloud=cloud, intended_at=now)
        self._set_machine(machine)

    def machine_listed(
        self, launch_id: str, cloud_id: str, addresses: Sequence[str], now: float
    ) -> None:
        """The cloud lists the machine (again, perhaps with other addresses)."""
        machine = self._machine(launch_id)
        ending = machine.life in (MachineLife.TERMINATING, MachineLife.GONE)
        self._set_machine(
            replace(
                machine,
                life=machine.life if ending else MachineLife.LISTED,
                cloud_id=cloud_id,
                addresses=tuple(addresses),
                listed_at=machine.listed_at or now,
            )
        )

    def machine_terminating(self, launch_id: str) -> None:
        """The cloud is about to be asked to end the machine."""
        self._set_machine(replace(self._machine(launch_id), life=MachineLife.TERMINATING))

    def machine_gone(self, launch_id: str, now: float) -> None:
        """The cloud lists it as gone, or for longer than its window not at all."""
        self._set_machine(replace(self._machine(launch_id), life=MachineLife.GONE, gone_at=now))

    def _machine(self, launch_id: str) -> MachineRecord:
        return next(m for m in self.machines() if m.launch_id == launch_id)

    def _set_machine(self, machine: MachineRecord) -> None:
        with self._lock:
            self._may_write()
            self._services()
            if self._machines.get(machine.launch_id) == machine:
                return
            self._machines[machine.launch_id] = machine
            self._writer.put(("machines", (machine.launch_id,)), machine_row(machine))
        self._writer.flush()

    # ---------------------------------------------------------------- inside

    def _may_write(self) -> None:
        if not self._writable:
            raise RecordProblem(f"the record {self.path} is open for reading only")

    def _commit(self, rows: Mapping[Key, Row]) -> None:
        tables: dict[str, list[Row]] = {}
        for (table, _), row in rows.items():
            tables.setdefault(table, []).append(row)
        if self._connection is None:  # kept: connecting costs more than writing
            self._connection = self._engine.connect()
        set_durable(self._connection, "machines" in tables)
        with transaction(self._engine, self.path, self._connection) as connection:
            for table, batch in tables.items():
                connection.execute(_REPLACE[table], list(batch))
