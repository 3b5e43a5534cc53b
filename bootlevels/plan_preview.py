"""A plan as it would be booted now: values resolved as far as they are known. PURE.

What only the boot will tell stays as it is written (``${db.address}``).
"""

from __future__ import annotations

from typing import Any

from bootlevels.attributes import (
    ENVIRONMENT,
    Attributes,
    MalformedReference,
    Reference,
    Unresolved,
    masked,
    secrets_of,
    split,
)
from bootlevels.inputs import may_be_early
from bootlevels.plan import LaunchPlan, Program, ReadyCheck, ServiceKind, ServiceSpec


def described_plan(plan: LaunchPlan, attributes: Attributes) -> dict[str, Any]:
    """``plan`` for people and programs: secrets are masked, ``env:NAME`` stays as it is."""
    found = {
        "plan": plan.name,
        "description": plan.description,
        "source": plan.source,
        "profile": plan.profile,
        "globals": {name: _shown(text, attributes, None) for name, text in plan.globals.items()},
        "clouds": {name: dict(settings) for name, settings in plan.clouds.items()},
        "levels": [
            {
                "level": level.number,
                "description": level.description,
                "services": [_service(service, attributes) for service in level.services],
            }
            for level in plan.levels
        ],
        "launches": launches_of(plan),
    }
    hidden: dict[str, Any] = _masked_tree(found, secrets_of(plan, attributes.environment))
    return hidden


def launches_of(plan: LaunchPlan) -> dict[str, Any]:
    """What a boot would start: machines by cloud, programs here, pools."""
    machines: dict[str, list[str]] = {}
    for service in plan.services():
        if service.machine is not None:
            machines.setdefault(service.machine.cloud, []).append(service.name)
    programs = [s.name for s in plan.services() if s.kind is ServiceKind.LOCAL and s.boot]
    pools = [s.name for s in plan.services() if s.pool is not None]
    return {"machines": machines, "local_programs": programs, "pools": pools}


def _service(service: ServiceSpec, attributes: Attributes) -> dict[str, Any]:
    def shown(value: Any) -> Any:
        return _shown_tree(value, attributes, service)

    found: dict[str, Any] = {
        "name": service.name,
        "kind": service.kind.value,
        "attributes": shown(service.attributes),
        "outputs": list(service.outputs),
        "host": shown(service.host),
        "on": service.on,
        "bootconf": service.bootconf,
        "boot": _program(service.boot, attributes, service),
        "ready": [_check(check, attributes, service) for check in service.ready],
        "terminate": _program(service.terminate, attributes, service),
    }
    if service.machine is not None:
        machine = service.machine
        found["machine"] = {
            "cloud": machine.cloud,
            "settings": shown(machine.settings),
            "template": machine.template,
            "variables": shown(machine.variables),
            "user_data": machine.user_data,
            "may_be_early": may_be_early(service),
        }
    if service.pool is not None:
        found["pool"] = shown(service.pool.section)
    return {key: value for key, value in found.items() if value not in ("", None, [], {})}


def _program(
    program: Program | None, attributes: Attributes, service: ServiceSpec
) -> dict[str, Any] | None:
    if program is None:
        return None
    words = _shown_tree(program.words, attributes, service)
    environment = _shown_tree(program.environment, attributes, service)
    return {"run": words, "environment": environment, "timeout": program.timeout}


def _check(check: ReadyCheck, attributes: Attributes, service: ServiceSpec) -> dict[str, Any]:
    program = _program(check.program, attributes, service)
    asked = program["run"] if program else _shown(check.target, attributes, service)
    return {check.kind.value: asked, "interval": check.interval, "timeout": check.timeout}


def _masked_tree(value: Any, secrets: frozenset[str]) -> Any:
    if isinstance(value, str):
        return masked(value, secrets)
    if isinstance(value, dict):
        return {key: _masked_tree(inner, secrets) for key, inner in value.items()}
    if isinstance(value, list):
        return [_masked_tree(inner, secrets) for inner in value]
    return value


def _shown_tree(value: Any, attributes: Attributes, service: ServiceSpec) -> Any:
    if isinstance(value, str):
        return _shown(value, attributes, service)
    if isinstance(value, dict):
        return {key: _shown_tree(inner, attributes, service) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_shown_tree(inner, attributes, service) for inner in value]
    return value


def _shown(text: str, attributes: Attributes, service: ServiceSpec | None) -> str:
    """``text`` with what is known put in, and everything else left as it is."""
    if ENVIRONMENT.match(text):
        return text
    try:
        parts = split(text)
    except MalformedReference:
        return text
    shown = ""
    for part in parts:
        if isinstance(part, Reference):
            try:
                shown += attributes.value(part, service)
            except (Unresolved, MalformedReference):
                shown += str(part)
        else:
            shown += part
    return shown
