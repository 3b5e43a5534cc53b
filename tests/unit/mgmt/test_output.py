"""How results are drawn."""

import json

import pytest

from mgmt.output import Table, age_text, clock_text, json_text, plain_lines, text_of, yes_no


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (-3, "0s"),
        (0.4, "0s"),
        (12.9, "12s"),
        (60, "1m00s"),
        (312, "5m12s"),
        (3600, "1h00m"),
        (11100, "3h05m"),
        (187_200, "2d04h"),
    ],
)
def test_an_age_is_short_and_has_two_units_at_most(seconds, text):
    assert age_text(seconds) == text


def test_a_table_in_a_pipe_is_aligned_and_never_cut():
    reason = "because " * 60
    lines = plain_lines(Table(("POOL", "REASON"), [("a-long-name", reason.strip()), ("b", "")]))
    assert lines[0] == "POOL         REASON"
    assert lines[1] == f"a-long-name  {reason.strip()}"
    assert lines[2] == "b"


def test_json_names_its_schema_and_version_and_sorts_its_keys():
    text = json_text("pools", {"z": 1, "a": "ä"})
    assert json.loads(text) == {"schema": "epu.pools", "version": 1, "z": 1, "a": "ä"}
    assert text.index('"a"') < text.index('"schema"') < text.index('"z"')
    assert "ä" in text


def test_a_moment_is_shown_to_the_millisecond():
    assert clock_text(1_700_000_000.25).endswith(".250")


def test_nothing_is_a_dash_and_values_are_json():
    assert [text_of(value) for value in (None, "", "x", 0, ["a"], True)] == [
        "-", "-", "x", "0", '["a"]', "true",
    ]  # fmt: skip
    assert [yes_no(value) for value in (None, True, False)] == ["-", "yes", "no"]
