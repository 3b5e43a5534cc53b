"""Figures of a page in the text format of Prometheus."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from prometheus_client.parser import text_string_to_metric_families

from agent.sensor_text import Measured, from_samples


def measure_page(sensor: str, page: str, names: Sequence[str]) -> Measured:
    """The figures of ``names`` on a page. Raises ValueError for what is no such page."""
    return from_samples(sensor, _samples(page), names)


def _samples(page: str) -> Iterator[tuple[str, Mapping[str, str], float]]:
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            yield sample.name, sample.labels, sample.value
