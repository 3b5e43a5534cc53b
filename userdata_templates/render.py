"""Strict jinja2: what a machine is told at its first boot, from a template and variables.

A template is the package file ``<template>.<form>.j2``: ``worker.agent-config.j2`` is the
template ``worker`` in the form ``agent-config``. User-data for cloud-init is in
``<template>.install.yaml.j2`` and ``<template>.configure.yaml.j2``; asked for in the form
``cloud-init``, the variable ``agent`` says which of the two. Nothing is guessed: a variable
that is used and not given is an error that names it.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, TemplateError, UndefinedError

_DIRECTORY = Path(__file__).parent
_BRING_UP = _DIRECTORY / "bring_up.py"
_SUFFIX = ".j2"
#: Lines of visible ASCII, none empty at the start or end of the text, the first not indented.
_IN_YAML_BLOCK = re.compile(r"[!-~][ -~]*(?:\n[ -~]*)*\n(?<!\n\n)")
#: The form of a driver whose machines run cloud-init, and the forms that it stands for.
CLOUD_INIT = "cloud-init"
CLOUD_INIT_FORMS = ("install", "configure")
_YAML = ".yaml"
#: What supervisord's parser takes for the end of a line, the start of a comment, or (however
#: it is escaped) its own directory.
_NOT_IN_SUPERVISORD = re.compile(r"[\x00-\x1f\x7f]|(?:^|\s)[;#]|%\(here\)s")


class TemplateProblem(ValueError):
    """A template can't be rendered with what it was given."""


class UnknownTemplate(TemplateProblem):
    """There is no such template, or not in this form."""


class MissingVariable(TemplateProblem):
    """The template uses a variable that was not given; the message names it."""


def known_templates() -> dict[str, tuple[str, ...]]:
    """Every template of the package with the forms that it has."""
    found: dict[str, list[str]] = {}
    for path in sorted(_DIRECTORY.glob(f"*.*{_SUFFIX}")):
        template, _, form = path.name.removesuffix(_SUFFIX).partition(".")
        found.setdefault(template, []).append(form.removesuffix(_YAML))
    return {
        template: (*forms, CLOUD_INIT) if set(CLOUD_INIT_FORMS) <= set(forms) else tuple(forms)
        for template, forms in found.items()
    }


def render(template: str, form: str, variables: Mapping[str, Any]) -> str:
    """The text of ``template`` in ``form`` (``agent-config``, ``cloud-init``, ``conf``, …).

    ``cloud-init`` is the form that the variable ``agent`` names, ``install`` without it.
    Raises UnknownTemplate (with the nearest known name), MissingVariable (naming the
    variable), TemplateProblem for anything else, a value that has no place in the format
    included. No value of ``variables`` appears in an error.
    """
    _check_known(template, form)
    if form == CLOUD_INIT:
        form = _form_of(variables.get("agent", CLOUD_INIT_FORMS[0]))
    yaml = _YAML if form in CLOUD_INIT_FORMS else ""
    name = f"{template}.{form}{yaml}{_SUFFIX}"
    try:
        return _environment().get_template(name).render(dict(variables))
    except UndefinedError as problem:
        raise MissingVariable(f"template '{name}': {problem.message}") from None
    except TemplateError as problem:
        raise TemplateProblem(f"template '{name}': {problem.message}") from problem
    except TemplateProblem:
        raise
    except (TypeError, ValueError):
        # Without the cause: its text may hold the value.
        raise TemplateProblem(f"template '{name}': a variable is not a plain value") from None


def _check_known(template: str, form: str) -> None:
    known = known_templates()
    if template not in known:
        near = get_close_matches(template, known, n=1)
        remedy = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(known)}"
        raise UnknownTemplate(f"unknown template '{template}' ({remedy})")
    if form not in known[template]:
        forms = ", ".join(known[template])
        raise UnknownTemplate(f"template '{template}' has no form '{form}' (it has: {forms})")


def _form_of(agent: object) -> str:
    if agent not in CLOUD_INIT_FORMS:
        raise TemplateProblem(f"agent: must be one of {', '.join(CLOUD_INIT_FORMS)}")
    return str(agent)


def _environment() -> Environment:
    environment = Environment(  # noqa: S701 - none of these texts is HTML
        loader=FileSystemLoader(_DIRECTORY),
        undefined=StrictUndefined,
        autoescape=False,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["tojson"] = _json
    environment.filters["supervisord_value"] = _supervisord_value
    environment.filters["supervisord_words"] = _supervisord_words
    environment.filters["mapping"] = _mapping
    environment.filters["word_list"] = _word_list
    environment.filters["yaml_text"] = _yaml_text
    environment.globals["bring_up"] = lambda: _BRING_UP.read_text(encoding="utf-8")
    environment.globals["epu_version"] = own_version
    return environment


def _json(value: object) -> str:
    """``value`` as JSON that is also safe inside YAML flow and double-quoted text.

    jinja2's own ``tojson`` escapes for HTML and reports an undefined value as "not
    serializable", which would hide the missing variable's name.
    """
    text = json.dumps(_defined(value), ensure_ascii=True, allow_nan=False)
    return text.replace("\x7f", "\\u007f")  # the one of ASCII that JSON may hold and YAML not


def _supervisord_value(value: object) -> str:
    """``value`` for the right-hand side of a supervisord setting, taken literally."""
    text = str(_defined(value))
    if _NOT_IN_SUPERVISORD.search(text):
        raise TemplateProblem("a supervisord setting can't hold line ends, ' ;', ' #', '%(here)s'")
    return text.replace("%", "%%")


def _supervisord_words(words: Sequence[str]) -> str:
    """A command for supervisord, each word taken literally (it splits as a shell does)."""
    return _supervisord_value(shlex.join(str(word) for word in _defined(words)))


def _yaml_text(text: str) -> str:
    """``text`` as the value of a YAML mapping's key: a literal block that people can read.

    What such a block can't hold, or would change, becomes a double-quoted line instead.
    """
    if not _IN_YAML_BLOCK.fullmatch(text):
        return _json(text)
    return "|\n" + re.sub(r"(?m)^(?=.)", "    ", text.removesuffix("\n"))


def _word_list(value: object) -> list[str]:
    """A list as it is, or the words of a text."""
    words = _defined(value)
    return words.replace(",", " ").split() if isinstance(words, str) else list(words)


def _mapping(value: object) -> dict[str, Any]:
    """A mapping as it is, or out of JSON: the variables of a plan are texts."""
    found = _defined(value)
    try:
        found = json.loads(found) if isinstance(found, str) else found
    except ValueError:
        found = None
    if not isinstance(found, Mapping):
        raise TemplateProblem("a variable must be a mapping, or JSON of one")
    return dict(found)


def own_version() -> str:
    """The version of this distribution; what machines install where nothing else is said."""
    try:
        return version("epu")
    except PackageNotFoundError:
        raise TemplateProblem("epu is not installed here, so its version is not known") from None


def _defined(value: Any) -> Any:
    if isinstance(value, StrictUndefined):
        str(value)  # raises UndefinedError with the variable's name
    return value
