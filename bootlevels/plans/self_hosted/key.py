"""A pair of keys by which machines of a run are reached by ssh, made once for each run.

The private one stays in its file, which only its owner can read; the public one is told to the
plan, for the machines' user-data.
"""

from __future__ import annotations

import sys
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bootlevels.plans.outputs import write_outputs
from bootlevels.plans.self_hosted.bring import keep_here


def main() -> int:
    """Tells the plan ``file`` (of the private key) and ``public``."""
    if len(sys.argv) != 2:
        print("usage: python -m bootlevels.plans.self_hosted.key FILE", file=sys.stderr)
        return 2
    path = Path(sys.argv[1]).absolute()
    try:
        if not path.exists():
            keep_here(path, _new_key())
        write_outputs({"file": str(path), "public": public_of(path.read_bytes())})
    except (OSError, ValueError) as problem:
        print(f"{path}: no key can be made or read there: {problem}", file=sys.stderr)
        return 1
    return 0


def _new_key() -> bytes:
    return Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.OpenSSH,
        serialization.NoEncryption(),
    )


def public_of(private: bytes) -> str:
    """The public key that belongs to ``private``, as a line of authorized_keys."""
    key = serialization.load_ssh_private_key(private, None).public_key()
    return key.public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    ).decode()


if __name__ == "__main__":
    sys.exit(main())
