"""A cycle's actions as one batch of commands for the provisioner. PURE."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import count

from agent.messages import (
    CancelDrain,
    CommandBatch,
    DrainInstance,
    LaunchInstances,
    TerminateInstance,
)
from coordinator.controller.blueprint import Blueprints
from coordinator.controller.planned import Actions, Launch
from coordinator.pool_values import PoolSpec


def in_batches(launches: Iterable[Launch], limit: int) -> list[Launch]:
    """``launches`` with at most ``limit`` machines each; the cloud takes no more at once."""
    return [
        replace(launch, count=min(limit, launch.count - begin))
        for launch in launches
        for begin in range(0, launch.count, limit)
    ]


def batch_of(
    actions: Actions,
    spec: PoolSpec,
    *,
    version: int,
    epoch: int,
    cloud: str,
    blueprints: Blueprints,
    new_id: Callable[[str], str],
) -> CommandBatch | None:
    """The actions as one batch for the provisioner, None when there is nothing to do.

    ``cloud``: where launches go. ``new_id(prefix)`` gives ``<prefix>-<unique>``. The same
    batch, stored, may be repeated.
    """
    if actions.is_empty:
        return None
    batch_id = new_id(f"{spec.name}-batch")
    numbers = count(1)

    def command_id() -> str:
        return f"{batch_id}-{next(numbers)}"

    return CommandBatch(
        batch_id=batch_id,
        pool=spec.name,
        based_on=version,
        epoch=epoch,
        cancels=tuple(
            CancelDrain(command_id=command_id(), node_id=one.node_id, reason=reason)
            for one, reason in actions.cancels
        ),
        terminations=tuple(
            TerminateInstance(command_id=command_id(), node_id=one.node_id, reason=reason)
            for one, reason in actions.terminations
        ),
        drains=tuple(
            DrainInstance(
                command_id=command_id(),
                node_id=one.node_id,
                reason=reason,
                drain_timeout=spec.role.drain_timeout,
            )
            for one, reason in actions.drains
        ),
        launches=tuple(
            LaunchInstances(
                command_id=command_id(),
                launch_id=new_id(spec.name),
                count=launch.count,
                cloud=cloud,
                template=spec.template,
                reason=launch.reason,
                role=spec.role,
                variables={**spec.variables, **launch.variables},
                settings=spec.machine_on(cloud),
                unique_id=launch.unique_id,
                boot_timeout=spec.health.boot_timeout,
                launch_timeout=spec.health.launch_timeout,
                blueprint=blueprints.of_launch(cloud, launch.variables),
            )
            for launch in actions.launches
        ),
    )
