"""From the text models of one service to its frozen value."""

from __future__ import annotations

from bootlevels.plan import PoolRequest, Program, ReadyCheck, ServiceKind, ServiceSpec
from bootlevels.plan_text import DefaultsText, ProgramText, ServiceText, parse_scalar


def service_spec(name: str, text: ServiceText, defaults: DefaultsText) -> ServiceSpec:
    """The value of one service; what it does not say comes from ``defaults``."""
    timeout = text.timeout or defaults.timeout

    def program(given: ProgramText | None) -> Program | None:
        if given is None:
            return None
        return Program(
            words=tuple(given.run),
            timeout=given.timeout or timeout,
            environment=dict(given.environment),
        )

    checks = []
    for check in text.ready:
        asked = None
        if check.run is not None:
            own = check.timeout or timeout
            words, environment = tuple(check.run), dict(check.environment)
            asked = Program(words=words, timeout=own, environment=environment)
        checks.append(
            ReadyCheck(
                kind=check.kind,
                target="" if asked else parse_scalar(getattr(check, check.kind.value)),
                program=asked,
                interval=check.interval or defaults.interval,
                timeout=check.timeout or timeout,
            )
        )
    pool = None
    if text.pool is not None:
        section = dict(text.pool)
        if defaults.cloud and "clouds" not in section:
            section["clouds"] = [defaults.cloud]
        pool = PoolRequest(section=section, verify=text.verify, timeout=timeout)
    kind = ServiceKind.LOCAL if text.local else ServiceKind.ATTRIBUTES
    return ServiceSpec(
        name=name,
        kind=ServiceKind.POOL if pool else kind,
        attributes=dict(text.attributes),
        outputs=tuple(text.outputs),
        provides=tuple(text.provides),
        boot=program(text.boot),
        ready=tuple(checks),
        terminate=program(text.terminate),
        pool=pool,
    )
