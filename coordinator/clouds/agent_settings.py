"""How machines of a cloud come by their agent: settings of a cloud that are ours. PURE.

In a cloud's section they stand beside the driver's own keys; the driver never sees them.
What they say becomes variables of the user-data templates, for clouds whose machines run
cloud-init.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from urllib.parse import urlsplit

from coordinator.errors import ConfigProblem, Problem, did_you_mean

#: The ``user_data_form`` of drivers whose machines run cloud-init.
CLOUD_INIT = "cloud-init"
#: What a driver may declare as its ``user_data_form``.
FORMS = (CLOUD_INIT, "agent-config")
INSTALL, CONFIGURE = "install", "configure"
_DIGEST = re.compile(r"[0-9a-f]{64}")
#: Keys that mean the same whether the agent is installed or in the image.
_ALWAYS = frozenset({"agent", "python", "packages", "broker_host"})
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.:-]{0,252})")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, kw_only=True)
class AgentSettings:
    """The keys, all text; an empty one was not given and the templates' own default holds.

    ``agent``: ``install`` (user-data puts the agent onto the machine) or ``configure`` (the
    image has it). ``python``: the interpreter that is to make the environment, or that has
    the agent. ``wheelhouse`` (a URL or a directory of the machine), its ``wheelhouse_sha256``
    (of manifest.json), ``index_url``, ``requirement`` (what pip is asked for): see
    ``userdata_templates/parts/machine.j2``. ``packages``: Debian packages, words.
    ``broker_host``: the broker's address as these machines know it, where that is another
    than the coordinator's own.
    """

    agent: str = INSTALL
    python: str = ""
    wheelhouse: str = ""
    wheelhouse_sha256: str = ""
    index_url: str = ""
    requirement: str = ""
    packages: str = ""
    broker_host: str = ""

    def variables(self) -> dict[str, str]:
        """What was said, by the names that the templates use."""
        return {name: text for name in KEYS if (text := getattr(self, name))}


KEYS = tuple(field.name for field in fields(AgentSettings))


def split_settings(
    settings: Mapping[str, str], key: str = ""
) -> tuple[dict[str, str], AgentSettings]:
    """The driver's settings of a cloud's section, and ours. ``key``: of the section.

    Raises ConfigProblem with everything that is wrong about ours.
    """
    ours = {name: text for name, text in settings.items() if name in KEYS}
    problems = [
        Problem(key=f"{key}.{name}" if key else name, what=what, remedy=remedy)
        for name, what, remedy in _problems(ours)
    ]
    if problems:
        raise ConfigProblem(problems)
    return driver_settings(settings), AgentSettings(**ours)


def driver_settings(settings: Mapping[str, str]) -> dict[str, str]:
    """The settings that are the driver's, whatever is wrong about ours."""
    return {name: text for name, text in settings.items() if name not in KEYS}


def check_form(settings: Mapping[str, str], form: str, key: str = "") -> None:
    """Raise ConfigProblem for a form that is none, and for settings of ours on a cloud whose
    machines run no cloud-init."""
    if form not in FORMS:
        what = f"its driver declares the user_data_form '{form}'"
        raise ConfigProblem([Problem(key=key, what=what, remedy=f"one of {', '.join(FORMS)}")])
    if form != CLOUD_INIT and (ours := [name for name in settings if name in KEYS]):
        what = "means nothing here: machines of this cloud run no cloud-init"
        raise ConfigProblem(
            [Problem(key=f"{key}.{name}" if key else name, what=what) for name in ours]
        )


def is_loopback(host: str) -> bool:
    """Whether ``host`` means a machine's own loopback interface to that machine."""
    return host in ("localhost", "::1") or host.startswith("127.")


def with_our_keys(problem: ConfigProblem) -> ConfigProblem:
    """What a driver said of its settings; it does not know that a key nearly was one of ours."""
    return ConfigProblem(
        [
            Problem(where=one.where, key=one.key, what=one.what, remedy=did_you_mean(name, KEYS))
            if one.what == "unknown key"
            and get_close_matches(name := one.key.rpartition(".")[2], KEYS, n=1, cutoff=0.75)
            and not one.remedy.startswith("did you mean")
            else one
            for one in problem.problems
        ]
    )


def _problems(ours: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    """``(key, what, remedy)`` of each thing that is wrong."""
    agent = ours.get("agent", INSTALL)
    if agent not in (INSTALL, CONFIGURE):
        remedy = did_you_mean(agent, (INSTALL, CONFIGURE))
        yield "agent", f"must be {INSTALL} or {CONFIGURE}, not '{agent}'", remedy
    for name, text in ours.items():
        if _UNPRINTABLE.search(text):
            yield name, "holds a character that can't be printed", ""
        elif text and agent == CONFIGURE and name not in _ALWAYS:
            yield name, "installs nothing where the image has the agent", f"or agent: {INSTALL}"
        elif text and name in ("wheelhouse", "index_url"):
            yield from _place_problems(name, text)
        elif text and name == "python" and not text.startswith("/"):
            yield name, f"must be an absolute path on the machine, not '{text}'", ""
        elif text and name == "broker_host" and not _HOST.fullmatch(text):
            yield name, f"must be a host's name or address, not '{text}'", "the port stays"
        elif text and name == "wheelhouse_sha256" and not _DIGEST.fullmatch(text):
            yield name, "must be 64 hexadecimal digits", "epu wheelhouse build prints them"
    if ours.get("wheelhouse") and ours.get("index_url"):
        yield "index_url", "is not used where there is a wheelhouse", "leave one of them"
    if ours.get("wheelhouse_sha256") and not ours.get("wheelhouse"):
        yield "wheelhouse_sha256", "belongs to a wheelhouse, and there is none", ""


def _place_problems(name: str, text: str) -> Iterator[tuple[str, str, str]]:
    try:
        url = urlsplit(text)
        secret = bool(url.username or url.password)
    except ValueError:
        yield name, "is not a URL", ""
        return
    if secret:  # without the text: it is a secret
        what = "holds an account, and user-data can be read by everybody on the machine"
        yield name, what, "let the network decide who may read it"
    elif url.scheme not in ("http", "https") and not (name == "wheelhouse" and text[0] == "/"):
        either = " or an absolute path" if name == "wheelhouse" else ""
        yield name, f"must be an http(s) URL{either}, not '{text}'", ""
