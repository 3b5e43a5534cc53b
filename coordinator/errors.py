"""One tree of errors, named for the caller's next move. PURE."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches


class EpuError(Exception):
    """Everything that this system raises on purpose."""

    #: Shells log one line for it, not a traceback: it says itself what is the matter.
    expected = True


class RetryLater(EpuError):
    """Nothing is known to have happened; the same call may be made again later."""


class InsufficientCapacity(EpuError):
    """The cloud has no room for this now; wait, or use another cloud."""


class LaunchRefused(EpuError):
    """The cloud will never accept this request as it is; change it."""


class CredentialsRejected(EpuError):
    """The cloud does not accept our credentials: stop acting on it and tell a person."""


class NotFound(EpuError):
    """The named thing does not exist."""


class VersionConflict(EpuError):
    """The caller's view is older than the store; read again and decide again."""


class EngineFailed(EpuError):
    """A decision engine gave no decision that can be used; its pool holds until it does."""


class InvalidTransition(EpuError):
    """A state change that is not in the table: a defect, never an event of the world."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong in something a person wrote.

    ``where`` is a file (with line) or a section, ``key`` the dotted key, ``what`` the
    sentence, ``remedy`` what to do about it.
    """

    what: str
    key: str = ""
    where: str = ""
    remedy: str = ""

    def __str__(self) -> str:
        place = ": ".join(part for part in (self.where, self.key) if part)
        text = f"{place}: {self.what}" if place else self.what
        return f"{text} ({self.remedy})" if self.remedy else text


class ConfigProblem(EpuError):
    """What a person wrote can't be used. Carries every problem found, not only the first."""

    def __init__(self, problems: Sequence[Problem] | str) -> None:
        if isinstance(problems, str):
            problems = [Problem(what=problems)]
        self.problems: tuple[Problem, ...] = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """``did you mean 'x'?`` for the nearest known word, else the list of known words."""
    words = sorted(known)
    near = get_close_matches(word, words, n=1)
    if near:
        return f"did you mean '{near[0]}'?"
    return f"known: {', '.join(words)}" if words else ""
