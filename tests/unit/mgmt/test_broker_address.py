"""A system named by its broker's address: what is taken, and where the password comes from."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

import pytest
from click.testing import CliRunner

from coordinator.errors import ConfigProblem
from mgmt.broker_address import (
    AUTHORITY,
    PASSWORD,
    find_authority,
    find_password,
    parse_address,
)
from mgmt.cli import epu

ADDRESS = parse_address("amqp://me@mq:5000/demo")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("amqp://mq/demo", "amqp://coordinator@mq:5672/demo"),
        ("amqp://me@10.0.0.1:5673/demo", "amqp://me@10.0.0.1:5673/demo"),
        ("amqp://m%40e@mq/a%2Fb", "amqp://m@e@mq:5672/a%2Fb"),
        ("amqps://me@mq/demo", "amqps://me@mq:5671/demo"),
    ],
)
def test_an_address_says_who_where_and_which_run(text, shown):
    assert str(parse_address(text)) == shown


def test_what_a_client_connects_with_is_encoded():
    access = parse_address("amqp://m%40e@[::1]/a%2Fb").access("p/w")
    assert access.amqp_url("coordinator") == "amqp://m%40e:p%2Fw@[::1]:5672/a%2Fb"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("amqp://me:s3cr3t@mq/demo", "a password on a command line is seen by everybody"),
        ("http://mq/demo", "not amqp://"),
        ("mq/demo", "not amqp://"),
        ("amqp:///demo", "names no host"),
        ("amqp://mq", "must end in the vhost"),
        ("amqp://mq/a/b", "must end in the vhost"),
        ("amqp://mq:many/demo", "no address"),
    ],
)
def test_what_is_no_address_is_said_without_a_secret(text, said):
    with pytest.raises(ConfigProblem, match=said) as found:
        parse_address(text)
    assert "s3cr3t" not in str(found.value)


def test_a_password_is_in_a_file_or_the_environment_or_is_asked_for(tmp_path: Path):
    file = tmp_path / "password"
    file.write_text("of the file\n")
    file.chmod(0o600)
    told = {PASSWORD: "of the environment"}
    assert find_password(ADDRESS, told, file, None) == "of the file"
    assert find_password(ADDRESS, told, None, None) == "of the environment"
    assert find_password(ADDRESS, {}, None, lambda: "of a person") == "of a person"
    with pytest.raises(ConfigProblem, match=f"set {PASSWORD}, or use --password-file"):
        find_password(ADDRESS, {}, None, None)


def test_a_password_that_others_may_read_is_refused(tmp_path: Path):
    file = tmp_path / "password"
    file.write_text("s3cr3t")
    file.chmod(0o640)
    with pytest.raises(ConfigProblem, match=f"chmod 600 {file}"):
        find_password(ADDRESS, {}, file, None)
    for name in ("none", "."):
        with pytest.raises(ConfigProblem):
            find_password(ADDRESS, {}, tmp_path / name, None)


def test_wrong_words_are_exit_2_and_one_line(monkeypatch: pytest.MonkeyPatch):
    for name in [name for name in os.environ if name.startswith("EPU_")]:
        monkeypatch.delenv(name)
    for words in (["--broker", "amqp://a:s3cr3t@mq/demo"], ["--broker", "amqp://mq/demo"]):
        result = CliRunner().invoke(epu, ["pools", *words], prog_name="epu")
        assert result.exit_code == 2
        assert len(result.stderr.splitlines()) == 1
        assert "s3cr3t" not in result.output


def test_whom_to_trust_is_in_a_file_that_holds_a_certificate(tmp_path: Path):
    ca = ssl.DER_cert_to_PEM_cert(b"whatever")
    file = tmp_path / "ca.pem"
    file.write_text(ca)
    assert find_authority({}) == ""
    assert find_authority({AUTHORITY: str(file)}) == ca
    access = parse_address("amqps://mq/demo").access("x", ca)
    assert (access.tls, access.ca) == (True, ca)
    assert parse_address("amqp://mq/demo").access("x", ca).ca == ""
    file.write_text("nothing of the kind")
    for wrong in (file, tmp_path / "none"):
        with pytest.raises(ConfigProblem, match=str(wrong)):
            find_authority({AUTHORITY: str(wrong)})
