"""What a worker is made from, as one digest that survives restarts. PURE.

A launch carries the digest of its template's text, variables, machine settings and role; it
stays with the record. A worker whose digest is another than a new one's would be is *old*.
What the controller tells the provisioner with each command (drain_timeout, launch and boot
timeouts) is no part of it: nothing on the machine knows it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Any

from agent.messages import InstanceView
from coordinator.pool_values import PoolSpec


class Blueprints:
    """The blueprints of a pool's new workers, by cloud and unique id.

    ``sources``: cloud → digest of the template's text as it is on that cloud. An unknown
    cloud has none, which is a source as well.
    """

    def __init__(self, spec: PoolSpec, sources: Mapping[str, str]) -> None:
        self._spec = spec
        self._sources = sources
        self._known: dict[tuple[str, str | None], str] = {}

    def of_launch(self, cloud: str, variables: Mapping[str, str]) -> str:
        """The digest of a launch on ``cloud``; ``variables`` are its own, beside the pool's."""
        parts = [
            self._spec.made_from,
            self._sources.get(cloud, ""),
            self._spec.machine_on(cloud),
            {**self._spec.variables, **variables},
        ]
        return sha256(_text(parts).encode()).hexdigest()

    def old(
        self, workers: Iterable[InstanceView], unique_ids: Mapping[str, Mapping[str, str]]
    ) -> frozenset[str]:
        """Those of ``workers`` that a new launch would make otherwise, or on another cloud.

        Never an adopted one, whose machine is its owner's, nor one whose unique id is wanted
        no more: that one goes anyway.
        """
        clouds = self._spec.clouds
        found = set()
        for one in workers:
            if one.adopted or (one.unique_id is not None and one.unique_id not in unique_ids):
                continue
            moved = bool(clouds) and one.cloud not in clouds
            if moved or one.blueprint != self._of(one, unique_ids):
                found.add(one.node_id)
        return frozenset(found)

    def _of(self, one: InstanceView, unique_ids: Mapping[str, Mapping[str, str]]) -> str:
        key = (one.cloud, one.unique_id)
        if key not in self._known:
            own = {} if one.unique_id is None else unique_ids[one.unique_id]
            self._known[key] = self.of_launch(one.cloud, own)
        return self._known[key]


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=True)
