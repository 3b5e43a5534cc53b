"""The text that workers are made from, as the controller finds it: one digest per cloud."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from hashlib import sha256

from coordinator.clouds.agent_settings import KEYS
from coordinator.config import CoordinatorConfig
from userdata_templates.digest import template_digest

#: A template is read again after so many seconds.
READ_EVERY = 5.0

#: A template's name → cloud → digest of its text there.
Sources = Callable[[str], Mapping[str, str]]


def no_sources(template: str) -> Mapping[str, str]:
    """Nothing is known of any template's text: only settings make workers old."""
    return {}


def sources_of(config: CoordinatorConfig, clock: Callable[[], float]) -> Sources:
    """The digests of templates on the configured clouds.

    A cloud's own settings of how its machines come by their agent (wheelhouse, requirement,
    …) are part of the text there; the driver's are not.
    """
    agents = {
        cloud: repr(sorted((key, settings[key]) for key in KEYS if key in settings))
        for cloud, settings in config.clouds.items()
    }
    read: dict[str, tuple[float, Mapping[str, str]]] = {}

    def sources(template: str) -> Mapping[str, str]:
        at, known = read.get(template, (0.0, {}))
        now = clock()
        if template not in read or not 0 <= now - at < READ_EVERY:
            text = template_digest(template)
            known = {
                cloud: sha256(f"{text}\0{own}".encode()).hexdigest()
                for cloud, own in agents.items()
            }
            read[template] = (now, known)
        return known

    return sources
