"""Starts one program of a node with exact words and environment: ``FILE COPY``.

Run by supervisord as a file of its own (``python -I -S``, 15 ms), replaced by the program
at once: same pid, same signals. Standard library only.

Beside what the file says the program gets ``EPU_COPY``, ``EPU_BUSY_FILE`` (where the role
names one), and the directory of the agent's own interpreter in front of its PATH, so that
``python`` and ``epu`` are those of the agent.
"""

from __future__ import annotations

import json
import os
import sys

#: What a shell says when it can't start a command.
CANNOT_START = 127


def search_path() -> str:
    """PATH with the directory of this interpreter in front."""
    here = os.path.dirname(sys.executable)
    return os.pathsep.join([here, os.environ.get("PATH") or os.defpath])


def main(words: list[str]) -> int:
    """Become the program; returns an exit code only when that is impossible."""
    path, copy = words
    with open(path, encoding="utf-8") as file:
        told = json.load(file)
    environment = {
        **os.environ,
        "PATH": search_path(),
        "EPU_COPY": copy,
    }
    if told["busy_files"]:
        environment["EPU_BUSY_FILE"] = told["busy_files"][int(copy)]
    environment.update(told["environment"])
    command = told["command"]
    try:
        os.chdir(told["directory"])
        os.execvpe(command[0], command, environment)
    except OSError as problem:
        print(f"cannot start {command[0]!r}: {problem.strerror}", file=sys.stderr)
    return CANNOT_START


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
