"""Why a machine did not become a worker, from what it left behind. PURE.

The nearest witness counts: what the agent said of its programs and checks; else what it
wrote on the console while it tried to enrol; else what pip, the package manager and
cloud-init complained of; else that nothing of all this was ever reached. The texts are those
of cloud-init 22 to 24, apt, pip and ``agent.start_log``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum

#: How much of console and status is kept beside a sentence, characters.
TAIL = 1500
#: The longest quotation inside a sentence, characters.
QUOTE = 300


class Cause(str, Enum):
    """The classes of failed boots. Scripts may rely on the values."""

    NO_CLOUD_INIT = "no_cloud_init"
    SLOW = "slow"
    USER_DATA = "user_data"
    MODULE = "cloud_init_module"
    PACKAGES = "packages"
    PYTHON = "python"
    WHEEL = "wheel"
    NO_AGENT = "no_agent"
    AGENT_CONFIG = "agent_config"
    BROKER = "broker_unreachable"
    TLS = "tls_refused"
    LOGIN = "login_refused"
    ENROLMENT = "enrolment_refused"
    PROGRAM = "program"
    CHECK = "check"
    AGENT = "agent"
    UNKNOWN = "unknown"


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What is known. ``occasion``: the begin of the sentence; empty when its agent reported.

    ``step`` and ``detail``: the agent's last word about its start, if it ``enrolled``.
    ``console`` and ``boot_status`` (``cloud-init status --long``): empty where the cloud
    has none.
    """

    occasion: str
    enrolled: bool = False
    step: str = ""
    detail: str = ""
    console: str = ""
    boot_status: str = ""


@dataclass(frozen=True, kw_only=True)
class Explained:
    """``sentence`` is short and for everybody; ``detail`` has the texts it comes from."""

    cause: Cause
    sentence: str
    detail: str = ""


_Finding = tuple[Cause, str]

_AGENT_STEP = re.compile(r"agent\.start_log: \[(broker|enrolment)\] (.*)")
_AGENT_CONFIG = re.compile(r"^epu-agent: (.+)$", re.MULTILINE)
_WHEEL = re.compile(r"No matching distribution found for (\S+)")
_NO_INDEX = re.compile(r"connection broken by .*?(\[Errno -?\d+\] [\w ]+)'\)': (/\S*)")
_BROUGHT_UP = re.compile(r"^epu: (this machine could not be brought up: .*)$", re.MULTILINE)
_NO_PYTHON = re.compile(
    r"(\S*python[\d.]*): (?:command )?not found"
    r"|(No module named '?(?:venv|ensurepip|pip)'?)"
    r"|(ensurepip is not\s+available)"
    r"|(requires a different Python: .*)"
)
_NO_PACKAGE = re.compile(r"E: (Unable to locate package \S+|Unable to fetch .*|Package .*)")
_FAILED_INSTALL = re.compile(r"Failed to install packages: (.*)")
_BAD_USER_DATA = re.compile(
    r"(Failed loading yaml blob.*|Unhandled non-multipart .*userdata.*"
    r"|Failed at merging in cloud config part.*|Invalid (?:cloud-config|user-data) .*)"
)
_MODULE = re.compile(r"\('([\w-]+)', (\w+\(.*)\)\s*$", re.MULTILINE)
_STATUS = re.compile(r"^status: (.+)$", re.MULTILINE)
#: Modules that fail on many a machine without harm to ours.
_HARMLESS = frozenset(
    {"locale", "ssh", "ntp", "keyboard", "timezone", "grub-dpkg", "set-passwords"}
)
_PACKAGES_MODULE = "package-update-upgrade-install"
_SECRETS = (
    (re.compile(r"\b(?:base\.|pool\.[\w.-]+\.)?\d{9,}\.[0-9a-f]{64}\b"), "<token>"),
    (re.compile(r"(://[^:/@\s]+):[^@/\s]+@"), r"\1:***@"),
)


def explain_boot_failure(evidence: Evidence) -> Explained:
    """The most likely cause. Never raises, whatever the texts hold."""
    if evidence.enrolled and evidence.step:
        cause, what = _of_step(evidence.step, evidence.detail)
        front = f"{evidence.occasion}: " if evidence.occasion else ""
        return _explained(cause, f"{front}{what}", evidence)
    for look in _WITNESSES:
        found = look(evidence)
        if found is not None:
            return _explained(found[0], f"{evidence.occasion}: {found[1]}", evidence)
    last = _last_line(evidence.console)
    what = f"its console ends: {last}" if last else "it left no word of itself"
    return _explained(Cause.UNKNOWN, f"{evidence.occasion}; {what}", evidence)


def _of_step(step: str, detail: str) -> _Finding:
    """What the agent itself said."""
    first = _first_line(detail)
    what = f"{step}: {first}" if first else step
    if step.startswith("program "):
        lines = [line for line in detail.splitlines() if line.strip()]
        last = lines[-1].strip()[:QUOTE] if len(lines) > 1 else ""
        return Cause.PROGRAM, f"{what} ({last})" if last and last not in what else what
    if step.startswith("check "):
        return Cause.CHECK, what
    return Cause.AGENT, what


# ------------------------------------------------------------------ witnesses, nearest first


