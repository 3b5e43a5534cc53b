"""Why a boot failed, told from texts that real machines left (cloud-init 22.4, apt, pip)."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.provisioner.boot_failure import (
    Cause,
    Evidence,
    explain_boot_failure,
    without_secrets,
)
from userdata_templates import bring_up

TIMED_OUT = "not ready within boot_timeout (60 s)"

STATUS = """status: {status}
boot_status_code: enabled-by-sysvinit
last_update: Thu, 26 Nov 2026 06:48:36 +0000
detail:
{detail}"""
LOCALE = (
    "('locale', ProcessExecutionError(\"Unexpected error while running command.\\nCommand: "
    "['update-locale', '--locale-file=/etc/default/locale', 'LANG=en_US.UTF-8']\\nExit code: "
    '255\\nReason: -\\nStdout: -\\nStderr: -"))'
)
RUNPARTS = "('scripts-user', RuntimeError('Runparts: 1 failures (runcmd) in 1 attempted commands'))"
PACKAGES = (
    "('package-update-upgrade-install', ProcessExecutionError(\"Unexpected error while running "
    "command.\\nCommand: ['apt-get', '--assume-yes', '--quiet', 'install', "
    "'no-such-package-xyz']\\nExit code: 100\\nReason: -\\nStdout: -\\nStderr: -\"))"
)
NEW_STYLE = """status: error
extended_status: error - done
boot_status_code: enabled-by-generator
detail: DataSourceNoCloud [seed=/var/lib/cloud/seed/nocloud]
errors:
\t- ('scripts_user', RuntimeError('Runparts: 1 failures (runcmd) in 1 attempted commands'))
recoverable_errors:
WARNING:
\t- Failed to run module scripts-user (scripts in /var/lib/cloud/instance/scripts)"""
FINISHED = (
    "Cloud-init v. 22.4.2 finished at Thu, 26 Nov 2026 06:48:36 +0000. Datasource "
    "DataSourceNoCloud [seed=/var/lib/cloud/seed/nocloud][dsmode=net].  Up 1521.86 seconds"
)
FINAL = (
    "Cloud-init v. 22.4.2 running 'modules:final' at Thu, 26 Nov 2026 06:48:37 +0000. Up 15 seconds"
)


def status(*details: str, word: str = "error") -> str:
    return STATUS.format(status=word, detail="\n".join(details))


def agent(*steps: str) -> str:
    front = "2026-11-26 06:48:36,812 INFO agent.start_log: "
    return "\n".join(front + step for step in steps)


CASES = {
    "a kernel that never got anywhere": (
        {"console": "Booting ...\nKernel panic - not syncing: VFS: Unable to mount root fs"},
        Cause.NO_CLOUD_INIT,
        "never reached cloud-init; its console ends: Kernel panic - not syncing",
    ),
    "an init system that did not start cloud-init": (
        {"console": "login:", "boot_status": "status: not run\nboot_status_code: unknown"},
        Cause.NO_CLOUD_INIT,
        "never reached cloud-init; its console ends: login:",
    ),
    "a boot that takes its time": (
        {"console": f"{FINAL}\nUnpacking git", "boot_status": "status: running\n"},
        Cause.SLOW,
        "cloud-init was still at work; its console ends: Unpacking git",
    ),
    "user-data that is no YAML": (
        {
            "console": "2026-11-26 06:47:56,519 - util.py[WARNING]: Failed loading yaml blob. "
            'Invalid format at line 3 column 8: "while parsing a flow node\n'
            "expected the node content, but found ':'\n" + FINISHED,
            "boot_status": status(LOCALE),
        },
        Cause.USER_DATA,
        "Failed loading yaml blob. Invalid format at line 3 column 8",
    ),
    "user-data of no known kind": (
        {
            "console": "2026-11-26 06:48:16,748 - __init__.py[WARNING]: Unhandled non-multipart "
            "(text/x-not-multipart) userdata: 'b'hello, I am not cloud co'...'\n" + FINISHED,
            "boot_status": status(LOCALE),
        },
        Cause.USER_DATA,
        "Unhandled non-multipart (text/x-not-multipart) userdata",
    ),
    "a key that the schema does not allow": (
        {
            "console": "2026-11-26 06:47:56,660 - schema.py[WARNING]: Invalid cloud-config "
            "provided: Please run 'sudo cloud-init schema --system' to see the schema errors.",
            "boot_status": status(
                LOCALE,
                "('runcmd', TypeError('Failed to shellify 17 into file /var/lib/cloud/x'))",
            ),
        },
        Cause.USER_DATA,
        "Invalid cloud-config provided",
    ),
    "a package that nobody has": (
        {
            "console": "Reading state information...\n"
            "E: Unable to locate package no-such-package-xyz\n"
            "2026-11-26 06:48:12,262 - util.py[WARNING]: Failed to install packages: "
            f"['no-such-package-xyz']\n{FINISHED}",
            "boot_status": status(LOCALE, PACKAGES),
        },
        Cause.PACKAGES,
        "['no-such-package-xyz'] can't be installed: Unable to locate package",
    ),
    "packages, of which only the status knows": (
        {"boot_status": status(LOCALE, PACKAGES)},
        Cause.PACKAGES,
        "packages can't be installed",
    ),
    "no Python of that version": (
        {
            "console": f"{FINAL}\n/var/lib/cloud/instance/scripts/runcmd: 2: python3.99: not found"
            f"\n{FINISHED}",
            "boot_status": status(LOCALE, RUNPARTS),
        },
        Cause.PYTHON,
        "there is no python3.99",
    ),
    "a Python that makes no environments": (
        {
            "console": "The virtual environment was not created successfully because ensurepip is "
            "not\navailable.  On Debian/Ubuntu systems, you need to install python3-venv",
            "boot_status": status(RUNPARTS),
        },
        Cause.PYTHON,
        "ensurepip is not",
    ),
    "a wheelhouse without the wheel": (
        {
            "console": "Looking in links: http://10.0.0.1:8000/w\n"
            "ERROR: Could not find a version that satisfies the requirement epu==9.9 (from "
            "versions: none)\nERROR: No matching distribution found for epu==9.9\n" + FINISHED,
            "boot_status": status(LOCALE, RUNPARTS),
        },
        Cause.WHEEL,
        "pip found no epu==9.9",
    ),
    "an index that nobody serves": (
        {
            "console": "WARNING: Retrying (Retry(total=0, connect=None, read=None, redirect=None, "
            "status=None)) after connection broken by 'NewConnectionError('<pip._vendor.urllib3."
            "connection.HTTPConnection object at 0x7fd4604c4c50>: Failed to establish a new "
            "connection: [Errno 111] Connection refused')': /simple/epu/\n"
            "ERROR: Could not find a version that satisfies the requirement epu==0.1.0 (from "
            "versions: none)\nERROR: No matching distribution found for epu==0.1.0\n"
            "epu: this machine could not be brought up: Command '['/opt/epu/bin/python', '-m', "
            "'pip', 'install']' returned non-zero exit status 1.",
            "boot_status": status(RUNPARTS),
        },
        Cause.WHEEL,
        "pip found no epu==0.1.0, nor its index: [Errno 111] Connection refused",
    ),
    "our own script of the user-data": (
        {
            "console": "epu: installing the Debian package rabbitmq-server\n"
            "epu: this machine could not be brought up: [Errno 28] No space left on device\n"
            + FINISHED,
            "boot_status": status(RUNPARTS),
        },
        Cause.MODULE,
        "could not be brought up: [Errno 28] No space left on device",
    ),
    "a script of the user-data": (
        {"console": f"hello\n{FINISHED}", "boot_status": status(LOCALE, RUNPARTS)},
        Cause.MODULE,
        "module scripts-user failed: RuntimeError('Runparts: 1 failures (runcmd)",
    ),
    "the same as newer versions of cloud-init say it": (
        {"boot_status": NEW_STYLE},
        Cause.MODULE,
        "module scripts-user failed: RuntimeError(",
    ),
    "nothing but a locale that is not there": (
        {"console": FINISHED, "boot_status": status(LOCALE)},
        Cause.NO_AGENT,
        "cloud-init finished, and no agent was heard",
    ),
    "all well, and no agent": (
        {"console": f"hi\n{FINISHED}", "boot_status": "status: done\n"},
        Cause.NO_AGENT,
        "no agent was heard",
    ),
    "an agent with a wrong file": (
        {"console": "epu-agent: /etc/epu/agent.json is not JSON: Expecting value: line 1"},
        Cause.AGENT_CONFIG,
        "/etc/epu/agent.json is not JSON",
    ),
    "a broker behind a wall": (
        {
            "console": agent(
                "[config] read: run r, launch l",
                "[broker] unreachable at amqp://10.0.0.1:5672/epu: the broker at "
                "amqp://enrol:***@10.0.0.1:5672/epu can't be reached: [Errno 110] timed out",
            ),
            "boot_status": status(LOCALE),
        },
        Cause.BROKER,
        "unreachable at amqp://10.0.0.1:5672/epu",
    ),
    "a broker that does not take the account": (
        {"console": agent("[broker] login refused at amqp://b:5672/epu: ACCESS_REFUSED")},
        Cause.LOGIN,
        "login refused at amqp://b:5672/epu",
    ),
    "a broker with another certificate": (
        {"console": agent("[broker] TLS refused at amqp://b:5671/epu: certificate verify failed")},
        Cause.TLS,
        "TLS refused at amqp://b:5671/epu",
    ),
    "a refused enrolment, after trouble with the broker": (
        {
            "console": agent(
                "[broker] unreachable at amqp://b:5672/epu: refused",
                "[enrolment] refused: TokenRejected: the enrolment token has expired",
            )
        },
        Cause.ENROLMENT,
        "refused: TokenRejected: the enrolment token has expired",
    ),
    "a coordinator that does not answer": (
        {"console": agent("[enrolment] no answer: nobody serves 'registrar'")},
        Cause.ENROLMENT,
        "no answer: nobody serves 'registrar'",
    ),
    "a program that ends again and again": (
        {
            "enrolled": True,
            "step": "program web-1",
            "detail": "Exited too quickly (process log may have details)\n"
            "Traceback (most recent call last):\nImportError: no module named web",
        },
        Cause.PROGRAM,
        "program web-1: Exited too quickly (process log may have details) (ImportError: no module",
    ),
    "a check that does not pass": (
        {
            "enrolled": True,
            "step": "check http http://127.0.0.1:8080/health",
            "detail": "failing: it answers 500",
            "console": FINISHED,
        },
        Cause.CHECK,
        "check http http://127.0.0.1:8080/health: failing: it answers 500",
    ),
    "a supervisord that hangs": (
        {"enrolled": True, "step": "supervisord", "detail": "does not answer: timed out"},
        Cause.AGENT,
        "supervisord: does not answer",
    ),
    "nothing at all": ({}, Cause.UNKNOWN, "it left no word of itself"),
}


@pytest.mark.parametrize("name", CASES)
def test_what_a_machine_leaves_tells_why_it_did_not_boot(name: str) -> None:
    left, cause, says = CASES[name]
    found = explain_boot_failure(Evidence(occasion=TIMED_OUT, **left))
    assert found.cause is cause, found.sentence
    assert says in found.sentence
    assert found.sentence.startswith(TIMED_OUT) and "\n" not in found.sentence
    assert len(found.sentence) < 700, "a sentence is for a line of a table"


def test_the_texts_themselves_lie_beside_the_sentence() -> None:
    left, _, _ = CASES["a package that nobody has"]
    found = explain_boot_failure(Evidence(occasion=TIMED_OUT, **left))
    assert "E: Unable to locate package" in found.detail
    assert "cloud-init status:\nstatus: error" in found.detail


def test_neither_tokens_nor_passwords_come_along() -> None:
    signature = "0123456789abcdef" * 4
    console = (
        f"token: 1790000000.{signature}\nbase.1790000000.{signature} "
        f"pool.web.3.1790000000.{signature}\namqp://user:hunter2@broker:5672/epu"
    )
    found = explain_boot_failure(Evidence(occasion=TIMED_OUT, console=console))
    for text in (found.sentence, found.detail):
        assert signature not in text and "hunter2" not in text
    assert "amqp://user:***@broker:5672/epu" in found.detail
    assert without_secrets("web-1 1.2.3.4:5672") == "web-1 1.2.3.4:5672"


@given(st.text(), st.text(), st.text(), st.text(), st.booleans())
def test_no_text_whatever_makes_it_fail(
    console: str, boot_status: str, step: str, detail: str, enrolled: bool
) -> None:
    evidence = Evidence(
        occasion=TIMED_OUT,
        enrolled=enrolled,
        step=step,
        detail=detail,
        console=console,
        boot_status=boot_status,
    )
    found = explain_boot_failure(evidence)
    assert isinstance(found.cause, Cause) and found.sentence.startswith(TIMED_OUT)


def test_what_is_looked_for_is_what_the_script_on_machines_says() -> None:
    script = Path(bring_up.__file__).read_text(encoding="utf-8")
    assert 'f"epu: this machine could not be brought up: ' in script
