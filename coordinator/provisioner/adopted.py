"""Machines that people booted, in the shape of a cloud that can launch and end nothing.

An adopted worker is a record like any other; what stands behind it belongs to a person. So
"gone" means here: *its agent is gone*. A machine is listed as there until its record is
TERMINATING and its agent, asked to stop, is not to be found any more. Whether the machine
still runs is then its owner's business, which the record's last reason says.

In all other states it is listed whatever its agent does: nobody can look at the machine, so
silence alone (``missing_timeout``) decides, as with a cloud that can't be asked.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from agent.messages import agent_service
from agent.rpc_client import CallFailed, UnknownService
from coordinator.clouds.base import CloudInstance, LaunchRequest, MachineState
from coordinator.errors import LaunchRefused
from coordinator.provisioner.lifecycle import TERMINATING, Record

log = logging.getLogger(__name__)

#: An agent has so long to answer, s. One that hangs is taken to be there.
AGENT_TIMEOUT = 3.0

InParallel = Callable[[Callable[[str], Any], Sequence[str]], list[Any]]


class AdoptedMachines:
    """See the module; a CloudDriver over the records of adopted workers.

    ``records``: those that are not final. ``call``: an RPC with a deadline. The cloud id of
    an adopted machine is its node id: nobody else needs a name for it. Assumes that the
    broker says at once when an agent's queue is gone, which it does.
    """

    consistency_window = 0.0
    batches = False
    user_data_form = "agent-config"

    def __init__(
        self,
        records: Callable[[], Iterable[Record]],
        call: Callable[..., Any],
        in_parallel: InParallel,
    ) -> None:
        self._records = records
        self._call = call
        self._in_parallel = in_parallel

    def launch(self, request: LaunchRequest) -> None:
        """As CloudDriver.launch: never."""
        raise LaunchRefused("a person boots an adopted machine; nobody can launch one")

    def list_instances(
        self, run: str, launch_ids: Sequence[str] | None = None
    ) -> Sequence[CloudInstance]:
        """As CloudDriver.list_instances; a machine is GONE when its agent is."""
        records = [
            record
            for record in self._records()
            if not record.final and (launch_ids is None or record.launch_id in launch_ids)
        ]
        ending = [record.node_id for record in records if record.state is TERMINATING]
        states = dict(zip(ending, self._in_parallel(self._agent_state, ending), strict=True))
        return [
            CloudInstance(
                cloud_id=record.node_id,
                run=run,
                pool=record.pool,
                launch_id=record.launch_id,
                index=record.index,
                state=states.get(record.node_id, MachineState.RUNNING),
                addresses=record.addresses,
            )
            for record in records
        ]

    def terminate(self, cloud_ids: Sequence[str]) -> None:
        """Ask the agents to stop: all programs of the node end, then the agent itself."""
        self._in_parallel(self._stop, list(cloud_ids))

    def console_output(self, cloud_id: str) -> str | None:
        """As CloudDriver.console_output: there is none."""
        return None

    def _agent_state(self, node_id: str) -> MachineState:
        try:
            self._call(agent_service(node_id), "describe", timeout=AGENT_TIMEOUT)
        except UnknownService:
            return MachineState.GONE
        except CallFailed:
            pass  # it hangs, or the broker is away: that proves nothing
        return MachineState.STOPPING

    def _stop(self, node_id: str) -> None:
        try:
            self._call(agent_service(node_id), "stop", timeout=AGENT_TIMEOUT)
        except CallFailed as problem:  # mostly its end is faster than its answer
            log.info("%s was asked to stop: %s", node_id, problem)
