"""What a machine of a level with an agent is told at its birth: a token to enrol with.

The registrar makes the token for the launch's id; the rendered user-data is kept beside the
run (0600) until the machine is gone, because a launch that is repeated after a crash must be
repeated in the same words.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.rpc_client import CallFailed, RemoteError, RpcClient
from bootlevels.machines import MachineTrouble
from bootlevels.run_place import StepFailed
from userdata_templates.render import TemplateProblem, render

#: Seconds within which the machine must have enrolled.
LIFETIME = 3600.0
_CALL = 10.0


@dataclass(frozen=True)
class BaseTokens:
    """Of the run in ``directory``; ``coordinator`` gives its AMQP URL or raises StepFailed."""

    directory: Path
    coordinator: Callable[[], str]

    def user_data(
        self, template: str, form: str, variables: Mapping[str, Any], launch_id: str
    ) -> str:
        """The user-data of launch ``launch_id``, the same whenever it is asked for.

        Raises MachineTrouble.
        """
        path = self._path(launch_id)
        try:
            if path.exists():
                return path.read_text("utf-8")
            told = self._call("base_token", launch_id, LIFETIME)["agent_config"]
            text = render(template, form, {**told, **variables})
            path.parent.mkdir(mode=0o700, exist_ok=True)
            unfinished = path.with_suffix(".new")
            unfinished.unlink(missing_ok=True)
            handle = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
            unfinished.replace(path)
        except OSError as problem:
            raise MachineTrouble(f"{path} can't be used: {problem.strerror}") from None
        except (TemplateProblem, RemoteError) as problem:
            raise MachineTrouble(f"its machine can't be launched: {problem}") from None
        except (CallFailed, StepFailed) as problem:
            what = f"no token for its agent can be had: {problem}"
            raise MachineTrouble(what, unreachable=True) from None
        return text

    def dismiss(self, launch_id: str) -> None:
        """Its machine is gone: so is its account, where anybody can be asked, and the token."""
        path = self._path(launch_id)
        if path.exists():
            with suppress(CallFailed, StepFailed):
                self._call("dismiss", f"{launch_id}-0")
            path.unlink(missing_ok=True)

    def _path(self, launch_id: str) -> Path:
        return self.directory / "user-data" / launch_id

    def _call(self, method: str, *args: Any) -> Any:
        with RpcClient(self.coordinator(), timeout=_CALL) as client:
            return client.call("registrar", method, *args)
