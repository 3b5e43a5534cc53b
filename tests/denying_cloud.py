"""A cloud that lies: it calls machines gone that go on, and does not end them."""

from __future__ import annotations

from collections.abc import Sequence

from coordinator.clouds.base import CloudInstance
from coordinator.clouds.process import ProcessCloud


class DenyingCloud(ProcessCloud):
    """The ``process`` cloud, but for machines with a file ``denied`` in their directory."""

    def list_instances(
        self, run: str, launch_ids: Sequence[str] | None = None
    ) -> Sequence[CloudInstance]:
        found = super().list_instances(run, launch_ids)
        return [one for one in found if not self._denied(f"{one.launch_id}-{one.index}")]

    def terminate(self, cloud_ids: Sequence[str]) -> None:
        super().terminate([one for one in cloud_ids if not self._denied(one.partition(".")[0])])

    def deny(self, node_id: str) -> None:
        """From now on there is no such machine, whatever it does."""
        (self.root / node_id / "denied").touch()

    def _denied(self, node_id: str) -> bool:
        return (self.root / node_id / "denied").exists()
