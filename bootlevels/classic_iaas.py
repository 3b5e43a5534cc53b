"""From the ``iaas`` keys of a classic plan to a driver and its settings. PURE."""

from __future__ import annotations

import re

#: What was meant when nothing was said.
BUILT_IN_REGION = "us-east-1"
#: Names that mean "EC2 or what speaks like it", not a region.
_KINDS = ("ec2", "nimbus", "eucalyptus")
_REGION = re.compile(r"[a-z]{2,4}(?:-[a-z]+)+-[0-9][a-z]?\Z")
_LIBCLOUD = re.compile(r"libcloud-([A-Za-z0-9_.-]{1,40})\Z", re.IGNORECASE)


class UnknownIaas(ValueError):
    """``iaas`` is nothing we know; the text is a sentence."""


def cloud_settings(iaas: str, url: str, key: str, secret: str) -> dict[str, str]:
    """Driver and settings for the four ``iaas`` keys (``env:NAME`` stays as it is).

    Raises UnknownIaas.
    """
    credentials = {"access_key": key, "secret_key": secret}
    libcloud = _LIBCLOUD.match(iaas)
    if libcloud:
        settings = {"driver": "libcloud", "provider": libcloud[1], "endpoint": _endpoint(url)}
    elif _REGION.match(iaas):
        settings = {"driver": "ec2", "region": iaas, "endpoint": _endpoint(url)}
    elif not iaas or iaas.lower() in _KINDS:
        region = "" if url else BUILT_IN_REGION
        settings = {"driver": "ec2", "region": region, "endpoint": _endpoint(url)}
    else:
        raise UnknownIaas(f"'{iaas[:40]}' is no region of EC2 and no libcloud-<driver>")
    return {name: text for name, text in {**settings, **credentials}.items() if text}


def _endpoint(url: str) -> str:
    """A URL; what was written without a scheme was meant as https."""
    return url if not url or "://" in url else f"https://{url}"
