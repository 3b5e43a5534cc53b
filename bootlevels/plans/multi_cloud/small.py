"""A cloud that has room for a few machines only, and none while its operator closes it.

Also the shortest example of a cloud driver of one's own: it is the cloud ``process`` but for
``launch``. A plan names it as ``package.module:Class``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from coordinator.clouds.base import LaunchRequest, MachineState
from coordinator.clouds.process import ProcessCloud
from coordinator.errors import ConfigProblem, InsufficientCapacity, Problem


class SmallCloud(ProcessCloud):
    """As ``ProcessCloud``, with room for ``room`` machines and none while a file says so.

    That file is ``closed``, in the cloud's directory (``root``). A launch that does not fit
    is refused whole. Two launches at the same moment may both find the last room.
    """

    room = 0

    @classmethod
    def from_settings(cls, settings: Mapping[str, str], state_dir: Path) -> SmallCloud:
        """Keys: ``room`` (a number), and those of ``process``. Raises ConfigProblem."""
        own = dict(settings)
        room = own.pop("room", "2")
        if not room.isdecimal():
            raise ConfigProblem([Problem(key="room", what=f"must be a number, not '{room}'")])
        cloud = cls(super().from_settings(own, state_dir).root)
        cloud.room = int(room)
        return cloud

    def launch(self, request: LaunchRequest) -> None:
        """Start the machines, or raise InsufficientCapacity having made none."""
        listed = self.list_instances(request.run)
        if not any(one.launch_id == request.launch_id for one in listed):
            if (self.root / "closed").exists():
                raise InsufficientCapacity("closed by its operator")
            there = sum(one.state is not MachineState.GONE for one in listed)
            if there + request.count > self.room:
                raise InsufficientCapacity(f"room for {self.room} machines, {there} are there")
        super().launch(request)
