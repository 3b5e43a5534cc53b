"""A registrar for tests of the provisioner alone; run as a process of its own.

It only says that nodes can get accounts: without that, the provisioner launches nothing.
"""

from agent import green  # noqa: F401, I001 - patches the standard library before all else

from typing import Any

from agent import bus


class Registrar:
    """Answers ``status`` and nothing else."""

    name = "registrar"
    part = bus.Part(lambda config: dict(config))

    @bus.rpc
    def status(self) -> dict[str, Any]:
        return {"accounts_available": True}


if __name__ == "__main__":
    bus.main(Registrar)
