"""What every service of a coordinator can be asked: how the machine is that it runs on."""

import time
from pathlib import Path
from typing import Any

from agent import bus
from coordinator.config import config_of
from coordinator.vitals import vitals


def _state_directory(config: dict[str, Any]) -> Path:
    return Path(config_of(config).state_dir)


class TellsVitals:
    """To be inherited by nameko services."""

    directory = bus.Part(_state_directory)

    @bus.rpc
    def vitals(self) -> Any:
        return vitals(self.directory, time.time())
