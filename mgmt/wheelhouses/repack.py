"""A wheel made from a distribution that is installed here: its files, as they are recorded.

No index and no network take part, and machines get exactly what runs here. The same
installation gives the same bytes.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import zipfile
from dataclasses import dataclass
from importlib.metadata import Distribution, PackagePath
from itertools import product
from pathlib import Path

from coordinator.errors import ConfigProblem, Problem

#: What an installer adds to a wheel's files, and what only is true here.
_NOT_OF_THE_WHEEL = frozenset({"INSTALLER", "REQUESTED", "direct_url.json", "RECORD"})
#: The oldest time that a zip file can tell.
_TIME = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True, kw_only=True)
class Repacked:
    """A wheel, to be written as ``name``."""

    name: str
    content: bytes


def repacked(distribution: Distribution) -> Repacked:
    """The wheel of an installed distribution.

    Commands come back from its entry points; scripts and data outside of the packages'
    directory are left out. Raises ConfigProblem when its files are not those that were
    installed, or not all there.
    """
    name, version = distribution.name, distribution.version
    info = _info_directory(distribution)
    files: dict[str, bytes] = {}
    for path in distribution.files or ():
        if _belongs(path, info):
            files[path.as_posix()] = _content(distribution, path)
    for path in _recorded(distribution):
        if _belongs(path, info) and path.as_posix() not in files:
            raise _problem(name, f"its file {path} can't be read")
    about = distribution.read_text("WHEEL")
    if about is None:
        raise _problem(name, "was not installed from a wheel")
    files[f"{info}/RECORD"] = _record(files, info)
    return Repacked(name=_file_name(name, version, about), content=_zipped(files))


def _recorded(distribution: Distribution) -> list[PackagePath]:
    """Its files as they were installed: ``files`` leaves out what is gone since Python 3.12."""
    rows = csv.reader((distribution.read_text("RECORD") or "").splitlines())
    return [PackagePath(row[0]) for row in rows if row]


def _info_directory(distribution: Distribution) -> str:
    for path in distribution.files or ():
        if path.name == "METADATA" and path.parent.name.endswith(".dist-info"):
            return path.parent.as_posix()
    raise _problem(distribution.name, "has no record of its files")


def _belongs(path: PackagePath, info: str) -> bool:
    if ".." in path.parts or path.is_absolute() or path.suffix == ".pyc":
        return False
    return not (path.parent.as_posix() == info and path.name in _NOT_OF_THE_WHEEL)


def _content(distribution: Distribution, path: PackagePath) -> bytes:
    try:
        content = Path(str(path.locate())).read_bytes()
    except OSError as problem:
        raise _problem(distribution.name, f"its file {path} can't be read") from problem
    if path.hash is not None:
        found = hashlib.new(path.hash.mode, content).digest()
        if base64.urlsafe_b64encode(found).rstrip(b"=").decode() != path.hash.value:
            raise _problem(distribution.name, f"its file {path} was changed after it was installed")
    return content


def _record(files: dict[str, bytes], info: str) -> bytes:
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    for path, content in sorted(files.items()):
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        lines.writerow((path, f"sha256={digest}", len(content)))
    lines.writerow((f"{info}/RECORD", "", ""))
    return text.getvalue().encode()


def _file_name(name: str, version: str, about: str) -> str:
    keys = [line.partition(":") for line in about.splitlines()]
    build = next((value.strip() for key, _, value in keys if key == "Build"), "")
    tags = [value.strip().split("-") for key, _, value in keys if key == "Tag"]
    if not tags:
        raise _problem(name, "does not say for which machines it is")
    columns = [list(dict.fromkeys(column)) for column in zip(*tags, strict=True)]
    if set(product(*columns)) != {tuple(tag) for tag in tags}:
        raise _problem(name, "is for a set of machines that no file name can tell")
    plain = [part.replace("-", "_") for part in (name, version)]
    return "-".join([*plain, *([build] if build else []), *map(".".join, columns)]) + ".whl"


def _zipped(files: dict[str, bytes]) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for path, content in sorted(files.items()):
            entry = zipfile.ZipInfo(path, _TIME)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, content)
    return target.getvalue()


def _problem(name: str, what: str) -> ConfigProblem:
    return ConfigProblem(
        [Problem(key=name, what=what, remedy=f"pip install --force-reinstall {name}")]
    )
