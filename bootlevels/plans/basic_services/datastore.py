"""The datastore that the rendered services.json names: a counter in the sample webapp's way."""

from __future__ import annotations

import json
from pathlib import Path

from bootlevels.plans.webapp.web import Counter, counter_at


def datastore(services: Path) -> Counter:
    """The counter of jobs done. Raises OSError, ValueError, KeyError."""
    told = json.loads(services.read_text(encoding="utf-8"))
    return counter_at(told["datastore"], Path(told["password_file"]), told["psql"])
