"""The settings of the cloud ``qemu``, and of one machine of it, from text. PURE."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from coordinator.errors import ConfigProblem, Problem, did_you_mean

ACCELERATORS = ("auto", "kvm", "tcg")
NETWORKS = ("user", "private")
#: Keys that a pool's template may set for its machines.
OF_A_MACHINE = ("image", "memory", "cpus")
_KEYS = ("root", "qemu", "accel", "network", *OF_A_MACHINE)
#: One word of a few.
_CHOICES = {"accel": ACCELERATORS, "network": NETWORKS}
#: Whole numbers: key → least and most.
_LIMITS = {"memory": (128, 1_048_576), "cpus": (1, 64)}
#: QEMU reads a comma in a path as the end of it.
_NOT_IN_PATH = {",", "\n", "\0"}


@dataclass(frozen=True, kw_only=True)
class QemuSettings:
    """``memory`` in MiB. ``accel``: ``auto`` takes KVM when it works and else emulates.

    ``image``: the name of an image of ``epu image build``, or a path. ``root``: where the
    machines are, empty for the cloud's own directory. ``qemu``: the program. ``network``:
    ``user`` is QEMU's own, ``private`` a cable to this host (see ``machine_network``).
    """

    root: str = ""
    image: str = "debian"
    memory: int = 1024
    cpus: int = 1
    accel: str = "auto"
    qemu: str = "qemu-system-x86_64"
    network: str = "user"


@dataclass(frozen=True, kw_only=True)
class QemuImage:
    """What a machine boots from; paths are absolute.

    ``kernel`` and ``initrd`` are empty for a disk that boots itself.
    """

    disk: str
    disk_format: str
    kernel: str = ""
    initrd: str = ""
    command_line: str = ""


def parse_settings(settings: Mapping[str, str]) -> QemuSettings:
    """The settings of a cloud's section. Raises ConfigProblem with everything wrong."""
    return _parsed(QemuSettings(), settings, _KEYS)


def machine_settings(cloud: QemuSettings, settings: Mapping[str, str]) -> QemuSettings:
    """What a pool's template changes for its machines. Raises ConfigProblem."""
    return _parsed(cloud, settings, OF_A_MACHINE)


def _parsed(
    defaults: QemuSettings, settings: Mapping[str, str], known: tuple[str, ...]
) -> QemuSettings:
    problems: list[Problem] = []
    values: dict[str, Any] = {}
    for key, text in sorted(settings.items()):
        text = str(text)
        if key not in known:
            remedy = did_you_mean(key, known)
            problems.append(Problem(key=key, what="unknown key", remedy=remedy))
        elif key in _LIMITS:
            least, most = _LIMITS[key]
            number = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else -1
            if not least <= number <= most:
                unit = " MiB" if key == "memory" else ""
                what = f"must be a whole number from {least} to {most}{unit}, not '{text}'"
                problems.append(Problem(key=key, what=what))
            values[key] = number
        elif key in _CHOICES:
            words = _CHOICES[key]
            if text not in words:
                what = f"must be {', '.join(words[:-1])} or {words[-1]}"
                remedy = did_you_mean(text, words)
                problems.append(Problem(key=key, what=f"{what}, not '{text}'", remedy=remedy))
            values[key] = text
        elif not text and key != "root":
            problems.append(Problem(key=key, what="must not be empty"))
        elif _NOT_IN_PATH & set(text):
            problems.append(Problem(key=key, what="must not hold a comma or a line's end"))
        else:
            values[key] = text
    if problems:
        raise ConfigProblem(problems)
    return replace(defaults, **values)
