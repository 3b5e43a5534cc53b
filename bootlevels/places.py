"""Where services are: their machines, and the way to run programs there."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

from bootlevels.attributes import Attributes, MalformedReference, Unresolved
from bootlevels.base_tokens import BaseTokens
from bootlevels.bootconf import BadTemplate, filled
from bootlevels.checks import Look
from bootlevels.cloud_drivers import CloudDrivers, settings_of
from bootlevels.machine_record import MachineLedger, MachineRecord
from bootlevels.machines import Machines, MachineTrouble, Patience, Tell, WantedMachine
from bootlevels.plan import ServiceKind, ServiceSpec, SshAccess, TransportKind
from bootlevels.pool_gateway import CoordinatorProblem, coordinator_url
from bootlevels.run_place import RunPlace, StepFailed
from bootlevels.staging import agent_is_default
from bootlevels.transports.exec import ExecTransport
from bootlevels.transports.files import MachineFiles
from bootlevels.transports.local import LocalTransport
from bootlevels.transports.program import CutShort, Limit, Transport
from coordinator.clouds.agent_settings import CLOUD_INIT
from coordinator.clouds.base import CloudDriver
from coordinator.errors import ConfigProblem, EpuError
from userdata_templates.render import TemplateProblem, render

if TYPE_CHECKING:
    from bootlevels.transports.agent import AgentTransport
    from bootlevels.transports.ssh import SshTarget
    from bootlevels.transports.ssh_transport import SshTransport

#: Seconds that ending a machine may take.
END_TIMEOUT = 300.0
#: Longest single try to reach a machine, seconds.
_REACH_LIMIT = 15.0
#: Below the login directory, when a plan says nothing else.
_STAGES = ".epu"


@dataclass(frozen=True)
class Places:
    """The places of one run's services. Every method may raise StepFailed."""

    place: RunPlace
    attributes: Callable[[], Attributes]
    machines: Machines
    local: Transport

    # ---------------------------------------------------------------- machines

    def request(self, service: ServiceSpec, stop: Event) -> None:
        """Have the machine of ``service`` asked for; returns before it runs."""
        assert service.machine is not None
        try:
            patience = Patience.of(service.machine.timeout, stop)
            self.machines.request(self._wanted(service), patience)
        except (MachineTrouble, ConfigProblem) as trouble:
            raise _failed(trouble) from None

    def ensure(self, service: ServiceSpec, stop: Event, tell: Tell) -> None:
        """The machine of ``service`` runs, and programs can get there."""
        assert service.machine is not None
        patience = Patience.of(service.machine.timeout, stop)
        try:
            self.machines.ensure(self._wanted(service), patience, tell)
            if service.programs:
                self._reach(service, patience, tell)
        except (MachineTrouble, ConfigProblem) as trouble:
            raise _failed(trouble) from None

    def look(self, service: ServiceSpec) -> Look:
        """Whether the machine under ``service`` runs, as its cloud says; one question."""
        machine = self._machine(service)
        if machine is None:
            return Look(ok=False, detail="it has no machine")
        try:
            problem = self.machines.look(machine)
        except (MachineTrouble, ConfigProblem) as trouble:
            return Look(ok=False, detail=str(trouble), unreachable=True)
        return Look(ok=not problem, detail=problem or "no check; its machine runs")

    def console(self, service: ServiceSpec) -> str | None:
        """The last lines that the machine under ``service`` printed; None where none can be had."""
        machine = self._machine(service) if self.is_launched(service) else None
        if machine is None or not machine.cloud_id:
            return None
        try:
            return self._driver(machine.cloud).console_output(machine.cloud_id)
        except EpuError:
            return None

    def end(self, service: ServiceSpec, stop: Event) -> None:
        """End every machine that was launched for ``service`` and is not known to be gone."""
        for machine in self.machines.ledger.machines(service.name):
            self.kill(machine, stop)

    def kill(self, machine: MachineRecord, stop: Event) -> None:
        """End one machine, whatever service it is for."""
        try:
            self.machines.end(machine, Patience.of(END_TIMEOUT, stop))
            BaseTokens(self.place.directory, self._coordinator).dismiss(machine.launch_id)
        except (MachineTrouble, ConfigProblem) as trouble:
            raise _failed(trouble) from None

    def _wanted(self, service: ServiceSpec) -> WantedMachine:
        asked, known = service.machine, self.attributes()
        assert asked is not None
        try:
            settings = {k: known.declared(v, service) for k, v in asked.settings.items()}
            variables = {k: known.declared(v, service) for k, v in asked.variables.items()}
            user_data, user_data_for = "", None
            if asked.template:
                form = getattr(
                    self.machines.clouds.driver(asked.cloud), "user_data_form", CLOUD_INIT
                )
                if form == CLOUD_INIT:
                    variables = self.machines.clouds.agent_variables(asked.cloud) | variables
                if self._has_agent(service):
                    tokens = BaseTokens(self.place.directory, self._coordinator)
                    user_data_for = partial(tokens.user_data, asked.template, form, variables)
                else:
                    user_data = render(asked.template, form, variables)
            elif asked.user_data:
                path = self.file(asked.user_data, service)
                values = known.of(service.name) | {"run_name": self.place.name}
                user_data = filled(path.read_text("utf-8"), values)
        except (Unresolved, MalformedReference, TemplateProblem, BadTemplate) as problem:
            raise StepFailed(f"its machine can't be launched: {problem}") from None
        except (OSError, UnicodeDecodeError):
            raise StepFailed(f"its user-data '{asked.user_data}' can't be read") from None
        return WantedMachine(
            service=service.name,
            cloud=asked.cloud,
            settings=settings,
            user_data=user_data,
            user_data_for=user_data_for,
        )

    def _machine(self, service: ServiceSpec) -> MachineRecord | None:
        return self.machines.current(self._home(service).name)

    def _reach(self, service: ServiceSpec, patience: Patience, tell: Tell) -> None:
        kind, said = self._kind(service), ""
        if kind not in (TransportKind.SSH, TransportKind.AGENT):
            return
        transport = self._ssh(service) if kind is TransportKind.SSH else self._agent(service)
        patience.hurry()
        while True:
            try:
                problem = transport.reach(Limit.within(patience.deadline, _REACH_LIMIT))
            except CutShort:
                problem = "it does not answer"
            if not problem:
                return
            if problem != said:
                said = problem
                tell(problem)
            patience.pause(f"the machine runs and is not reached: {problem}", 0.5)

    # ---------------------------------------------------------------- ways

    def transport(self, service: ServiceSpec) -> Transport:
        """The way to run programs where ``service`` is."""
        match self._kind(service):
            case TransportKind.LOCAL:
                return self.local
            case TransportKind.SSH:
                return self._ssh(service)
            case TransportKind.AGENT:
                return self._agent(service)
            case TransportKind.EXEC:
                machine = self._machine(service)
                if machine is None or not machine.cloud_id:
                    raise StepFailed("its machine is gone", unreachable=True)
                driver: Any = self._driver(machine.cloud)
                return ExecTransport(driver, machine.cloud_id)
        raise StepFailed("there is no way to run programs there")

    def files(self, service: ServiceSpec) -> MachineFiles:
        """The files of the machine where ``service`` is."""
        transport: Any = self.transport(service)
        if not hasattr(transport, "call"):
            raise StepFailed("its files can be moved by ssh or its driver's own way only")
        return MachineFiles(service.name, transport)

    def is_local(self, service: ServiceSpec) -> bool:
        """Whether its programs run on the launching machine."""
        return self._kind(service) is TransportKind.LOCAL

    def is_launched(self, service: ServiceSpec) -> bool:
        """Whether it is on a machine that the run has launched."""
        return self._home(service).kind is ServiceKind.MACHINE

    def file(self, text: str, service: ServiceSpec) -> Path:
        """A file of the plan, or an absolute one. Raises Unresolved, MalformedReference."""
        known = self.attributes()
        named = os.path.expanduser(known.expand(text, service))
        return Path(os.path.join(known.plan.directory, named))

    def _home(self, service: ServiceSpec) -> ServiceSpec:
        try:
            return self.attributes().plan.landlord(service)
        except KeyError:
            raise StepFailed(f"the plan has no service '{service.on}' any more") from None

    def _kind(self, service: ServiceSpec) -> TransportKind:
        home = self._home(service)
        if home.kind is ServiceKind.LOCAL:
            return TransportKind.LOCAL
        chosen = service.transport
        if chosen is None and home.transport is not TransportKind.LOCAL:
            chosen = home.transport  # where only its own programs run here, others go there
        if chosen is not None:
            return chosen
        if home.machine is not None:
            if agent_is_default(self.attributes().plan, home):
                return TransportKind.AGENT
            driver = self._driver(home.machine.cloud)
            return TransportKind.EXEC if hasattr(driver, "exec_command") else TransportKind.SSH
        return TransportKind.SSH if home.kind is ServiceKind.HOST else TransportKind.NONE

    def _driver(self, cloud: str) -> CloudDriver:
        try:
            return self.machines.clouds.driver(cloud)
        except ConfigProblem as problem:
            raise _failed(problem) from None

    def accounts(self) -> Path:
        """The file with the accounts of the run's broker."""
        known = self.attributes()
        registrar = known.plan.registrar()
        if registrar is None:
            raise StepFailed("no service of the plan provides the registrar")
        try:
            return self.place.directory / known.expand("${.accounts}", registrar)
        except Unresolved as problem:
            raise StepFailed(str(problem), unreachable=True) from None

    def _coordinator(self) -> str:
        """The AMQP URL of the coordinator's account."""
        try:
            return coordinator_url(self.accounts())
        except CoordinatorProblem as problem:
            raise StepFailed(str(problem), unreachable=problem.unreachable) from None

    def _has_agent(self, service: ServiceSpec) -> bool:
        """Whether the machine of ``service`` starts an agent, which has to enrol."""
        told = service.transport is TransportKind.AGENT
        return told or agent_is_default(self.attributes().plan, service)

    def _agent(self, service: ServiceSpec) -> AgentTransport:
        """The way over the agent of the node on which ``service`` is."""
        from bootlevels.transports.agent import AgentAddress, AgentTransport

        home = self._home(service)
        try:
            if home.machine is None:
                node_id = self.attributes().expand(home.host, home)
            else:
                machine = self._machine(service)
                if machine is None:
                    raise StepFailed("its machine is gone", unreachable=True)
                node_id = f"{machine.launch_id}-0"
        except (Unresolved, MalformedReference) as problem:
            raise StepFailed(f"there is no way to it: {problem}", unreachable=True) from None

        def why_gone() -> str:
            found = self.look(service) if home.machine is not None else Look(ok=True, detail="")
            return "" if found.ok or found.unreachable else found.detail

        address = AgentAddress(node_id, self._coordinator(), self.place.mark, why_gone)
        return AgentTransport(address)

    def _ssh(self, service: ServiceSpec) -> SshTransport:
        # Fabric takes half a second to import: only who uses ssh pays for it.
        from bootlevels.transports.ssh_transport import SshTransport

        return SshTransport(self.ssh_target(service))

    def ssh_target(self, service: ServiceSpec) -> SshTarget:
        """Where and as whom ``service`` is reached by ssh."""
        from bootlevels.transports.ssh import SshTarget

        home, known = self._home(service), self.attributes()
        access = service.ssh or home.ssh or SshAccess()
        machine = self._machine(service) if home.machine else None
        try:
            host = known.expand(home.host or "${.hostname}", home)
            port = known.expand(access.port, service)
            stages = known.expand(access.stage_directory, service) or _STAGES
            return SshTarget(
                host=host,
                user=known.expand(access.user, service),
                port=int(port) if port else None,
                key=str(self.file(access.key, service)) if access.key else "",
                known_hosts=str(self.file(access.known_hosts, service))
                if access.known_hosts
                else "",
                kept_keys=self.place.kept_keys(machine.launch_id if machine else home.name),
                known_to_user=machine is None,
                stages=f"{stages}/{self.place.mark}",
            )
        except (Unresolved, MalformedReference) as problem:
            raise StepFailed(f"there is no way to it: {problem}", unreachable=True) from None
        except ValueError:
            raise StepFailed("the ssh port must be a number") from None


def places_of(
    place: RunPlace,
    attributes: Callable[[], Attributes],
    ledger: MachineLedger,
    drivers: CloudDrivers | None = None,
) -> Places:
    """The places of a run whose machines are written down in ``ledger``.

    ``drivers`` are those of the plan's clouds, what they keep is in the run's directory.
    """

    def settings(cloud: str) -> dict[str, str]:
        known = attributes()
        found = settings_of(known.plan.clouds, cloud)
        try:
            return {key: known.declared(text) for key, text in found.items()}
        except (Unresolved, MalformedReference) as problem:
            raise ConfigProblem(f"cloud '{cloud}' can't be used: {problem}") from None

    clouds = drivers or CloudDrivers(settings, place.directory / "clouds")
    machines = Machines(place.name, ledger, clouds)
    return Places(place, attributes, machines, LocalTransport())


def _failed(trouble: MachineTrouble | ConfigProblem) -> StepFailed:
    if isinstance(trouble, ConfigProblem):
        return StepFailed(str(trouble))
    return StepFailed(
        str(trouble), unreachable=trouble.unreachable, interrupted=trouble.interrupted
    )
