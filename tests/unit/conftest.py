"""Whatever a command under test prints as JSON is held to its documented schema."""

from __future__ import annotations

from typing import Any

import pytest

from bootlevels import json_document


@pytest.fixture(autouse=True)
def documents_are_as_promised(monkeypatch: pytest.MonkeyPatch) -> None:
    """docs/json.md is a promise; every test that prints a document helps to keep it."""
    make = json_document.json_text

    def held(schema: str, document: dict[str, Any]) -> str:
        from tests.held_documents import problems_of

        text = make(schema, document)
        assert problems_of(json_document.json.loads(text)) == []
        return text

    for module in ("bootlevels.cli", "bootlevels.invocation.cli", "mgmt.output"):
        monkeypatch.setattr(f"{module}.json_text", held)
