"""Words of the wire: texts of which only some are possible. PURE."""

from __future__ import annotations

from enum import Enum


class Word(str, Enum):
    """A text, and a member of its enumeration.

    Hashed as the text that it is. Enum's own hash is the same number, made in Python, and
    states are looked up in sets and tables a hundred thousand times a second in large fleets.
    """

    __hash__ = str.__hash__
