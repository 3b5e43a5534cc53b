"""The keys a classic service may have, and which of several settings of one holds.

A service's own key is above that of its cloud, above ``[defaults]``, above what is built
in; an empty value is none. Values stay as they were written: ``classic_services`` says
what they mean.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum

from bootlevels.classic_ini import Entry, Findings, Section
from coordinator.errors import did_you_mean

PROGRAMS = ("bootpgm", "readypgm", "terminatepgm")
#: Settings of a cloud as a whole; with the same four, two services are on the same cloud.
IAAS_KEYS = ("iaas", "iaas_url", "iaas_key", "iaas_secret")
KEYS = frozenset(
    {
        *IAAS_KEYS,
        *PROGRAMS,
        *(f"{program}_args" for program in PROGRAMS),
        "image",
        "iaas_launch",
        "cloud",
        "allocation",
        "sshkeyname",
        "localsshkeypath",
        "ssh_username",
        "scp_username",
        "securitygroups",
        "hostname",
        "local_exe",
        "bootconf",
        "pgm_timeout",
        "replica_count",
    }
)
DEPS = "deps"
BUILT_IN_TIMEOUT = 1200.0
LONGEST_TIMEOUT = 7 * 86400.0
MAX_REPLICAS = 10_000

_ENVIRONMENT = re.compile(r"env\.([A-Za-z_][A-Za-z0-9_]*)\Z")


class Rank(IntEnum):
    """Where a setting stands; the higher rank holds."""

    DEFAULTS = 1
    CLOUD = 2
    SERVICE = 3


@dataclass(frozen=True)
class Setting:
    """A key's value, where it stands and with which rank."""

    value: str
    place: str
    rank: Rank


def environment_name(value: str) -> str | None:
    """NAME when ``value`` as a whole is ``env.NAME``."""
    found = _ENVIRONMENT.match(value)
    return found[1] if found else None


def known_key(key: str) -> bool:
    """Whether a service may have ``key``."""
    return key in KEYS or key.startswith(DEPS)


def report_unknown_keys(section: Section, found: Findings) -> None:
    """Warn of keys that mean nothing: the original passed over them in silence."""
    for key, entry in section.entries.items():
        if not known_key(key):
            what = f"unknown key '{key}' in [{section.name}] has no effect"
            remedy = did_you_mean(key, {*KEYS, DEPS})
            found.warning(entry.place, what, key=key, remedy=remedy)


@dataclass
class Settings:
    """What holds for one service; ``now`` answers for values needed while reading."""

    section: Section
    environment: Mapping[str, str]
    found: Findings
    #: Whether a driver that needs none of them was put in place of the plan's own.
    remapped: bool = False
    held: dict[str, Setting] = field(default_factory=dict)

    def lay(self, entries: Mapping[str, Entry], rank: Rank) -> None:
        """Lay ``entries`` over what holds so far; empty values are none."""
        for key, entry in entries.items():
            if entry.value and known_key(key):
                self.held[key] = Setting(entry.value, entry.place, rank)

    def place(self, *keys: str) -> str:
        """Where the first of ``keys`` that is set stands, else the section."""
        for key in keys:
            if key in self.held:
                return self.held[key].place
        return self.section.place

    def rank(self, key: str) -> Rank | None:
        return self.held[key].rank if key in self.held else None

    def written(self, key: str) -> str:
        """The value as it was written, ``env.NAME`` too; "" when there is none."""
        return self.held[key].value if key in self.held else ""

    def problem(self, key: str, what: str, remedy: str = "") -> None:
        self.found.problem(self.place(key), what, key=key, remedy=remedy)

    def now(self, key: str) -> str:
        """The value, ``env.NAME`` looked up; "" when there is none."""
        value = self.written(key)
        name = environment_name(value)
        if name is None:
            return value
        if name not in self.environment:
            what = f"the environment has no {name}"
            if self.remapped:
                self.found.warning(self.place(key), what, key=key, remedy="it is left out")
            else:
                self.problem(key, what, f"export {name}=… first")
            return ""
        return self.environment[name]

    def flag(self, key: str) -> bool | None:
        """``true`` or ``false`` in any case; None when there is none."""
        value = self.now(key).lower()
        if value in ("true", "false"):
            return value == "true"
        if value:
            self.problem(key, f"must be true or false, not '{value[:40]}'")
        return None

    def timeout(self) -> float:
        """``pgm_timeout`` in seconds."""
        value = self.now("pgm_timeout")
        if not value:
            return BUILT_IN_TIMEOUT
        if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", value):
            seconds = float(value)
            if 0 < seconds <= LONGEST_TIMEOUT:
                return seconds
        what = f"must be a number of seconds up to {LONGEST_TIMEOUT:.0f}, not '{value[:40]}'"
        self.problem("pgm_timeout", what)
        return BUILT_IN_TIMEOUT

    def replicas(self) -> int:
        """How many of the service there are."""
        value = self.now("replica_count")
        if not value:
            return 1
        if not re.fullmatch(r"[0-9]{1,9}", value) or int(value) > MAX_REPLICAS:
            what = f"must be a number up to {MAX_REPLICAS}, not '{value[:40]}'"
            self.problem("replica_count", what)
            return 1
        if int(value) == 0:
            place = self.place("replica_count")
            self.found.warning(place, "0 replicas are taken as 1", key="replica_count")
        return max(int(value), 1)

    def path(self, key: str, directory: str) -> str:
        """The absolute path that ``key`` names, from ``directory`` and lexical; "" for none."""
        return lexical_path(self.now(key), directory)

    def deps_keys(self) -> list[str]:
        """The keys that name files of attributes, in the order in which they are read."""
        return sorted(key for key in self.held if key.startswith(DEPS))


def lexical_path(given: str, directory: str) -> str:
    """``given`` from ``directory``; ``..`` is removed as text, links are never followed."""
    if not given or "\0" in given:
        return ""
    return os.path.normpath(os.path.join(directory, os.path.expanduser(given)))
