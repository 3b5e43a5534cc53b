"""The sample "reconfigure-app": an application that sizes its pool by RPC."""

from __future__ import annotations

import json
import os
import signal
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest

#: make test boots basic-services of the samples; this one is among the long ones.
pytestmark = [pytest.mark.e2e, pytest.mark.soak, pytest.mark.timeout(600)]

POOL = "epu-app"


def ask(url: str, method: str, name: str = "") -> Any:
    path = f"subscriptions/{name}" if name else ""
    request = urllib.request.Request(f"{url}{path}", method=method)
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.loads(answer.read())


def test_an_application_has_as_many_workers_as_its_subscriptions_take(
    boot: Callable[..., Any],
) -> None:
    sample = boot("reconfigure-app")
    url = sample.attributes("app")["url"]
    for name in ("anna", "ben", "cleo", "ben"):
        ask(url, "PUT", name)
    sample.system.wait(lambda: sample.pool(POOL)["running"] == 2, "two workers for three")

    # Killed, it forgets nobody, and the pool keeps its size.
    os.kill(json.loads((sample.directory / "app" / "app.json").read_text())["pid"], signal.SIGKILL)
    assert sample.pool(POOL)["wanted"] == 2
    sample.epu("repair", sample.name, "-q")
    assert ask(url, "GET")["subscriptions"] == ["anna", "ben", "cleo"]
    ask(url, "DELETE", "anna")
    sample.system.wait(lambda: sample.pool(POOL)["wanted"] == 1, "one worker for two")
    sample.system.wait(lambda: len(sample.system.alive()) == 1, "one machine is left")
