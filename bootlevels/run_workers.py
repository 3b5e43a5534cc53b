"""Whether a run's pools still have workers: asked before its levels are ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bootlevels.boot_sequence import ENDED_STATES, ServiceState
from bootlevels.plan import ServiceKind
from bootlevels.run_store import WorkersRemain
from bootlevels.service_steps import ServiceSteps, StepFailed

if TYPE_CHECKING:
    from bootlevels.api import Run


def must_have_no_workers(run: Run, steps: ServiceSteps) -> None:
    """Raise WorkersRemain unless it is certain that the pools of ``run`` have no nodes."""
    registrar = run.plan.registrar()
    if registrar is None:
        return
    keeper = run.service(registrar.name).record
    if keeper.state in ENDED_STATES or keeper.state is ServiceState.TERMINATING:
        return  # asked, or told not to ask, before its own end began
    pools = [s for s in run.services() if s.spec.kind is ServiceKind.POOL]
    handed_over = any(pool.record.state not in ENDED_STATES for pool in pools)
    try:
        nodes = steps.live_nodes()
    except StepFailed as problem:
        if not handed_over and keeper.verified_at is None:
            return  # it never worked, so it never launched anything
        raise WorkersRemain(
            f"whether run '{run.name}' still has workers can't be found out: {problem}. "
            f"'epu teardown {run.name}' ends workers first; "
            "--leave-workers does not ask"
        ) from None
    if nodes:
        shown = ", ".join(nodes[:3]) + (", …" if len(nodes) > 3 else "")
        raise WorkersRemain(
            f"run '{run.name}' has {len(nodes)} workers ({shown}): "
            f"'epu teardown {run.name}' ends them first; "
            "--leave-workers leaves them running"
        )
