"""What the models of all documents stand on."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Part(BaseModel):
    """A document, or an object within one. The text below a key says what it means.

    A key with a default may be left out. Numbers called ``age``, ``seconds``, ``…_for`` or
    ``timeout`` are seconds, those called ``time``, ``…_at`` or ``…_deadline`` epoch seconds.
    """

    model_config = ConfigDict(use_attribute_docstrings=True, frozen=True)


class Missing(Part):
    """What several components were asked for."""

    missing: dict[str, str]
    """Components that did not answer, and why; what they would have told is left out."""
