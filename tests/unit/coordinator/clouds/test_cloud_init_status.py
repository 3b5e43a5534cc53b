"""What is said of a boot from cloud-init's status.json."""

import json

import pytest

from coordinator.clouds.cloud_init_status import STAGES, status_text


def _status(started=(), finished=(), errors=(), datasource=None):
    stages = {
        name: {
            "start": 1.0 if name in started else None,
            "finished": 2.0 if name in finished else None,
            "errors": list(errors) if name in started[-1:] else [],
        }
        for name in STAGES
    }
    return json.dumps({"v1": {"datasource": datasource, "stage": None, **stages}})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (_status(), ["status: not run"]),
        (_status(["init-local"]), ["status: running", "init-local"]),
        (_status(STAGES[:3], STAGES[:2]), ["status: running", "modules-config"]),
        (_status(STAGES, STAGES, datasource="NoCloud"), ["status: done", "NoCloud"]),
        (
            _status(STAGES, STAGES, ["('scripts_user', RuntimeError('1 failed'))"]),
            ["status: error", "modules-final: ('scripts_user'"],
        ),
    ],
)
def test_it_is_what_cloud_init_status_would_say(text, says):
    told = status_text(text)
    assert all(each in told for each in says), told


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"v1": null}', '{"v1": {"init": 3}}'])
def test_what_is_no_status_is_none(text):
    assert status_text(text) is None
