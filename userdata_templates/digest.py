"""What a template is made of, as one digest: it changes when new machines would be told otherwise.

Read from disk each time, as ``render`` does: a template that was changed while a coordinator
runs is another one from then on.
"""

from __future__ import annotations

from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from userdata_templates.render import TemplateProblem, own_version

_DIRECTORY = Path(__file__).parent
#: Beside a template's own files: what templates include, and the program that they carry.
_SHARED = ("parts/*", "bring_up.py", "supervisord.conf.j2")


def template_digest(template: str) -> str:
    """SHA-256 over the texts of ``template`` in all its forms, what they include, and our
    version: machines that install us install that one. An unknown template has a digest too.
    """
    own = [path for path in _DIRECTORY.glob("*.j2") if path.name.startswith(f"{template}.")]
    shared = [path for pattern in _SHARED for path in _DIRECTORY.glob(pattern)]
    digest = sha256()
    for path in sorted({*own, *shared}):
        if path.is_file():
            digest.update(f"{path.name}\0".encode() + path.read_bytes() + b"\0")
    with suppress(TemplateProblem):  # not installed: then machines are told something else
        digest.update(own_version().encode())
    return digest.hexdigest()
