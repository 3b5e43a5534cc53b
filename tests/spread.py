"""How tests are spread over processes: whole files, those that share a system together."""

from __future__ import annotations

import pytest
from xdist.scheduler import LoadFileScheduling

#: Files whose tests have pools of their own in one system (the fixture ``system``), which is
#: started once in each process that sees one of them: a broker and five services each time.
SHARE_A_SYSTEM = frozenset(
    f"tests/e2e/test_{name}.py"
    for name in ("adopted", "commands", "elastic_pool", "node_loss", "reload_pools")
)


class Spread(LoadFileScheduling):  # type: ignore[misc]
    """As ``--dist loadfile``, in the order of the files' names.

    That begins with whole systems, of which a file takes a minute and mostly waits, and ends
    with unit tests, which fill what is left. By the number of its tests, as is usual, the
    longest file comes last, when nothing else is left to be done beside it.
    """

    def __init__(self, config: pytest.Config, log: object = None) -> None:
        super().__init__(config, log)
        config.option.loadscopereorder = False

    def _split_scope(self, nodeid: str) -> str:
        file: str = super()._split_scope(nodeid)
        return "the shared system" if file in SHARE_A_SYSTEM else file
