"""Settings of a cloud that are ours: found, checked, kept from the driver."""

from __future__ import annotations

import pytest

from coordinator.clouds.agent_settings import (
    check_form,
    driver_settings,
    split_settings,
    with_our_keys,
)
from coordinator.errors import ConfigProblem, Problem

DIGEST = "0123456789abcdef" * 4


def test_the_driver_gets_its_own_and_the_templates_what_was_said() -> None:
    given = {
        "driver": "ec2",
        "agent": "install",
        "region": "eu-west-1",
        "wheelhouse": "https://wheels.example/epu",
        "wheelhouse_sha256": DIGEST,
        "python": "/usr/bin/python3.12",
    }
    theirs, ours = split_settings(given)
    assert theirs == {"driver": "ec2", "region": "eu-west-1"} == driver_settings(given)
    assert ours.variables() == {k: v for k, v in given.items() if k not in theirs}


def test_who_says_nothing_gets_an_agent_installed() -> None:
    assert split_settings({})[1].variables() == {"agent": "install"}


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"agent": "configur"}, "agent: must be install or configure, not 'configur' (did you"),
        ({"agent": "configure", "wheelhouse": "/w"}, "wheelhouse: installs nothing where the"),
        ({"wheelhouse": "wheels"}, "an http(s) URL or an absolute path, not 'wheels'"),
        ({"wheelhouse": "ftp://x/y"}, "an http(s) URL or an absolute path"),
        ({"index_url": "/srv/index"}, "index_url: must be an http(s) URL, not"),
        ({"index_url": "http://[x"}, "index_url: is not a URL"),
        ({"python": "python3"}, "python: must be an absolute path on the machine"),
        ({"wheelhouse": "/w", "index_url": "http://i"}, "index_url: is not used where there is"),
        ({"wheelhouse": "/w", "wheelhouse_sha256": "x"}, "64 hexadecimal digits"),
        ({"wheelhouse_sha256": DIGEST}, "belongs to a wheelhouse"),
        ({"broker_host": "mq:5672/x"}, "broker_host: must be a host's name or address"),
        ({"packages": "a\nb"}, "packages: holds a character that can't be printed"),
    ],
)
def test_what_is_wrong_is_said_with_its_key_and_a_remedy(given: dict[str, str], says: str) -> None:
    with pytest.raises(ConfigProblem) as problem:
        split_settings(given, "clouds.here")
    assert says in str(problem.value) and "clouds.here." in str(problem.value)


def test_every_problem_is_told_at_once() -> None:
    with pytest.raises(ConfigProblem) as problem:
        split_settings({"agent": "x", "python": "y", "index_url": "z"})
    assert [one.key for one in problem.value.problems] == ["agent", "python", "index_url"]


@pytest.mark.parametrize("key", ["wheelhouse", "index_url"])
def test_a_secret_in_a_url_is_refused_and_not_repeated(key: str) -> None:
    with pytest.raises(ConfigProblem, match="user-data can be read") as problem:
        split_settings({key: "https://me:s3cret@index.example/simple"})
    assert "s3cret" not in str(problem.value)


def test_a_cloud_without_cloud_init_takes_none_of_ours() -> None:
    with pytest.raises(ConfigProblem, match=r"clouds\.here\.wheelhouse: means nothing here"):
        check_form({"driver": "process", "wheelhouse": "/w"}, "agent-config", "clouds.here")
    check_form({"driver": "process"}, "agent-config")
    check_form({"wheelhouse": "/w"}, "cloud-init")


def test_a_driver_that_declares_a_form_of_user_data_that_is_none_is_told_which_there_are() -> None:
    with pytest.raises(ConfigProblem, match=r"clouds\.here: .*'configure'.*one of cloud-init"):
        check_form({"driver": "cabin"}, "configure", "clouds.here")


def test_a_key_that_the_driver_does_not_know_may_be_nearly_one_of_ours() -> None:
    told = with_our_keys(
        ConfigProblem(
            [
                Problem(key="wheelhose", what="unknown key", remedy="known: image, root"),
                Problem(key="imag", what="unknown key", remedy="did you mean 'image'?"),
                Problem(key="zzz", what="unknown key", remedy="known: image, root"),
            ]
        )
    )
    assert [one.remedy for one in told.problems] == [
        "did you mean 'wheelhouse'?",
        "did you mean 'image'?",
        "known: image, root",
    ]
