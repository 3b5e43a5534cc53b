"""Settings of the ``ec2`` cloud, from text. PURE.

Two kinds of keys: those of the account (where, and with which credentials), and those of
machines, which a pool or service may lay over the cloud's own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from coordinator.clouds.ec2_offerings import Market, Offering
from coordinator.errors import ConfigProblem, Problem, did_you_mean

#: For how long a listing may not show a change, s. EC2 promises no bound: changes show
#: within seconds nearly always, and its guides tell to wait for minutes before giving up.
#: Too short, and machines are judged that nobody can see yet; what a minute costs is that
#: a stray lives, and a teardown waits, so much longer.
CONSISTENCY_WINDOW = 60.0

_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z")
_ENVIRONMENT = re.compile(r"env:([A-Za-z_][A-Za-z0-9_]*)\Z")
#: What the metadata service can show as a key.
_TAG_KEY = re.compile(r"[A-Za-z0-9+=.,_:@-]{1,128}\Z")


@dataclass(frozen=True, kw_only=True)
class Ec2Account:
    """Where and as whom. Without keys, AWS's own chain of credentials is asked.

    ``endpoint``: URL of what speaks EC2 elsewhere. ``address``: which address of a machine
    comes first, ``public`` or ``private``. ``consistency_window`` in seconds.
    """

    region: str = ""
    endpoint: str = ""
    access_key: str = field(default="", repr=False)
    secret_key: str = field(default="", repr=False)
    session_token: str = field(default="", repr=False)
    profile: str = ""
    address: str = "public"
    consistency_window: float = CONSISTENCY_WINDOW


@dataclass(frozen=True, kw_only=True)
class Ec2Machine:
    """What machines are to be.

    ``candidates`` in the order in which they are tried. With ``market`` spot, a pool has
    ``on_demand_base`` machines on demand before any of spot, and with
    ``on_demand_fallback`` those that spot has no room for. ``prices``: of an hour, by type,
    or ``type:spot``. ``root_volume_size`` in GiB, for the image's ``root_device``.
    ``ports``: what ``validate`` wants to see let in.
    """

    image: str = ""
    candidates: tuple[Offering, ...] = ()
    market: Market = Market.ON_DEMAND
    on_demand_base: int = 0
    on_demand_fallback: bool = False
    split_batches: bool = False
    spot_max_price: str = ""
    prices: tuple[tuple[str, float], ...] = ()
    key_name: str = "epu"
    security_groups: tuple[str, ...] = ("default",)
    tags: tuple[tuple[str, str], ...] = ()
    iam_profile: str = ""
    root_device: str = ""
    root_volume_size: int | None = None
    root_volume_type: str = ""
    ports: tuple[int, ...] = (22,)

    def offerings(self, market: Market) -> tuple[Offering, ...]:
        """What to ask for, in order, where ``market`` is wanted."""
        wanted = tuple(candidate.on(market) for candidate in self.candidates)
        if market is Market.SPOT and self.on_demand_fallback:
            wanted += tuple(candidate.on(Market.ON_DEMAND) for candidate in self.candidates)
        return wanted

    def price(self, offering_type: str, market: Market) -> float | None:
        """Of one hour of one machine; None when nobody said."""
        name = f"{offering_type}:spot" if market is Market.SPOT else offering_type
        return dict(self.prices).get(name)


ACCOUNT_KEYS = frozenset(f.name for f in fields(Ec2Account))
MACHINE_KEYS = frozenset(
    {*(f.name for f in fields(Ec2Machine)), "type", "zones", "subnets"}  # make candidates
)


def read_account(given: Mapping[str, str], environment: Mapping[str, str]) -> Ec2Account:
    """The account's keys of ``given``; values ``env:NAME`` are looked up. Raises ConfigProblem.

    Unknown keys of ``given``, those of machines known, are problems too.
    """
    text = _Text(given, environment)
    text.refuse_unknown(ACCOUNT_KEYS | MACHINE_KEYS)
    account = Ec2Account(
        region=text.word("region"),
        endpoint=text.matching("endpoint", r"https?://[^\s]+", "a URL: https://…"),
        access_key=text.plain("access_key"),
        secret_key=text.plain("secret_key"),
        session_token=text.plain("session_token"),
        profile=text.plain("profile"),
        address=text.one_of("address", ("public", "private"), "public"),
        consistency_window=text.number("consistency_window", CONSISTENCY_WINDOW, 0, 3600),
    )
    for one, other in (("access_key", "secret_key"), ("secret_key", "access_key")):
        if getattr(account, one) and not text.given.get(other):
            text.problem(other, f"is missing beside {one}", "write it as env:NAME")
    if account.profile and account.access_key:
        text.problem("profile", "stands beside access_key", "give one of them")
    text.raise_problems()
    return account


def read_machine(given: Mapping[str, str], environment: Mapping[str, str]) -> Ec2Machine:
    """The machines' keys of ``given``. Raises ConfigProblem with every problem found."""
    text = _Text(given, environment)
    market = Market(text.one_of("market", [m.value for m in Market], Market.ON_DEMAND.value))
    machine = Ec2Machine(
        image=text.word("image"),
        candidates=_candidates(text),
        market=market,
        on_demand_base=int(text.number("on_demand_base", 0, 0, 10_000, whole=True)),
        on_demand_fallback=text.flag("on_demand_fallback"),
        split_batches=text.flag("split_batches"),
        spot_max_price=text.matching("spot_max_price", r"\d{1,6}(\.\d{1,6})?", "like 0.05"),
        prices=_prices(text),
        key_name=text.plain("key_name", "epu"),
        security_groups=tuple(text.items("security_groups")) or ("default",),
        tags=_tags(text),
        iam_profile=text.plain("iam_profile"),
        root_device=text.matching("root_device", r"/dev/[a-z0-9/]{1,32}", "like /dev/xvda"),
        root_volume_size=int(text.number("root_volume_size", 0, 1, 65_536, whole=True)) or None,
        root_volume_type=text.word("root_volume_type"),
        ports=_ports(text),
    )
    _check_together(machine, text)
    text.raise_problems()
    return machine


