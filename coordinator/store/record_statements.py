"""The statements that read instances as the provisioner's records, each built once.

Building one takes far longer than SQLite takes to answer it, and a pass makes several.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import BindParameter, and_, bindparam, or_, select

from agent.messages import InstanceState
from coordinator.store.instance_rows import FINAL
from coordinator.store.schema import instances, launches

#: States in which something may have to be done about an instance.
_RESTLESS = sorted({one.value for one in InstanceState} - {InstanceState.RUNNING.value, *FINAL})


class RecordStatements:
    """Selects of ``columns`` of instances, with their launch's ``called_at``, oldest first.

    Their parameters: ``cloud``, ``launch_id``, and ``names`` for many launch ids or node ids;
    ``since`` and ``most`` of ``ended``.
    """

    def __init__(self, columns: Iterable[str]) -> None:
        own = sorted(set(columns) & set(instances.c.keys()))
        # The JSON of variables, outputs and the whole role is decoded for nobody here.
        every = (
            select(
                *(instances.c[name] for name in own),
                instances.c.index_in_launch.label("index"),
                launches.c.called_at,
                instances.c.role["heartbeat_interval"].as_float().label("heartbeat_interval"),
                instances.c.role["drain_timeout"].as_float().label("drain_timeout"),
            )
            .select_from(instances)
            .outerjoin(launches, launches.c.launch_id == instances.c.launch_id)
            .order_by(instances.c.wanted_at, instances.c.node_id)
        )
        names: BindParameter[Any] = bindparam("names", expanding=True)
        state = instances.c.state
        cancelled = and_(
            state == InstanceState.RUNNING.value, instances.c.drain_deadline.is_not(None)
        )
        waits = [InstanceState.REQUESTED.value, InstanceState.LAUNCHING.value]
        ended_again = instances.c.next_attempt_at.is_not(None)
        by_cloud = every.where(instances.c.cloud == bindparam("cloud"))
        self.of_cloud = by_cloud.where(or_(state.not_in(FINAL), ended_again))
        self.of_launches = self.of_cloud.where(instances.c.launch_id.in_(names))
        self.restless = by_cloud.where(or_(state.in_(_RESTLESS), ended_again))
        self.live = every.where(state.not_in(FINAL))
        #: Only who they are: many ask, and of very many a whole record each takes seconds.
        self.live_names = (
            select(*(instances.c[name] for name in ("node_id", "pool", "launch_id", "state")))
            .where(state.not_in(FINAL))
            .order_by(instances.c.wanted_at, instances.c.node_id)
        )
        self.drains = every.where(or_(state == InstanceState.DRAINING.value, cancelled))
        #: Nodes that are at their end, the latest first.
        self.ended = (
            every.where(
                state.in_(FINAL),
                instances.c.enrolled_at.is_not(None),
                instances.c.state_since >= bindparam("since"),
            )
            .order_by(None)
            .order_by(instances.c.state_since.desc(), instances.c.node_id)
            .limit(bindparam("most"))
        )
        self.named = every.where(instances.c.node_id.in_(names))
        self.waiting = every.where(
            instances.c.launch_id == bindparam("launch_id"), state.in_(waits)
        )
