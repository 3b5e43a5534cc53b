"""Waiting for what must not be in user-data: the files with secrets of a coordinator's machine.

They are brought when the machine is up, by ssh or by its driver's exec, each with mode 0600
and, where it may be looked at half written, by a rename:

* the broker's ``accounts.json``, as ``epu broker start`` makes it;
* the *environment file*: the clouds' credentials as drivers find them in their environment
  (``AWS_ACCESS_KEY_ID`` …). Lines ``NAME=value``; the value is all that follows, taken
  literally; empty lines and lines that begin with ``#`` say nothing. It may be empty.
"""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from coordinator.config import read_access
from coordinator.errors import ConfigProblem, Problem

#: Seconds between two looks, and between two lines that say what is missing.
_LOOK_EVERY, _SAY_EVERY = 0.5, 15.0
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def wait_for_secrets(
    accounts: Path, environment: Path | None, timeout: float, say: Callable[[str], None]
) -> dict[str, str]:
    """Return the variables of ``environment`` once it and ``accounts`` are there and right.

    ``say`` is told every now and then what is missing. Raises ConfigProblem saying the same
    after ``timeout`` seconds.
    """
    began = said = time.monotonic()
    while True:
        variables, problems = _look(accounts, environment)
        if not problems:
            return variables
        now = time.monotonic()
        if now >= began + timeout:
            raise ConfigProblem(problems)
        if said == began or now >= said + _SAY_EVERY:
            said = now
            left = f"{began + timeout - now:.0f} s left"
            say(f"waiting for what is to be brought ({left}): {ConfigProblem(problems)}")
        time.sleep(min(_LOOK_EVERY, max(began + timeout - now, 0.01)))


def read_environment(path: Path) -> dict[str, str]:
    """The variables in an environment file. Raises ConfigProblem, which shows no value."""
    found: dict[str, str] = {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        raise ConfigProblem([Problem(where=str(path), what="can't be read")]) from None
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("#"):
            continue
        name, equals, value = line.partition("=")
        if not equals or not _NAME.fullmatch(name) or "\0" in value:
            what = "is not NAME=value"
            raise ConfigProblem([Problem(where=f"{path}:{number}", what=what)])
        found[name] = value
    return found


def _look(accounts: Path, environment: Path | None) -> tuple[dict[str, str], Sequence[Problem]]:
    problems: list[Problem] = []
    variables: dict[str, str] = {}
    for path in filter(None, (accounts, environment)):
        what = _not_private(path)
        if what:
            problems.append(Problem(where=str(path), what=what))
            continue
        try:
            if path == environment:
                variables = read_environment(path)
            else:
                read_access(path).amqp_url("coordinator")
        except ConfigProblem as problem:
            problems += problem.problems
        except KeyError:
            problems.append(Problem(where=str(path), what="has no account 'coordinator'"))
    return variables, problems


def _not_private(path: Path) -> str:
    """Why ``path`` is not a file that only its owner, us, can read; empty when it is."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return "is not there yet"
    except OSError as problem:
        return f"can't be looked at: {problem.strerror}"
    if not stat.S_ISREG(found.st_mode):
        return "is not a file"
    if found.st_uid != os.geteuid():
        return "belongs to another user"
    if found.st_mode & 0o077:
        return f"can be read by others (chmod 600 {path})"
    return ""
