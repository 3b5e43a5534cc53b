"""Makes this process a green one. Import it before anything else, in services only.

``from agent import green`` at the top of a ``service.py`` patches the standard library
before any other module can keep an unpatched copy of it (boto3 imported first ends in a
RecursionError). eventlet says at every import that it is deprecated; that is known, it is
why nameko is kept at the edge, and operators need not read it in every log.
"""

import warnings

warnings.filterwarnings("ignore", message=r"\s*Eventlet is deprecated")

import eventlet  # noqa: E402

eventlet.monkey_patch()
