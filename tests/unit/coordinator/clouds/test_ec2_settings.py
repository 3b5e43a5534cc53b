"""Settings as people write them, with every problem named."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.clouds.ec2_offerings import Market, Offering
from coordinator.clouds.ec2_settings import ACCOUNT_KEYS, MACHINE_KEYS, read_account, read_machine
from coordinator.errors import ConfigProblem


def problems(read, given, environment=None):
    with pytest.raises(ConfigProblem) as wrong:
        read(given, environment or {})
    return {problem.key: problem for problem in wrong.value.problems}


def test_every_type_is_tried_in_every_zone_before_the_next_type():
    machine = read_machine({"type": "c5.large, m5.large", "zones": "a1,b1"}, {})
    assert [(c.type, c.zone) for c in machine.candidates] == [
        ("c5.large", "a1"), ("c5.large", "b1"), ("m5.large", "a1"), ("m5.large", "b1"),
    ]  # fmt: skip


def test_candidates_are_ordered_and_may_name_zone_or_subnet():
    machine = read_machine({"candidates": '["c5.large/us-east-1a", "m5.large/subnet-1", "a"]'}, {})
    assert machine.candidates == (
        Offering(type="c5.large", zone="us-east-1a"),
        Offering(type="m5.large", subnet="subnet-1"),
        Offering(type="a"),
    )


def test_spot_may_fall_back_to_machines_on_demand():
    machine = read_machine({"type": "a,b", "market": "spot", "on_demand_fallback": "true"}, {})
    assert [str(o) for o in machine.offerings(Market.SPOT)] == [
        "spot a", "spot b", "on-demand a", "on-demand b",
    ]  # fmt: skip
    assert [str(o) for o in machine.offerings(Market.ON_DEMAND)] == ["on-demand a", "on-demand b"]


def test_key_pair_and_group_have_names_when_nothing_is_said():
    machine = read_machine({}, {})
    assert (machine.key_name, machine.security_groups) == ("epu", ("default",))


def test_prices_go_by_type_and_market():
    machine = read_machine({"prices": "c5.large=0.085, c5.large:spot=0.03"}, {})
    assert machine.price("c5.large", Market.ON_DEMAND) == 0.085
    assert machine.price("c5.large", Market.SPOT) == 0.03
    assert machine.price("m5.large", Market.SPOT) is None


def test_credentials_may_be_names_of_variables_and_are_never_shown():
    given = {"region": "us-east-1", "access_key": "env:KEY", "secret_key": "env:SECRET"}
    account = read_account(given, {"KEY": "AKIA1", "SECRET": "topsecret"})
    assert (account.access_key, account.secret_key) == ("AKIA1", "topsecret")
    assert "topsecret" not in repr(account) and "AKIA1" not in repr(account)


def test_an_unset_variable_is_named():
    given = {"access_key": "env:KEY", "secret_key": "x"}
    assert "the environment has no KEY" in str(problems(read_account, given)["access_key"])


@pytest.mark.parametrize(
    ("given", "key", "words"),
    [
        ({"regoin": "x"}, "regoin", "did you mean 'region'?"),
        ({"region": "us east"}, "region", "is no word"),
        ({"endpoint": "ec2.example"}, "endpoint", "https://"),
        ({"access_key": "A"}, "secret_key", "missing beside access_key"),
        ({"address": "pubic"}, "address", "did you mean 'public'?"),
        ({"consistency_window": "-1"}, "consistency_window", "from 0 to 3600"),
        ({"profile": "p", "access_key": "a", "secret_key": "b"}, "profile", "one of them"),
    ],
)
def test_wrong_settings_of_an_account_are_named(given, key, words):
    assert words in str(problems(read_account, given)[key])


@pytest.mark.parametrize(
    ("given", "key", "words"),
    [
        ({"market": "sport"}, "market", "did you mean 'spot'?"),
        ({"on_demand_base": "2"}, "on_demand_base", "market: spot"),
        ({"on_demand_base": "two", "market": "spot"}, "on_demand_base", "a whole number"),
        ({"on_demand_fallback": "yes"}, "on_demand_fallback", "true or false"),
        ({"spot_max_price": "cheap", "market": "spot"}, "spot_max_price", "like 0.05"),
        ({"candidates": "a/b", "type": "c"}, "candidates", "one form"),
        ({"candidates": "[1]"}, "candidates", "JSON list"),
        ({"candidates": "/us-east-1a"}, "candidates", "no type"),
        ({"prices": "a=much"}, "prices", "is no price"),
        ({"prices": "a"}, "prices", "name=value"),
        ({"tags": "epu:run=x"}, "tags", "not yours"),
        ({"tags": "a b=x"}, "tags", "can't be a key"),
        ({"root_volume_size": "20"}, "root_device", "RootDeviceName"),
        ({"ports": "22, ssh"}, "ports", "'ssh' is no port"),
        ({"subnets": "subnet-1", "type": "a", "security_groups": "web"}, "security_groups", "ids"),
    ],
)
def test_wrong_settings_of_machines_are_named(given, key, words):
    assert words in str(problems(read_machine, given)[key])


@given(
    st.dictionaries(
        st.sampled_from(sorted(MACHINE_KEYS | ACCOUNT_KEYS)), st.text(max_size=20), max_size=6
    )
)
def test_any_text_is_read_or_refused_in_words(given):
    for read in (read_account, read_machine):
        try:
            read(given, {})
        except ConfigProblem as wrong:
            assert all(problem.key and problem.what for problem in wrong.problems)
