"""``n.rpc`` of the shell."""

from __future__ import annotations

from typing import Any

import pytest

from agent.rpc_client import RemoteError
from coordinator.errors import NotFound
from mgmt.shell import console_for, evaluate


def recorder() -> tuple[list[Any], Any]:
    calls: list[Any] = []

    def call(service: str, method: str, *args: Any, timeout: float) -> Any:
        calls.append((service, method, args, timeout))
        return {"answer": len(calls)}

    return calls, call


def test_services_are_attributes_or_keys_and_calls_have_a_deadline():
    calls, call = recorder()
    n = console_for(call, "demo", timeout=7.0)
    n.rpc.provisioner.instances("p", 3)
    n.rpc["agent-l-0"].describe(timeout=1.0)
    assert calls == [
        ("provisioner", "instances", ("p", 3), 7.0),
        ("agent-l-0", "describe", (), 1.0),
    ]


def test_an_expression_prints_its_value(capsys):
    _, call = recorder()
    evaluate(console_for(call, "demo"), "n.rpc.management.status()")
    assert capsys.readouterr().out == "{'answer': 1}\n"


def test_a_statement_is_run(capsys):
    _, call = recorder()
    evaluate(console_for(call, "demo"), "for i in (1, 2): print(i)")
    assert capsys.readouterr().out == "1\n2\n"


def test_an_error_of_the_service_is_raised_as_its_own_class():
    def call(*args: Any, timeout: float) -> Any:
        raise RemoteError("NotFound", "no pool 'x'")

    with pytest.raises(NotFound):
        evaluate(console_for(call, "demo"), "n.rpc.management.pool('x')")
