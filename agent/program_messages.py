"""What travels when a node's agent runs a program for the boot tool. PURE.

One *program run* is: its files arrive in chunks as one tar stream, it is started, its output
and its end are asked for, it is removed. Every step names the run and may be repeated: a
reply that was lost costs time and nothing else.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import Enum

from agent.messages import WIRE_VERSION

#: Bytes that one message carries at most, before base64.
CHUNK_BYTES = 256 * 1024
#: Bytes that the tar stream of one run may have.
MAX_ARCHIVE_BYTES = 512 * 1024 * 1024
#: What names a program run: chosen by the caller, before anything is sent.
RUN_ID = re.compile(r"[0-9a-f]{32}\Z")


class ProgramRunState(str, Enum):
    """How far a program run is.

    ABSENT: the node knows nothing of it. STAGED: its files are there, or on their way.
    RUNNING: it was started, or is about to be. ENDED: see the other fields. CANCELLED: it
    was ended before it began, and never will. LOST: it was started and is gone without a
    word (the node was restarted, or its keeper was killed).
    """

    ABSENT = "ABSENT"
    STAGED = "STAGED"
    RUNNING = "RUNNING"
    ENDED = "ENDED"
    CANCELLED = "CANCELLED"
    LOST = "LOST"


@dataclass(frozen=True, kw_only=True)
class ProgramStart:
    """What to run: ``words`` in the directory ``working`` of the run's files.

    ``archive_size``: bytes of the tar stream, all of which must have arrived. ``timeout``:
    seconds, after which the whole process group dies even when nobody asks any more. The
    words and the environment may hold secrets.
    """

    words: tuple[str, ...] = field(repr=False)
    archive_size: int
    timeout: float
    environment: dict[str, str] = field(default_factory=dict, repr=False)
    working: str = ""
    version: int = WIRE_VERSION


@dataclass(frozen=True, kw_only=True)
class ProgramStatus:
    """How far a run is, with a piece of its output.

    ``exit_code`` is negative for a signal, None without an end of its own. ``output`` is
    base64 of the bytes from the offset that was asked for on, CHUNK_BYTES at most;
    ``output_size`` is how many there are in all.
    """

    state: ProgramRunState
    exit_code: int | None = None
    timed_out: bool = False
    problem: str = ""
    output: str = field(default="", repr=False)
    output_size: int = 0
    version: int = WIRE_VERSION


@dataclass(frozen=True, kw_only=True)
class FilePiece:
    """A piece of a file (base64, CHUNK_BYTES at most) and the size of the whole."""

    content: str = field(repr=False)
    size: int
    version: int = WIRE_VERSION
