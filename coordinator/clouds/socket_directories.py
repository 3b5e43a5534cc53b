"""Private directories in the system's temporary one, for sockets whose own path is too long.

A machine that is terminated, and a coordinator that is stopped, take theirs along. Those of
processes that died unasked stay: these are found here, by nobody listening in them any more.
"""

from __future__ import annotations

import os
import re
import socket
import stat
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

#: ``epu-<mark of a machine>``, or as ``mkdtemp`` names a coordinator's.
_NAME = re.compile(r"epu-(?:[0-9a-f]{24}|[a-z0-9_]{8})\Z")
SOCKET = "s"
#: A directory younger than this, s, may belong to what is only being started.
SETTLED = 3600.0
#: Seconds for somebody who listens to take a connection.
_ANSWERS_WITHIN = 1.0


def abandoned(now: float, top: Path | None = None) -> Iterator[Path]:
    """Directories of ours in which nobody listens. ``now``: epoch s."""
    for path in sorted((top or Path(tempfile.gettempdir())).glob("epu-*")):
        with suppress(OSError):
            if _NAME.match(path.name) and now - path.lstat().st_mtime > SETTLED and is_dead(path):
                yield path


def is_dead(path: Path) -> bool:
    """Whether this is a private directory of ours with nothing but a socket that nobody has.

    Raises OSError.
    """
    found = path.lstat()
    if found.st_uid != os.geteuid() or not stat.S_ISDIR(found.st_mode):
        return False
    if stat.S_IMODE(found.st_mode) != 0o700:
        return False
    content = os.listdir(path)
    return not content or (content == [SOCKET] and not _listens(path / SOCKET))


def remove(path: Path) -> None:
    """Remove such a directory; never anything else that came into it meanwhile.

    Raises OSError.
    """
    with suppress(FileNotFoundError):
        (path / SOCKET).unlink()
    path.rmdir()


def _listens(path: Path) -> bool:
    if not stat.S_ISSOCK(path.lstat().st_mode):
        return True  # whatever it is, it is not ours to remove
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(_ANSWERS_WITHIN)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return False
        except OSError:
            return True  # full of connections, or not ours to reach: somebody may be there
    return True
