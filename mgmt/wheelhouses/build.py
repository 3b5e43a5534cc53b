"""A directory with wheels of this installation's epu and of all it stands on.

What is installed here is what machines get: same versions, same files. A wheelhouse is for
machines with the same kind of processor and the same version of Python. ``manifest.json``
says what is in it; user-data names it by URL or path, and may pin it by its digest.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import mgmt
from coordinator.errors import ConfigProblem, Problem
from mgmt.wheelhouses.repack import Repacked, repacked

MANIFEST = "manifest.json"
#: What a wheel of a checkout is made of.
_SOURCES = ("agent", "bootlevels", "coordinator", "mgmt", "userdata_templates")
_FILES = ("setup.py", "pyproject.toml", "README.md", "constraints.txt")
_BUILD_TIMEOUT = 300.0

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Wheelhouse:
    """``digest``: SHA-256 of the manifest. ``fresh``: how many wheels were written now."""

    directory: Path
    digest: str
    wheels: Mapping[str, Mapping[str, Any]]
    fresh: int

    @property
    def size(self) -> int:
        """Of all wheels, bytes."""
        return sum(int(about["size"]) for about in self.wheels.values())


def build_wheelhouse(directory: Path, say: Say) -> Wheelhouse:
    """Make ``directory`` the wheelhouse of this installation; what is right stays as it is.

    May be killed and repeated at any point: a manifest only ever names wheels that are
    whole. Wheels of an older manifest go, other files stay. Raises ConfigProblem, OSError.
    """
    directory.mkdir(parents=True, exist_ok=True)
    before = _manifest_of(directory)
    wheels: dict[str, dict[str, Any]] = {}
    fresh = 0
    for name, version, make in _wanted():
        source = f"{name} {version}"
        there = _already(directory, before, source)
        if there is None:
            wheel = make()
            about = _about(wheel, source)
            if before.get(wheel.name) != about or not _is_whole(directory / wheel.name, about):
                _write(directory / wheel.name, wheel.content)
                say(f"{wheel.name} ({len(wheel.content) / 1e6:.1f} MB)")
                fresh += 1
            there = wheel.name, about
        wheels[there[0]] = there[1]
    wheels = dict(sorted(wheels.items()))
    manifest = {
        "version": 1,
        "epu": distribution("epu").version,
        "python": ".".join(platform.python_version_tuple()[:2]),
        "machine": platform.machine(),
        "wheels": wheels,
    }
    text = json.dumps(manifest, indent=1).encode() + b"\n"
    if not (directory / MANIFEST).exists() or (directory / MANIFEST).read_bytes() != text:
        _write(directory / MANIFEST, text)
    for name in before.keys() - wheels.keys():
        (directory / Path(name).name).unlink(missing_ok=True)
    return Wheelhouse(
        directory=directory,
        digest=hashlib.sha256(text).hexdigest(),
        wheels=wheels,
        fresh=fresh,
    )


def needed() -> list[Distribution]:
    """Every distribution that epu stands on here, itself left out, by name; with pip, which
    installs the others. Raises ConfigProblem for one that is missing.
    """
    found: dict[str, Distribution] = {}
    done: set[tuple[str, str]] = set()
    open_ones = [("epu", ""), ("pip", "")]
    while open_ones:
        name, extra = open_ones.pop()
        if (name, extra) in done:
            continue
        done.add((name, extra))
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:
            remedy = "python -m ensurepip" if name == "pip" else f"pip install {name}"
            what = "is not installed here, and machines need it"
            raise ConfigProblem([Problem(key=name, what=what, remedy=remedy)]) from None
        for line in found[name].requires or ():
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                inner = canonicalize_name(requirement.name)
                open_ones += [(inner, wanted) for wanted in ("", *requirement.extras)]
    del found["epu"]
    return [found[name] for name in sorted(found)]


def checkout() -> Path | None:
    """The source directory that this program runs from; None when it is installed."""
    root = Path(mgmt.__file__).resolve().parent.parent
    return root if all((root / name).exists() for name in _FILES) else None


def _wanted() -> Iterator[tuple[str, str, Callable[[], Repacked]]]:
    """``(name, what tells a version from another, how to make it)`` of every wheel."""
    root, own = checkout(), distribution("epu")
    if root is None:
        yield "epu", _fingerprint(own), lambda: repacked(own)
    else:
        yield "epu", _fingerprint_of_sources(root), lambda: _wheel_of_sources(root)
    for one in needed():
        yield one.name, _fingerprint(one), lambda one=one: repacked(one)  # type: ignore[misc]


def _fingerprint(one: Distribution) -> str:
    record = (one.read_text("RECORD") or "").encode()
    return f"{one.version} {hashlib.sha256(record).hexdigest()[:16]}"


def _fingerprint_of_sources(root: Path) -> str:
    total = hashlib.sha256()
    for path in _source_files(root):
        total.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes())
    return f"{distribution('epu').version} {total.hexdigest()[:16]}"


def _source_files(root: Path) -> Iterator[Path]:
    yield from (root / name for name in _FILES)
    for room in _SOURCES:
        for path in sorted((root / room).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                yield path


def _wheel_of_sources(root: Path) -> Repacked:
    """The wheel of a checkout, built in a copy of it; without an index and repeatable."""
    with tempfile.TemporaryDirectory(prefix="epu-wheel-") as place:
        copy, out = Path(place) / "epu", Path(place) / "out"
        for path in _source_files(root):
            target = copy / path.relative_to(root)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        words = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-index", "--quiet"]
        words += ["--no-build-isolation", "--disable-pip-version-check", "-w", str(out), str(copy)]
        done = subprocess.run(
            words,
            env={**os.environ, "SOURCE_DATE_EPOCH": "315532800"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_BUILD_TIMEOUT,
        )
        built = list(out.glob("*.whl"))
        if done.returncode != 0 or len(built) != 1:
            said = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
            what = f"its wheel can't be built: {said}"
            raise ConfigProblem([Problem(key="epu", where=str(root), what=what)])
        return Repacked(name=built[0].name, content=built[0].read_bytes())


def _manifest_of(directory: Path) -> dict[str, Any]:
    """The wheels of the manifest that is there; a broken one names none."""
    try:
        wheels = json.loads((directory / MANIFEST).read_bytes())["wheels"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return wheels if isinstance(wheels, dict) else {}


def _already(
    directory: Path, before: Mapping[str, Any], source: str
) -> tuple[str, dict[str, Any]] | None:
    """The wheel made of the same source, if it is there and whole."""
    for name, about in before.items():
        if isinstance(about, dict) and about.get("source") == source:
            return (name, about) if _is_whole(directory / name, about) else None
    return None


def _is_whole(path: Path, about: Mapping[str, Any]) -> bool:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest() == about.get("sha256")
    except OSError:
        return False


def _about(wheel: Repacked, source: str) -> dict[str, Any]:
    return {
        "source": source,
        "sha256": hashlib.sha256(wheel.content).hexdigest(),
        "size": len(wheel.content),
    }


def _write(path: Path, content: bytes) -> None:
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    unfinished.write_bytes(content)
    os.replace(unfinished, path)
