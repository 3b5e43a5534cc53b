"""From the text models of one service to its frozen values."""

from __future__ import annotations

import re
from dataclasses import replace

from bootlevels.plan import (
    KEEPS,
    MachineRequest,
    PoolRequest,
    Program,
    ReadyCheck,
    ServiceKind,
    ServiceSpec,
    SshAccess,
)
from bootlevels.plan_text import CheckText, DefaultsText, ProgramText, ServiceText, parse_scalar

#: A host that is nothing but another service's: the same machine, not merely its address.
_SAME_HOST = re.compile(r"\$\{([A-Za-z][A-Za-z0-9_-]*)\.hostname\}\Z")
#: The attribute that tells replicas apart.
REPLICA = "replica"


def service_specs(name: str, text: ServiceText, defaults: DefaultsText) -> list[ServiceSpec]:
    """The values of a service, one for each of its replicas (``name-0`` …)."""
    spec = service_spec(name, text, defaults)
    return [spec] if text.replicas is None else replicas_of(spec, text.replicas)


def replicas_of(spec: ServiceSpec, count: int) -> list[ServiceSpec]:
    """``count`` services like ``spec``: ``name-0`` …, each with its number as ``replica``."""
    return [
        replace(
            spec,
            name=f"{spec.name}-{number}",
            attributes={REPLICA: str(number), **spec.attributes},
        )
        for number in range(count)
    ]


def service_spec(name: str, text: ServiceText, defaults: DefaultsText) -> ServiceSpec:
    """The value of one service; what it does not say comes from ``defaults``."""
    timeout = text.timeout or defaults.timeout
    kept = {KEEPS: ",".join(text.keeps)} if text.keeps else {}
    spec = ServiceSpec(
        name=name,
        kind=ServiceKind.LOCAL if text.local else ServiceKind.ATTRIBUTES,
        attributes={**kept, **text.attributes},
        outputs=tuple(text.outputs),
        provides=tuple(text.provides),
        keeps=tuple(text.keeps),
        boot=_program(text.boot, timeout),
        ready=tuple(_check(check, timeout, defaults.interval) for check in text.ready),
        terminate=_program(text.terminate, timeout),
        ssh=SshAccess(**text.ssh.model_dump()) if text.ssh else None,
        transport=text.transport,
        bootconf=text.bootconf or "",
    )
    if text.pool is not None:
        section = dict(text.pool)
        if defaults.cloud and "clouds" not in section:
            section["clouds"] = [defaults.cloud]
        pool = PoolRequest(section=section, verify=text.verify, timeout=timeout)
        return replace(spec, kind=ServiceKind.POOL, pool=pool)
    if text.on is not None:
        return replace(spec, kind=ServiceKind.RESIDENT, on=text.on)
    if text.host is not None:
        return at_host(spec, text.host)
    if not text.local and text.places:
        settings = dict(text.settings)
        if text.image is not None:
            settings["image"] = text.image
        machine = MachineRequest(
            cloud=text.cloud or defaults.cloud or "",
            settings=settings,
            template=text.template or "",
            variables=dict(text.variables),
            user_data=text.user_data or "",
            timeout=timeout,
        )
        return replace(spec, kind=ServiceKind.MACHINE, machine=machine)
    return spec


def at_host(spec: ServiceSpec, host: str) -> ServiceSpec:
    """``spec`` at an existing ``host``; ``${other.hostname}`` means on the machine of other."""
    if same := _SAME_HOST.match(host):
        return replace(spec, kind=ServiceKind.RESIDENT, on=same[1])
    attributes = {"hostname": host, **spec.attributes}
    return replace(spec, kind=ServiceKind.HOST, host=host, attributes=attributes)


def _program(given: ProgramText | None, timeout: float) -> Program | None:
    if given is None:
        return None
    return Program(
        words=tuple(given.run),
        timeout=given.timeout or timeout,
        environment=dict(given.environment),
    )


def _check(check: CheckText, timeout: float, interval: float) -> ReadyCheck:
    asked = None
    if check.run is not None:
        asked = Program(
            words=tuple(check.run),
            timeout=check.timeout or timeout,
            environment=dict(check.environment),
        )
    return ReadyCheck(
        kind=check.kind,
        target="" if asked else parse_scalar(getattr(check, check.kind.value)),
        program=asked,
        interval=check.interval or interval,
        timeout=check.timeout or timeout,
    )
