"""From what classic values mean to what ours mean. PURE.

``${service.attribute}``, ``${.attribute}`` and ``${global.name}`` are the same in both. A
classic ``${name}`` without a dot was never a reference and stays text, and the run's name
was an attribute of every service.
"""

from __future__ import annotations

import re
import shlex

from bootlevels.attributes import MalformedReference, references

RUN_NAME = "run_name"
_PART = re.compile(r"\$\$\{|\$\{([^{}]*)\}|\$\{")
_RUN_NAME = re.compile(r"[A-Za-z0-9_-]*\.run_name\Z")


def attribute_text(value: str, complaints: list[str] | None = None) -> str:
    """``value`` with its references as ours, and what is none protected.

    ``complaints`` gets a sentence for each ``${`` that is kept as text. Raises
    MalformedReference for one with a dot that can't be meant.
    """

    def part(found: re.Match[str]) -> str:
        whole, inside = found[0], found[1]
        if whole == "$${":
            return whole
        if inside is not None and _RUN_NAME.match(inside):
            return f"${{{RUN_NAME}}}"
        if inside is not None and "." in inside:
            references(whole)
            return whole
        if complaints is not None:
            shown = whole if inside is not None else value[found.start() :][:40]
            complaints.append(f"'{shown}' is no reference and stays as it is")
        return f"${whole}"

    return _PART.sub(part, value) if "${" in value else value


def program_words(arguments: str, complaints: list[str] | None = None) -> tuple[str, ...]:
    """``arguments`` split as a shell would, each word then with its references as ours.

    An empty word stays one. Raises ValueError when a quote is not closed, and
    MalformedReference.
    """
    return tuple(attribute_text(word, complaints) for word in shlex.split(arguments))


__all__ = ["MalformedReference", "attribute_text", "program_words"]
