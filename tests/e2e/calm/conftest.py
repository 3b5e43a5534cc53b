"""The system that these tests share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest


@pytest.fixture(scope="package")
def system(fresh_system: Callable[[str], AbstractContextManager[Any]]) -> Iterator[Any]:
    """A system whose broker and coordinator stay up; each test has pools of its own.

    It ends with the last of these tests: six processes that wait cost what others need.
    """
    with fresh_system("calm") as system:
        yield system
