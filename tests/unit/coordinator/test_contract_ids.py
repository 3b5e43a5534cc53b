"""What the driver contract makes of ids, whose shape is each cloud's own."""

from __future__ import annotations

import pytest

from coordinator.testing import unknown_id


@pytest.mark.parametrize("known", ["i-0abc12def34", "zone/a/vm-7", "launch-1-0", "m_ü", "7"])
def test_an_unknown_id_differs_from_the_known_one_and_keeps_its_shape(known: str) -> None:
    made = unknown_id(known)
    assert made != known
    assert len(made) == len(known)
    assert [c for c in made if c in "-/_ü"] == [c for c in known if c in "-/_ü"]
