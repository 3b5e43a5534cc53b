"""What a sensor is: something that measures named values when asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from agent.messages import SensorReading


class Sensor(Protocol):
    """Measures; judges nothing. The aggregator names those that it asks: pools can't yet."""

    def measure(self, subject: str) -> Sequence[SensorReading]:
        """Fresh readings of ``subject`` (for a queue sensor: the queue's name).

        No reading is no answer: an empty sequence when the subject does not exist. Raises
        RetryLater when the source can't be asked.
        """
        ...
