"""``python -m mgmt.documents FILE``: make the catalogue in FILE (docs/json.md) anew."""

from __future__ import annotations

import sys
from pathlib import Path

from mgmt.documents.markdown import with_catalogue

if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.write_text(with_catalogue(target.read_text()))
