"""Strict jinja2: what a machine is told at its first boot, from a template and variables.

A template is the package file ``<template>.<form>.j2``: ``worker.agent-config.j2`` is the
template ``worker`` in the form ``agent-config``. Nothing is guessed: a variable that is
used and not given is an error that names it.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, TemplateError, UndefinedError

_DIRECTORY = Path(__file__).parent
_SUFFIX = ".j2"
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
        found.setdefault(template, []).append(form)
    return {template: tuple(forms) for template, forms in found.items()}


def render(template: str, form: str, variables: Mapping[str, Any]) -> str:
    """The text of ``template`` in ``form`` (``agent-config``, ``conf``, …).

    Raises UnknownTemplate (with the nearest known name), MissingVariable (naming the
    variable), TemplateProblem for anything else, a value that has no place in the format
    included. No value of ``variables`` appears in an error.
    """
    _check_known(template, form)
    name = f"{template}.{form}{_SUFFIX}"
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
    return environment


def _json(value: object) -> str:
    """``value`` as JSON that is also safe inside YAML flow and double-quoted text.

    jinja2's own ``tojson`` escapes for HTML and reports an undefined value as "not
    serializable", which would hide the missing variable's name.
    """
    return json.dumps(_defined(value), ensure_ascii=True, allow_nan=False)


def _supervisord_value(value: object) -> str:
    """``value`` for the right-hand side of a supervisord setting, taken literally."""
    text = str(_defined(value))
    if _NOT_IN_SUPERVISORD.search(text):
        raise TemplateProblem("a supervisord setting can't hold line ends, ' ;', ' #', '%(here)s'")
    return text.replace("%", "%%")


def _supervisord_words(words: Sequence[str]) -> str:
    """A command for supervisord, each word taken literally (it splits as a shell does)."""
    return _supervisord_value(shlex.join(str(word) for word in _defined(words)))


def _defined(value: Any) -> Any:
    if isinstance(value, StrictUndefined):
        str(value)  # raises UndefinedError with the variable's name
    return value
