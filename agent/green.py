"""Makes this process a green one. Import it before anything else, in services only.

``from agent import green`` at the top of a ``service.py`` patches the standard library
before any other module can keep an unpatched copy of it (boto3 imported first ends in a
RecursionError). eventlet says at every import that it is deprecated; that is known, it is
why nameko is kept at the edge, and operators need not read it in every log.

eventlet's resolver takes in ``cryptography`` where it is installed, for signed zones, which
nobody here verifies: 9 MB a process. dnspython is told that it is not there; whoever wants
it later has it.
"""

import importlib.metadata
import warnings

warnings.filterwarnings("ignore", message=r"\s*Eventlet is deprecated")

_version = importlib.metadata.version


def _version_but_of_cryptography(name: str) -> str:
    if name == "cryptography":
        raise importlib.metadata.PackageNotFoundError(name)
    return _version(name)


# What dnspython asks as it is imported (eventlet imports it several times over).
importlib.metadata.version = _version_but_of_cryptography  # type: ignore[assignment]
try:
    import eventlet

    eventlet.monkey_patch()
finally:
    importlib.metadata.version = _version
