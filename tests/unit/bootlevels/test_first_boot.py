"""What a machine's console says of its first boot."""

from __future__ import annotations

import pytest

from bootlevels import first_boot
from bootlevels.checks import Look
from bootlevels.first_boot import FirstBoot, failure_in
from userdata_templates.bring_up import __file__ as BRING_UP

FAILED = """\
ci-info: | Route | Destination |
epu: installing epu==0.1.0 from http://127.0.0.1:1
ERROR: no connection
[  7.2] epu: this machine could not be brought up: CalledProcessError: pip
Cloud-init v. 22.4.2 finished
"""


def test_a_failure_is_told_with_the_lines_before_it() -> None:
    found = failure_in(FAILED)
    assert found is not None
    assert found[0] == "CalledProcessError: pip"
    assert found[1] == (
        "epu: installing epu==0.1.0 from http://127.0.0.1:1", "ERROR: no connection",
    )  # fmt: skip


@pytest.mark.parametrize("said", ["", "booting", f"{FAILED}epu: this machine is a broker now\n"])
def test_a_boot_that_goes_on_or_was_mended_has_not_failed(said: str) -> None:
    assert failure_in(said) is None


def test_the_words_are_those_that_machines_say() -> None:
    with open(BRING_UP, encoding="utf-8") as file:
        text = file.read()
    # The machine's program says "epu: " before everything.
    for words in (first_boot.FAILED, first_boot.DONE):
        assert words.removeprefix("epu: ").rstrip() in text


def test_waiting_is_cut_short_only_after_the_machine_said_that_it_failed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(first_boot, "ASK_EVERY", 0.0)
    console = [None, "booting", FAILED]
    boot = FirstBoot(lambda: console.pop(0))
    waiting = Look(ok=False, detail="nothing there")
    assert boot.explained(waiting) == waiting
    assert boot.explained(waiting) == waiting
    told = boot.explained(waiting)
    assert "its first boot failed: CalledProcessError" in told.detail
    assert told.patience and told.tail[-1] == "ERROR: no connection"
    fine = Look(ok=True, detail="there")
    assert boot.explained(fine) == fine
