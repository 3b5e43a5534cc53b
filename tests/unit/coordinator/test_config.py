"""The coordinator's configuration file."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from agent.bus import read_config
from agent.messages import BrokerAccess, BrokerAccount
from agent.wire import to_wire
from coordinator.config import (
    CoordinatorConfig,
    config_of,
    read_access,
    read_token_key,
    write_config,
)
from coordinator.errors import ConfigProblem


@pytest.fixture
def config(tmp_path: Path) -> CoordinatorConfig:
    access = BrokerAccess(
        host="127.0.0.1",
        port=5,
        vhost="v/1",
        accounts={"coordinator": BrokerAccount(user="coordinator", password="p@ss/word")},
    )
    accounts = tmp_path / "accounts.json"
    accounts.write_text(json.dumps(to_wire(access)))
    return CoordinatorConfig(
        run="run",
        accounts=str(accounts),
        state_dir=str(tmp_path / "state"),
        clouds={"here": {"driver": "process"}},
    )


def test_the_written_file_is_read_back_as_it_was(config: CoordinatorConfig) -> None:
    found = read_config(write_config(config))
    assert config_of(found) == config
    assert found["AMQP_URI"] == "amqp://coordinator:p%40ss%2Fword@127.0.0.1:5/v%2F1"


def test_files_with_secrets_are_readable_by_their_owner_only(config: CoordinatorConfig) -> None:
    write_config(config)
    for path in Path(config.state_dir).iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_a_file_that_others_can_read_is_refused_with_the_remedy(
    config: CoordinatorConfig,
) -> None:
    path = write_config(config)
    path.chmod(0o644)
    with pytest.raises(PermissionError, match="chmod 600"):
        read_config(path)


def test_the_token_key_stays_when_the_config_is_written_again(config: CoordinatorConfig) -> None:
    write_config(config)
    key = read_token_key(config)
    write_config(config)
    assert read_token_key(config) == key and len(key) == 32


def test_an_accounts_file_that_is_missing_or_broken_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigProblem, match=r"nothing\.json.*No such file"):
        read_access(tmp_path / "nothing.json")
    (tmp_path / "broken.json").write_text('{"host": 3}')
    with pytest.raises(ConfigProblem, match=r"broken\.json"):
        read_access(tmp_path / "broken.json")


def test_no_password_shows_in_a_representation(config: CoordinatorConfig) -> None:
    access = read_access(config.accounts)
    assert "p@ss/word" not in repr(access)
    assert "p@ss" not in access.public_url