def _check_together(machine: Ec2Machine, text: _Text) -> None:
    """Keys that only make sense, or none, beside others."""
    if machine.market is not Market.SPOT:
        for key in ("on_demand_base", "on_demand_fallback", "spot_max_price"):
            if getattr(machine, key):
                text.problem(key, "says something about spot machines", "add market: spot")
    if (machine.root_volume_size or machine.root_volume_type) and not machine.root_device:
        remedy = (
            "what 'aws ec2 describe-images --image-ids … --query Images[0].RootDeviceName' says"
        )
        text.problem("root_device", "is missing for the root volume's settings", remedy)
    names = [g for g in machine.security_groups if not g.startswith("sg-")]
    in_subnet = any(candidate.subnet for candidate in machine.candidates)
    if in_subnet and names and tuple(names) != ("default",):
        what = f"'{names[0]}' is a name, and in subnets EC2 takes ids only"
        text.problem("security_groups", what, "write sg-…")


def _candidates(text: _Text) -> tuple[Offering, ...]:
    """``candidates`` in full, or every ``type`` in every one of ``subnets`` or ``zones``."""
    types, zones, subnets = text.items("type"), text.items("zones"), text.items("subnets")
    written = text.items("candidates")
    if written and (types or zones or subnets):
        # A pool's own choice in one form is not mixed with the cloud's in the other.
        text.problem("candidates", "stands beside type, zones or subnets", "use one form")
    if not written:
        places = [("", s) for s in subnets] or [(z, "") for z in zones] or [("", "")]
        found = [Offering(type=kind, zone=z, subnet=s) for kind in types for z, s in places]
    else:
        found = []
        for one in written:
            kind, _, place = one.partition("/")
            zone, subnet = ("", place) if place.startswith("subnet-") else (place, "")
            found.append(Offering(type=kind, zone=zone, subnet=subnet))
    for offering in found:
        for word in (offering.type, offering.zone, offering.subnet):
            if word and not _WORD.match(word):
                text.problem("candidates", f"'{word[:40]}' is no word", "type or type/zone")
        if not offering.type:
            text.problem("candidates", "a candidate has no type", "write type or type/zone")
    return tuple(dict.fromkeys(found))


def _prices(text: _Text) -> tuple[tuple[str, float], ...]:
    prices = []
    for kind, price in text.pairs("prices"):
        if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", price):
            prices.append((kind, float(price)))
        else:
            text.problem("prices", f"'{price[:40]}' is no price", "like c5.large=0.085")
    return tuple(prices)


