"""How results are drawn."""

import json

import pytest

from bootlevels.table_text import cut_lines_for, lines_for, plain_lines
from mgmt.output import age_text, clock_text, json_text, text_of, yes_no


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
    lines = plain_lines(("POOL", "REASON"), [("a-long-name", reason.strip()), ("b", "")])
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


COLUMNS = ("POOL", "STATE", "ENGINE", "REASON")
ROWS = [
    ("epu-sleeper", "PENDING", "queue_length", "1 running and 1 pending of 2 wanted; 39 ready"),
    ("b", "STABLE", "n_preserving", "-"),
]


def drawn(width: int, spare: tuple[str, ...] = ()) -> list[str]:
    found = lines_for(width, COLUMNS, ROWS, spare)
    return ["".join(piece.text for piece in line).rstrip() for line in found]


@pytest.mark.parametrize("width", [24, 40, 60, 80, 200])
def test_no_name_and_no_word_of_a_reason_is_lost_on_a_narrow_terminal(width):
    text = " ".join(" ".join(drawn(width, ("ENGINE",))).split())
    for word in ("epu-sleeper", "PENDING", "STABLE", "1 running", "39 ready"):
        assert word in text
    assert ("queue_length" in text) == (width >= 40), "left out only where it does not fit"


def test_a_sentence_stands_beside_where_it_fits_wrapped_and_else_beneath():
    head, first, *_ = drawn(200)
    assert head.split() == list(COLUMNS)
    assert first.endswith("1 running and 1 pending of 2 wanted; 39 ready")
    wrapped = drawn(80)
    assert len(wrapped) == 4 and all(len(line) <= 80 for line in wrapped)
    assert wrapped[2].strip() == "ready" and wrapped[2].index("ready") == wrapped[0].index("REASON")
    beneath = drawn(50)
    assert beneath[1] == "    REASON" and beneath[3].startswith("    1 running and 1 pending")
    assert beneath[-1].split() == ["b", "STABLE", "n_preserving"], "nothing to say, no line"
    assert all(len(line) <= 50 for line in beneath)


@pytest.mark.parametrize("width", [30, 50, 80, 200])
def test_a_live_table_has_a_line_for_each_row_with_whole_names_and_as_much_reason_as_fits(width):
    found = cut_lines_for(width, COLUMNS, ROWS, ("ENGINE",))
    lines = ["".join(piece.text for piece in line) for line in found]
    assert len(lines) == 3 and all(len(line) <= width for line in lines)
    assert lines[1].startswith("epu-sleeper  PENDING") and lines[2].startswith("b ")
    assert lines[1].endswith("…" if width < 200 else "39 ready")
