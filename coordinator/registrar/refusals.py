"""What may be said at all, and how often a refusal is worth an event. PURE.

The account with which machines enrol is in every user-data, so whoever has read one can
send what they like: nothing of theirs may grow in our memory, store or logs.
"""

from __future__ import annotations

from agent.messages import UNASSIGNED, EnrolRequest, StartStep

#: The longest texts that agents have reason to send, characters.
LAUNCH_ID_LIMIT = 72
NODE_ID_LIMIT = 80
SECRET_LIMIT = 256
NAME_LIMIT = 255
VERSION_LIMIT = 64
#: The most addresses that one machine tells, and machines that one launch makes.
ADDRESSES_LIMIT = 32
INDEX_LIMIT = 10_000

#: The most steps that come along, and characters of one: its name, what it says.
STEPS_LIMIT = 50
STEP_NAME_LIMIT = 128
STEP_DETAIL_LIMIT = 2000

#: At most so many refusals are told, and of each subject one, within so many seconds.
TOLD_AT_MOST = 30
TOLD_WITHIN = 60.0


def absurdity(request: EnrolRequest) -> str:
    """Why no agent of ours sent this, naming the field but not its content; empty if one may.

    To be asked before anything else looks at the request.
    """
    if len(request.addresses) > ADDRESSES_LIMIT:
        return f"more than {ADDRESSES_LIMIT} addresses"
    if request.index != UNASSIGNED and not 0 <= request.index < INDEX_LIMIT:
        return f"the index is not below {INDEX_LIMIT}"
    if len(request.steps) > STEPS_LIMIT:
        return f"more than {STEPS_LIMIT} steps"
    if any(absurd_step(step) for step in request.steps):
        return "a step that is too long"
    texts = [
        ("launch_id", request.launch_id, LAUNCH_ID_LIMIT),
        ("token", request.token, SECRET_LIMIT),
        ("nonce", request.nonce, SECRET_LIMIT),
        ("hostname", request.hostname, NAME_LIMIT),
        ("agent_version", request.agent_version, VERSION_LIMIT),
        ("cloud_id", request.cloud_id, NAME_LIMIT),
        *(("address", address, NAME_LIMIT) for address in request.addresses),
    ]
    for name, text, limit in texts:
        if len(text) > limit:
            return f"{name} is longer than {limit} characters"
        if not text.isprintable():
            return f"{name} is not printable"
    return ""


def absurd_step(step: StartStep) -> bool:
    """Whether no agent of ours told this step."""
    too_long = len(step.name) > STEP_NAME_LIMIT or len(step.detail) > STEP_DETAIL_LIMIT
    return too_long or not step.name.isprintable()


class Refusals:
    """Which refusals to tell: one of each subject and not many in all, per minute."""

    def __init__(self) -> None:
        self._told: dict[str, float] = {}

    def worth_telling(self, subject: str, now: float) -> bool:
        """Whether to write an event of a refusal of ``subject``; counts it if so."""
        told = {one: at for one, at in self._told.items() if now - at < TOLD_WITHIN}
        self._told = told
        if subject in told or len(told) >= TOLD_AT_MOST:
            return False
        told[subject] = now
        return True