def _tags(text: _Text) -> tuple[tuple[str, str], ...]:
    tags = text.pairs("tags")
    for key, value in tags:
        if key.startswith(("epu:", "aws:")):
            text.problem("tags", f"'{key}' is not yours to set", "choose another name")
        elif not _TAG_KEY.match(key):
            text.problem("tags", f"'{key[:40]}' can't be a key", "letters, digits, +-=.,_:@")
        elif len(value) > 256:
            text.problem("tags", f"the value of '{key}' is longer than 256 characters", "")
    return tuple(sorted(tags))


def _ports(text: _Text) -> tuple[int, ...]:
    ports = []
    written = text.items("ports") or ["22"]
    for port in written if written != ["none"] else []:
        if not port.isdigit() or not 0 < int(port) < 65_536:
            text.problem("ports", f"'{port[:40]}' is no port", "numbers with commas, or none")
        else:
            ports.append(int(port))
    return tuple(ports)


class _Text:
    """Values as people write them; what is wrong is collected."""

    def __init__(self, given: Mapping[str, str], environment: Mapping[str, str]) -> None:
        self.given = {key: str(value).strip() for key, value in given.items()}
        self._environment = environment
        self._problems: list[Problem] = []

    def problem(self, key: str, what: str, remedy: str) -> None:
        self._problems.append(Problem(key=key, what=what, remedy=remedy))

    def raise_problems(self) -> None:
        if self._problems:
            raise ConfigProblem(self._problems)

    def refuse_unknown(self, known: frozenset[str]) -> None:
        for key in sorted(self.given.keys() - known):
            self.problem(key, "unknown key", did_you_mean(key, known))

    def plain(self, key: str, default: str = "") -> str:
        value = self.given.get(key, default)
        variable = _ENVIRONMENT.match(value)
        if variable is None:
            return value
        if variable[1] not in self._environment:
            self.problem(key, f"the environment has no {variable[1]}", "export it first")
            return default
        return self._environment[variable[1]]

    def word(self, key: str) -> str:
        value = self.plain(key)
        if value and not _WORD.match(value):
            self.problem(key, f"'{value[:40]}' is no word", "letters, digits, . _ -")
            return ""
        return value

    def matching(self, key: str, pattern: str, remedy: str) -> str:
        value = self.plain(key)
        if value and not re.fullmatch(pattern, value):
            self.problem(key, f"'{value[:40]}' is not understood", remedy)
            return ""
        return value

    def one_of(self, key: str, words: Sequence[str], default: str) -> str:
        value = self.plain(key) or default
        if value not in words:
            self.problem(key, f"unknown '{value[:40]}'", did_you_mean(value, words))
            return default
        return value

    def flag(self, key: str) -> bool:
        value = self.plain(key).lower()
        if value not in ("", "true", "false"):
            self.problem(key, f"must be true or false, not '{value[:40]}'", "")
        return value == "true"

    def number(
        self, key: str, default: float, low: float, high: float, whole: bool = False
    ) -> float:
        value = self.plain(key)
        if not value:
            return default
        read: Callable[[str], float] = int if whole else float
        try:
            number = read(value)
        except ValueError:
            number = float("nan")
        if not low <= number <= high:
            kind = "a whole number" if whole else "a number"
            self.problem(key, f"must be {kind} from {low:g} to {high:g}, not '{value[:40]}'", "")
            return default
        return number

    def items(self, key: str) -> list[str]:
        """A list: JSON, or separated by commas."""
        value = self.plain(key)
        if not value.startswith("["):
            return [item.strip() for item in value.split(",") if item.strip()]
        items = self._json(key)
        if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
            self.problem(key, "is not a JSON list of texts", 'like ["a", "b"], or: a, b')
            return []
        return items

    def pairs(self, key: str) -> list[tuple[str, str]]:
        """Names and values: a JSON object, or ``name=value`` separated by commas."""
        value = self.plain(key)
        if value.startswith("{"):
            found = self._json(key)
            if isinstance(found, dict):
                return [(str(name), str(text)) for name, text in found.items()]
            self.problem(key, "is not a JSON object", 'like {"name": "value"}, or: name=value')
            return []
        pairs = [item.partition("=") for item in self.items(key)]
        for name, equals, _ in pairs:
            if not equals:
                self.problem(key, f"'{name[:40]}' has no value", "write name=value")
        return [(name.strip(), text.strip()) for name, equals, text in pairs if equals]

    def _json(self, key: str) -> Any:
        try:
            return json.loads(self.plain(key))
        except ValueError:
            return None