def _agent_at_the_broker(evidence: Evidence) -> _Finding | None:
    told = _AGENT_STEP.findall(evidence.console)
    if not told:
        return None
    step, said = told[-1]
    said = _quoted(said)
    if step == "enrolment":
        if said.startswith("enrolled"):
            return Cause.AGENT, "its agent enrolled and reported nothing after that"
        if said.startswith("refused"):
            return Cause.ENROLMENT, f"its enrolment was {said}"
        return Cause.ENROLMENT, f"its enrolment got {said}"
    if said.startswith("login refused"):
        return Cause.LOGIN, f"its agent's {said}"
    if said.startswith("TLS refused"):
        return Cause.TLS, f"its agent's {said}"
    return Cause.BROKER, f"its agent found the broker {said}"


def _agent_config(evidence: Evidence) -> _Finding | None:
    found = _AGENT_CONFIG.findall(evidence.console)
    if not found:
        return None
    return Cause.AGENT_CONFIG, f"its agent can't start: {_quoted(found[-1])}"


def _installation(evidence: Evidence) -> _Finding | None:
    """Packages, Python, wheels: what *install* templates do, in that order."""
    console = evidence.console
    wheel = _WHEEL.search(console)
    if wheel:
        lost = _NO_INDEX.findall(console)
        why = f", nor its index: {lost[-1][0]}" if lost else " where it was told to look"
        return Cause.WHEEL, f"pip found no {_quoted(wheel[1])}{why}"
    python = _NO_PYTHON.search(console)
    if python:
        name, *others = python.groups()
        what = f"there is no {name}" if name else next(one for one in others if one)
        return Cause.PYTHON, _quoted(what)
    failed = _FAILED_INSTALL.search(console)
    blamed = any(name == _PACKAGES_MODULE for name, _ in _modules(evidence))
    if failed or blamed:
        reasons = _NO_PACKAGE.findall(console)
        which = _quoted(failed[1]) if failed else "packages"
        because = f": {reasons[-1]}" if reasons else ""
        return Cause.PACKAGES, f"{which} can't be installed{because}"
    return None


def _user_data(evidence: Evidence) -> _Finding | None:
    found = _BAD_USER_DATA.search(f"{evidence.console}\n{evidence.boot_status}")
    if not found:
        return None
    return Cause.USER_DATA, f"cloud-init can't use its user-data: {_quoted(found[1])}"


def _bring_up(evidence: Evidence) -> _Finding | None:
    """Our own script of the user-data says what it could not do."""
    found = _BROUGHT_UP.findall(evidence.console)
    return (Cause.MODULE, _quoted(found[-1])) if found else None


def _failed_module(evidence: Evidence) -> _Finding | None:
    harmful = [one for one in _modules(evidence) if one[0] not in _HARMLESS]
    if not harmful:
        return None
    name, said = harmful[-1]
    return Cause.MODULE, f"cloud-init's module {name} failed: {_quoted(said)}"


def _stage(evidence: Evidence) -> _Finding | None:
    """How far cloud-init came, when nothing that it did is known to have failed."""
    status = _STATUS.search(evidence.boot_status)
    word = status[1].strip() if status else ""
    console = evidence.console
    last = _last_line(console)
    ending = f"; its console ends: {last}" if last else ""
    if "running" in word and "not" not in word:
        return Cause.SLOW, f"cloud-init was still at work{ending}"
    never = any(one in word for one in ("not run", "not started", "disabled"))
    reached = "cloud-init" in console.lower()
    if never or (not word and console.strip() and not reached and "agent" not in console):
        return Cause.NO_CLOUD_INIT, f"it never reached cloud-init{ending}"
    if (
        "done" in word
        or "error" in word
        or ("Cloud-init v." in console and " finished at" in console)
    ):
        return Cause.NO_AGENT, f"cloud-init finished, and no agent was heard{ending}"
    return None


_WITNESSES: tuple[Callable[[Evidence], _Finding | None], ...] = (
    _agent_at_the_broker,
    _agent_config,
    _installation,
    _user_data,
    _bring_up,
    _failed_module,
    _stage,
)


# ------------------------------------------------------------------ texts


def _modules(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """Modules that cloud-init reports as failed, with the error in its words."""
    for name, said in _MODULE.findall(evidence.boot_status):
        yield name.replace("_", "-"), said.rstrip(")")


def _explained(cause: Cause, sentence: str, evidence: Evidence) -> Explained:
    parts = [
        f"{title}:\n{text.strip()[-TAIL:]}"
        for title, text in (
            (f"its agent, at '{evidence.step}'", evidence.detail if evidence.step else ""),
            ("cloud-init status", evidence.boot_status),
            ("its console ends", evidence.console),
        )
        if text.strip()
    ]
    return Explained(
        cause=cause, sentence=without_secrets(sentence), detail=without_secrets("\n\n".join(parts))
    )


def without_secrets(text: str) -> str:
    """``text`` with enrolment tokens and passwords of URLs blotted out."""
    for pattern, blot in _SECRETS:
        text = pattern.sub(blot, text)
    return text


def _quoted(text: str) -> str:
    return _first_line(text)[:QUOTE]


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "")


def _last_line(text: str) -> str:
    return next((line.strip()[-QUOTE:] for line in reversed(text.splitlines()) if line.strip()), "")
