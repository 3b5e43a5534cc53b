"""How a boot program tells what others may use: ``bootout.json``."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def write_outputs(values: Mapping[str, Any]) -> None:
    """Give ``values`` as the service's outputs: texts as they are, everything else as JSON.

    Without the boot tool (no ``EPU_BOOTOUT``) they are printed, for trying a program by
    hand. Raises OSError.
    """
    text = json.dumps(values, indent=2)
    target = os.environ.get("EPU_BOOTOUT")
    if target:
        Path(target).write_text(text + "\n", encoding="utf-8")
    else:
        print(text)
