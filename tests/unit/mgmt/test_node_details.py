"""One node for a person: what is known of it, and where its start is."""

from __future__ import annotations

import re
from typing import Any

import pytest

from agent.rpc_client import RemoteError, UnknownService
from coordinator.errors import NotFound
from mgmt.node_details import node
from mgmt.node_lines import figure_text, history_rows, node_lines

NODE: dict[str, Any] = {
    "node_id": "l-0", "launch_id": "l", "index": 0, "pool": "web", "cloud": "here",
    "template": "worker", "state": "BOOTING", "reason": "listed by the cloud",
    "cloud_id": "i-1", "claimed_cloud_id": None, "addresses": ["10.0.0.1"], "price": None,
    "unique_id": None, "outputs": {}, "protected": False, "boot_timeout": 300.0,
    "start_step": "check tcp 127.0.0.1:80", "start_detail": "failing: refused\nmore",
    "boot_cause": "", "boot_detail": "", "now": 1000.0, "wanted_at": 900.0,
    "state_since": 940.0, "enrolled_at": 950.0, "first_listed_at": 940.0,
    "start_step_at": 995.0, "boot_deadline": 1240.0, "launch_deadline": None,
    "drain_deadline": None,
    "history": [{"state": "BOOTING", "at": 940.0, "actor": "provisioner", "reason": "listed"}],
}  # fmt: skip


def caller(found: dict[str, Any], pool: dict[str, Any] | None) -> Any:
    def call(service: str, method: str, *args: Any, timeout: float) -> Any:
        if (service, method) == ("provisioner", "node"):
            if args[0] != found["node_id"]:
                raise RemoteError("NotFound", f"no node '{args[0]}'")
            return found
        if service == "sensors":
            raise UnknownService(service)
        if method == "live_nodes":
            return [{"node_id": found["node_id"]}]
        if pool is None:
            raise UnknownService(service)
        return pool

    return call


def test_where_a_booting_node_is_in_its_start_is_one_line() -> None:
    pool = {"instances": [{"node_id": "l-0", "health": "UNKNOWN", "busy": None}]}
    document = node(caller(NODE, pool), "l-0")
    text = "\n".join(node_lines(document))
    assert "start      check tcp 127.0.0.1:80, 5s ago: failing: refused" in text
    assert document["health"] == "UNKNOWN" and document["missing"] == {}
    assert history_rows(document)[0][1:] == ("BOOTING", "provisioner", "listed")


def test_figures_are_shown_with_their_ages_and_sensors_with_their_problems() -> None:
    document = node(caller(NODE, {"instances": []}), "l-0")
    document |= {
        "figures": {"load1": 0.5, "depth": 12.0},
        "figure_ages": {"depth": 8.0},
        "sensor_problems": {"app": "no answer within 5 s"},
        "heard_age": 2.0,
    }
    text = "\n".join(node_lines(document))
    assert "figures, heard 2s ago" in text
    assert re.search(r"depth +12\.00  measured 10s ago", text)
    assert re.search(r"load1 +0\.50$", text, re.MULTILINE)
    assert figure_text("memory_available", 3 * 2.0**20) == "3.0 MiB"
    assert figure_text("program.work.cpu_percent", 12.5) == "12.5 %"
    assert figure_text("network_sent", 2048.0) == "2.0 KiB/s"
    assert figure_text("app.cache_percent", 7.0) == "7.00", "whose unit is the program's own affair"
    assert "sensor app: no answer within 5 s" in text


def test_what_a_machine_costs_who_keeps_it_and_what_was_done_to_it_are_told() -> None:
    document = node(caller({**NODE, "price": 0.9, "protected": True}, {"instances": []}), "l-0")
    text = "\n".join(node_lines(document))
    assert "price      0.9 $/h, about 0.03 $ so far" in text
    assert "protected  yes: its pool keeps it" in text
    events = [
        {"name": "node_ready", "time": 950.0, "actor": "registrar", "source": "x", "reason": "r"},
        {"name": "node_protected", "time": 939.0, "actor": "person ann@h", "source": "provisioner",
         "reason": "under the microscope"},
    ]  # fmt: skip
    rows = history_rows(document, events)
    assert [row[1:] for row in rows] == [
        ("node_protected", "person ann@h", "under the microscope"),
        ("BOOTING", "provisioner", "listed"),
    ], "and nothing twice"


def test_an_agent_that_was_not_heard_yet_is_said_with_the_time_it_has_left() -> None:
    silent = {**NODE, "start_step": "", "start_detail": "", "start_step_at": None}
    text = "\n".join(node_lines(node(caller(silent, {}), "l-0")))
    assert "nothing heard of its agent yet; boot_timeout in 4m00s" in text


def test_a_failed_boot_shows_its_cause_and_the_texts_it_was_told_from() -> None:
    failed = {
        **NODE,
        "state": "BOOT_FAILED",
        "boot_cause": "packages",
        "boot_detail": "its console ends:\nE: Unable to locate package x",
    }
    pool = {"instances": [{"node_id": "l-0", "health": "UNKNOWN", "kept_until": 4540.0}]}
    lines = node_lines(node(caller(failed, pool), "l-0"))
    assert "  cause      packages" in lines
    assert "  E: Unable to locate package x" in lines
    assert any("for a look, until" in line for line in lines)


def test_a_silent_controller_is_named_and_the_rest_is_told() -> None:
    document = node(caller(NODE, None), "l-0")
    assert document["health"] is None and list(document["missing"]) == ["controller"]


def test_an_unknown_node_is_named_with_the_nearest() -> None:
    with pytest.raises(NotFound, match="no node 'l-1'; did you mean 'l-0'"):
        node(caller(NODE, {}), "l-1")


def test_a_node_that_is_not_well_shows_what_its_program_said_and_how_busy_it_is() -> None:
    failed = {"name": "work", "state": "FATAL", "exit_status": 3, "problem": "Exited too quickly",
              "stderr_tail": "Traceback\nno such queue"}  # fmt: skip
    judged = {"node_id": "l-0", "health": "PROCESS_ERROR", "reason": "program work failed for good",
              "failed_programs": [failed], "busy": True, "busy_for": 90.0, "jobs": 1,
              "busy_problem": ""}  # fmt: skip
    lines = node_lines(node(caller({**NODE, "state": "RUNNING"}, {"instances": [judged]}), "l-0"))
    assert "  health     PROCESS_ERROR: program work failed for good" in lines
    assert "  busy       yes, 1 job in hand, for 1m30s" in lines
    assert lines[-3:] == [
        "  program work: FATAL, exit status 3",
        "    Traceback",
        "    no such queue",
    ]
    unsure = {**judged, "busy": None, "busy_problem": "the busy program did not end in time"}
    lines = node_lines(node(caller(NODE, {"instances": [unsure]}), "l-0"))
    assert "  busy       not known: the busy program did not end in time" in lines
