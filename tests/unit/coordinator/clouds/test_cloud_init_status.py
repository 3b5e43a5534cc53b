"""What is said of a boot from the states of cloud-init that a machine told."""

import json

import pytest

from coordinator.clouds.cloud_init_status import has_ended, last_status, status_text

STAGES = ("init-local", "init", "modules-config", "modules-final")


def _status(started=(), finished=(), errors=()):
    stages = {
        name: {
            "start": 1.0 if name in started else None,
            "finished": 2.0 if name in finished else None,
            "errors": list(errors) if name in started[-1:] else [],
        }
        for name in STAGES
    }
    return json.dumps({"v1": {"datasource": "NoCloud", "stage": None, **stages}}, indent=1)


def _said(status):
    return status_text(status, "" if has_ended(status) else None, "")


@pytest.mark.parametrize(
    ("status", "says"),
    [
        (_status(["init-local"]), "status: running"),
        (_status(STAGES[:3], STAGES[:2]), "status: running"),
        (_status(STAGES[:3], STAGES[:3]), "status: running"),
        (_status(STAGES, STAGES), "status: done"),
        (_status(STAGES, STAGES, ["1 failed"]), "status: error"),
    ],
)
def test_a_boot_is_done_when_its_last_stage_is(status, says):
    assert says in _said(last_status(f"\x1e{status}\n"))


def test_the_last_state_that_was_told_whole_counts():
    told = f"\x1e{_status(STAGES[:1])}\x1e{_status(STAGES, STAGES)}\x1e{_status(STAGES)[:40]}"
    assert "status: done" in _said(last_status(told))
    # the console's and the port's ends are read: the first record may be cut as well
    assert "status: done" in _said(last_status(told[30:]))


@pytest.mark.parametrize("told", ["", "\x1e", "{", "[]", "null", '{"v1": null}', "no json"])
def test_what_is_no_status_is_none(told):
    assert last_status(told) is None


def test_a_warning_on_the_console_is_told():
    console = "[  71.5] cloud-init[3]: 2026-01-01 - x.py[WARNING]: user-data is not valid\n"
    assert "user-data is not valid" in status_text(_status(STAGES, STAGES), "", console)
