from __future__ import annotations

from pathlib import Path

import pytest

from bootlevels.bootout import MAX_BYTES, BadBootout, read_bootout


def test_texts_stay_and_the_rest_becomes_json(tmp_path: Path) -> None:
    path = tmp_path / "b.json"
    path.write_text('{"t": "x y", "n": 5, "b": true, "none": null, "l": [1, "a"], "o": {"k": 1}}')
    assert read_bootout(path) == {
        "t": "x y", "n": "5", "b": "true", "none": "null", "l": '[1, "a"]', "o": '{"k": 1}',
    }  # fmt: skip


def test_no_file_means_no_outputs(tmp_path: Path) -> None:
    assert read_bootout(tmp_path / "none") == {}


@pytest.mark.parametrize("text", ["", "s3cret", "[1]", "5", '{"password": "s3cret"', "[" * 100_000])
def test_what_is_no_object_is_refused_and_not_quoted(tmp_path: Path, text: str) -> None:
    path = tmp_path / "b.json"
    path.write_text(text)
    with pytest.raises(BadBootout, match=r"b\.json") as found:
        read_bootout(path)
    assert "s3cret" not in str(found.value)


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "b.json"
    path.write_bytes(b" " * (MAX_BYTES + 1))
    with pytest.raises(BadBootout, match="larger than"):
        read_bootout(path)
