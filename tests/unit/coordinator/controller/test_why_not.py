"""Why not more, why not fewer: one plain sentence in every case that a person may meet."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.messages import InstanceState as S
from coordinator.controller.backoff import BackOff
from coordinator.controller.rollout_memory import Rollout

QUEUE = {
    "type": "queue_length",
    "queue": "jobs",
    "queuelen_high_water": 50,
    "queuelen_low_water": 10,
    "max_instances": 5,
}


def keeps(n, running, **section):
    """A pool that wants ``n`` and has ``running``; the section's other keys."""
    return {"engine": {"preserve_n": n}, "running": running, **section}


def follows(queue, running, **section):
    return {"engine": QUEUE, "running": running, "queue": queue, **section}


CASES = [
    # what is there, what is done to it, words of "why not more", words of "why not fewer"
    ("content", keeps(2, 2), "no more are wanted: preserve_n is 2", "all that are there"),
    ("frozen", keeps(2, 1, frozen="teardown"), "nothing is decided: frozen: teardown", "teardown"),
    ("disabled", keeps(2, 1, enabled=False), "the provisioner is disabled", "is disabled"),
    ("unanswered", keeps(2, 1, in_flight=True), "waiting for the answer", "waiting for the answer"),
    ("growing", keeps(3, 1), "2 are launched now", "all that are there are wanted"),
    ("on the way", keeps(2, 1, pending=1), "1 is on the way", "preserve_n is 2"),
    ("maximum", keeps(5, 2, max=2), "5 are wished for, but max is 2", "all that are there"),
    ("minimum", keeps(0, 2, min=2), "no more are wanted", "0 are wished for, but min is 2"),
    ("cooldown up", keeps(5, 2, cooldown_up=60, memory={"no_growth_until": 30.0, "wanted": 2}),
     "5 are wished for, but cooldown_up has 30 s left", "all that are there"),
    ("cooldown down",
     keeps(1, 2, cooldown_down=60, memory={"no_shrinking_until": 30.0, "wanted": 2}),
     "no more are wanted", "1 are wished for, but cooldown_down has 30 s left"),
    ("window", keeps(1, 2, stabilization_window=60, memory={"wishes": ((-9.0, 2),), "wanted": 2}),
     "no more are wanted", "1 are wished for, but 2 were wanted within the last 60 s"),
    ("step", keeps(9, 2, max_step_up=1, memory={"wanted": 2}), "max_step_up is 1", "are wanted"),
    ("override", keeps(1, 2, override={"size": 2, "until": 1_000_060.0, "reason": "launch day"}),
     "no more are wanted", "override to 2 for 60 s more: launch day"),
    ("budget", keeps(5, 2, budget=2.0, machine_price=1.0), "budget of 2 $/h pays 2", "are there"),
    ("suspended", keeps(5, 2, hold={"suspend": ["scale_out"], "reason": "audit"},
                        memory={"wanted": 2}), "scale_out is suspended: audit", "are wanted"),
    ("no replace", keeps(2, 1, hold={"suspend": ["replace"]}, memory={"wanted": 2}),
     "1 are missing: replace is suspended", "all that are there"),
    ("recommended", keeps(5, 2, hold={"recommend_only": True, "reason": "trial"}),
     "nothing is done, only recommended: trial", "only recommended: trial"),
    ("back-off", keeps(3, 1, memory={"backoff": BackOff(
        failures=2, waves=2, until=1_000_020.0, last_failure=1_000_000.0, reason="x-0 refused")}),
     "launches wait 20 s after 2 failed (the last: x-0 refused)", "all that are there"),
    ("a loop of failures", keeps(1, 0, pending=1, memory={"backoff": BackOff(
        failures=4, waves=4, until=999_999.0, last_failure=999_999.0, reason="x-3 BOOT_FAILED")}),
     "1 is on the way; preserve_n is 1; before, 4 failed (the last: x-3 BOOT_FAILED)", "wanted"),
    ("none", keeps(0, 0), "no more are wanted", "there are none: preserve_n is 0"),
    ("no room", keeps(2, 1, retryable=1), "wait for the cloud here: no capacity", "wanted"),
    ("braked", keeps(5, 5, failing=5), "5 unhealthy stay", "all that are there"),
    ("old machines", keeps(3, 0, max=3, terminating=4), "wait for old machines to go",
     "4 are on the way out"),
    ("protected", keeps(0, 2, protected=True), "no more are wanted", "2 too many stay: they are"),
    ("shrinking", keeps(1, 3), "no more are wanted", "2 are told to drain now"),
    ("development", keeps(2, 1, development=True, boot_failed=1), "development shows failures",
     "all that are there"),
    ("rollout", keeps(2, 2, old=True), "1 is launched now", "1 beyond the size take over"),
    ("no reading", follows(None, 2), "hold: no reading", "hold: no reading"),
    ("old reading", follows((0, 0), 2, stale_by=60.0), "old", "old"),
    ("last worker", follows((3, 1), 1), "no more are wanted", "last stays: "),
    ("pending blocks", follows((100, 1), 1, pending=1), "while 1 pending", "while 1 pending"),
    ("engine's most", follows((100, 1), 5), "max_instances is 5", "all that are there"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("case", "more", "fewer"), [c[1:] for c in CASES], ids=[c[0] for c in CASES]
)
def test_every_case_has_its_sentence(world, case, more, fewer):
    case = dict(case)
    memory, retryable = case.pop("memory", {}), case.pop("retryable", 0)
    extra = {key: case.pop(key, 0) for key in ("pending", "failing", "terminating", "boot_failed")}
    running, protected, old = case.pop("running"), case.pop("protected", False), case.pop("old", 0)
    changes = {key: case.pop(key) for key in ("frozen", "enabled", "in_flight", "queue", "stale_by")
               if key in case}  # fmt: skip
    made = world(case.pop("engine"), changes=changes, **case)
    nodes = made.add(S.RUNNING, running, protected=protected)
    made.add(S.BOOTING, extra["pending"])
    made.add(S.TERMINATING, extra["terminating"])
    made.add(S.BOOT_FAILED, extra["boot_failed"], reason="check failed")
    made.add(S.LAUNCHING, retryable, retryable=True, reason="no capacity: full")
    for node in nodes[: extra["failing"]]:
        made.fail_program(node)
    moved = {
        key: made.now + value if key.endswith("until") else value for key, value in memory.items()
    }
    if "wishes" in moved:
        moved["wishes"] = tuple((made.now + at, size) for at, size in moved["wishes"])
    made.memory = replace(made.memory, **moved)
    if old:
        made.memory = replace(made.memory, rollout=Rollout(started_at=made.now))
        made.cycle(apply=False)
        made.version += 1
    explained = made.cycle(apply=False).explanation()
    (why_not_more,), (why_not_fewer,) = explained["why_not_more"], explained["why_not_fewer"]
    assert more in why_not_more
    assert fewer in why_not_fewer
    assert "None" not in why_not_more + why_not_fewer
