"""A sample plan copied to a directory of the user's, to be changed and booted from there."""

from __future__ import annotations

import shutil
from pathlib import Path

#: Only for the package that the samples are shipped in.
_LEFT_OUT = ("__init__.py", "__pycache__")


class CopyRefused(Exception):
    """The copy was not made; the text says why and what to do."""


def copy_sample(plan: Path, target: Path) -> Path:
    """Copy everything beside ``plan`` into the new directory ``target``; the plan's path there.

    An empty directory is as good as none; anything else is left as it is. Raises
    CopyRefused, OSError.
    """
    if target.is_symlink() or target.exists():
        if not target.is_dir():
            raise CopyRefused(f"'{target}' is there already; nothing was copied")
        if any(target.iterdir()):
            raise CopyRefused(f"'{target}' is not empty; nothing was copied: name another one")
    else:
        target.mkdir(parents=True)
    for path in sorted(plan.parent.iterdir()):
        if path.is_file() and path.name not in _LEFT_OUT:
            # The content only: what is shipped may be read-only.
            shutil.copyfile(path, target / path.name)
    return target / plan.name
