"""The clouds of a classic plan: which there are, and which one a service is launched on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from bootlevels.classic_iaas import UnknownIaas, cloud_settings
from bootlevels.classic_ini import Entry, Findings, Section
from bootlevels.classic_keys import IAAS_KEYS, Rank, Settings, environment_name
from coordinator.errors import did_you_mean

#: Begin of a cloud's section; what follows is its name.
CLOUD = "cloud-"
#: The cloud of services that name none.
DEFAULT_CLOUD = "default"


@dataclass
class ClassicClouds:
    """Grows while services are read: who has ``iaas`` keys of its own has a cloud of its own.

    ``sections`` by name of the cloud; ``remapped``: drivers chosen at boot. ``places``: where
    what makes each cloud stands.
    """

    sections: Mapping[str, Section]
    defaults: Mapping[str, Entry]
    remapped: Mapping[str, str]
    environment: Mapping[str, str]
    found: Findings
    places: dict[str, str] = field(default_factory=dict)
    _drivers: dict[str, dict[str, str]] = field(default_factory=dict)
    _variants: dict[tuple[str, ...], str] = field(default_factory=dict)

    def drivers(self) -> dict[str, dict[str, str]]:
        """Driver and settings of every cloud, those that no service uses included."""
        for name in self.sections:
            if name not in self._drivers:
                self._drivers[name] = self._driver(name, self._shared(name))
        return self._drivers

    def entries_for(self, settings: Settings) -> dict[str, Entry]:
        """What the cloud that ``settings`` names says; none, with the problem, if unknown."""
        name = self._name(settings)
        if name in self.sections:
            entries = self.sections[name].entries
            return {key: entry for key, entry in entries.items() if key != "cloud"}
        if settings.written("cloud"):
            remedy = did_you_mean(CLOUD + name, [CLOUD + known for known in self.sections])
            settings.problem("cloud", f"unknown cloud '{settings.written('cloud')[:60]}'", remedy)
        return {}

    def cloud_of(self, service: str, settings: Settings) -> tuple[str, bool]:
        """The name of the cloud ``service`` is launched on, and whether it was remapped."""
        base = self._name(settings) or DEFAULT_CLOUD
        name = base
        own = any(settings.rank(key) is Rank.SERVICE for key in IAAS_KEYS)
        if own and base not in self.remapped:
            key = tuple(settings.written(key) for key in IAAS_KEYS)
            shared = self._shared(base)
            if key != tuple(shared.written(key) for key in IAAS_KEYS):
                name = self._variants.setdefault((base, *key), f"{base}-{service}")
        if name not in self._drivers:
            self._drivers[name] = self._driver(name, settings)
        return name, name in self.remapped

    def _name(self, settings: Settings) -> str:
        """``cloud`` names the section; without its prefix it is as clear."""
        written = settings.now("cloud")
        return written if written in self.sections else written.removeprefix(CLOUD)

    def _shared(self, name: str) -> Settings:
        """What holds on cloud ``name`` for who says nothing of his own."""
        section = self.sections.get(name) or Section(CLOUD + name, "")
        settings = Settings(section, self.environment, self.found)
        settings.lay(self.defaults, Rank.DEFAULTS)
        settings.lay(section.entries, Rank.CLOUD)
        return settings

    def _driver(self, name: str, settings: Settings) -> dict[str, str]:
        self.places[name] = settings.place("iaas", "iaas_url", "image")
        if name in self.remapped:
            return {"driver": self.remapped[name]}
        key, secret = _credential(settings, "iaas_key"), _credential(settings, "iaas_secret")
        try:
            return cloud_settings(settings.now("iaas"), settings.now("iaas_url"), key, secret)
        except UnknownIaas as unknown:
            settings.problem("iaas", str(unknown), f"or map it: --cloud {name}=driver")
            return {"driver": "in_memory"}  # stands for it; the problem is said


def _credential(settings: Settings, key: str) -> str:
    """A key of credentials as ours: a variable of the environment stays a name."""
    variable = environment_name(settings.written(key))
    return f"env:{variable}" if variable else settings.written(key)
