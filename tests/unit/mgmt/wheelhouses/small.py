"""A wheel of a few lines, made without any tool."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence

from mgmt.wheelhouses.repack import Repacked


def small_wheel(
    name: str, version: str, files: Mapping[str, str], requires: Sequence[str] = ()
) -> Repacked:
    """A pure wheel with ``files`` (path → text)."""
    info = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    metadata += "".join(f"Requires-Dist: {one}\n" for one in requires)
    about = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    content = {**files, f"{info}/METADATA": metadata, f"{info}/WHEEL": about}
    content[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in [*content, f"{info}/RECORD"])
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for path, text in content.items():
            archive.writestr(path, text)
    return Repacked(name=f"{name}-{version}-py3-none-any.whl", content=target.getvalue())
