"""The ``libcloud`` cloud: machines of any provider that apache-libcloud knows."""

from __future__ import annotations

import inspect
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from coordinator.clouds.base import CloudInstance, LaunchRequest
from coordinator.clouds.libcloud_listing import as_instance, names_of, state_of
from coordinator.clouds.libcloud_record import LibcloudRecord
from coordinator.clouds.libcloud_terms import (
    MACHINE_KEYS,
    USER_DATA_WORDS,
    AskedMachine,
    LibcloudSettings,
    failure,
    json_object,
    machine_name,
    read_name,
    tags,
)
from coordinator.errors import (
    ConfigProblem,
    CredentialsRejected,
    EpuError,
    InsufficientCapacity,
    LaunchRefused,
    NotFound,
    Problem,
    RetryLater,
    did_you_mean,
)
from coordinator.settings import parse_settings

_LOCK_TIMEOUT = 60.0


class LibcloudCloud:
    """Machines of one account of one provider.

    Promises: at most one machine for each launch id and index, from any process of this
    host that uses the same state directory, for ever. Each intent is on record before the
    provider is asked; while the outcome of a call is unknown, the machine is looked for by
    its name, and asked for anew only when ``consistency_window`` passed and the listing
    does not show it. Where the provider takes an idempotency token (EC2) it gets one. A
    lost state directory is survived as far as the listing shows what was made.
    Assumes: names are kept and listings are complete after ``consistency_window`` seconds,
    which no provider promises: raise it where a provider is slower. Tags are set where the
    provider has them; without, pool and launch are known from the record only. Machines are
    made one by one, and user-data reaches them only where the provider takes it. Touches no
    machine without a name of ours or an entry in the record. Safe for threads.
    """

    #: Providers differ in which of a machine's names they tell it.
    machine_knows_id = False
    batches = False
    user_data_form = "cloud-init"

    def __init__(
        self,
        settings: LibcloudSettings,
        state_dir: Path,
        connect: Callable[[], Any] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """``connect`` makes libcloud's driver, once for each thread; tests give their own."""
        self.settings = settings
        self.consistency_window = settings.consistency_window
        self._connect = connect or _connector(settings)
        self._clock = clock
        self._record = LibcloudRecord(state_dir)
        self._own = threading.local()
        self._sizes: dict[str, Any] = {}

    @classmethod
    def from_settings(cls, settings: Mapping[str, str], state_dir: Path) -> LibcloudCloud:
        """The keys of LibcloudSettings, as text. Raises ConfigProblem."""
        return cls(parse_settings(LibcloudSettings, settings), state_dir)

    # -------------------------------------------------------------- the driver

    def launch(self, request: LaunchRequest) -> None:
        """Make what is not made yet of ``request``, one machine after the other."""
        wanted = self._wanted(request.settings)
        deadline = time.monotonic() + _LOCK_TIMEOUT
        with self._record.locked(request.launch_id, deadline):
            known = self._record.of_launch(request.launch_id)
            if any(one.run != request.run for one in known.values()):
                raise LaunchRefused(f"launch id {request.launch_id} was used by another run")
            open_ones = [
                index
                for index in range(request.count)
                if index not in known or not (known[index].cloud_id or known[index].ended)
            ]
            if not open_ones:
                return
            there = self._named()
            for index in open_ones:
                try:
                    self._make(request, index, wanted, known.get(index), there)
                except InsufficientCapacity as problem:
                    if not known and index == open_ones[0]:
                        raise
                    # Only before any machine was made may another cloud be asked.
                    raise RetryLater(f"no room for the rest of the launch: {problem}") from None

    def list_instances(
        self, run: str, launch_ids: Sequence[str] | None = None
    ) -> Sequence[CloudInstance]:
        """One listing of the account; what carries our name or is on record, of ``run``."""
        if launch_ids is not None and not launch_ids:
            return []
        nodes = self._ask(lambda driver: driver.list_nodes())
        known = self._record.of_run(run)
        by_name = {one.name: one for one in known}
        by_id = {one.cloud_id: one for one in known if one.cloud_id}
        found = []
        for node in nodes:
            instance = as_instance(node, run, by_name, by_id)
            if instance and (launch_ids is None or instance.launch_id in launch_ids):
                found.append(instance)
        return found

    def terminate(self, cloud_ids: Sequence[str]) -> None:
        """End these machines, each by a call of its own; all are tried before any error."""
        if not cloud_ids:
            return
        nodes = {str(node.id): node for node in self._ask(lambda driver: driver.list_nodes())}
        problems: list[EpuError] = []
        for cloud_id in dict.fromkeys(cloud_ids):
            asked = self._record.with_id(cloud_id)
            node = nodes.get(cloud_id)
            if asked is None and (node is None or read_name(names_of(node)) is None):
                continue  # gone, or none of ours
            try:
                if asked is not None:
                    self._record.write(replace(asked, ended=True))
                self._end(cloud_id, node)
            except CredentialsRejected:
                raise
            except EpuError as problem:
                problems.append(problem)
        if problems:
            raise RetryLater("; ".join(dict.fromkeys(str(problem) for problem in problems)))

    def console_output(self, cloud_id: str) -> str | None:
        """What the provider shows of the console, where it shows any."""
        if self._record.with_id(cloud_id) is None:
            return None

        def read(driver: Any) -> Any:
            ask = getattr(driver, "ex_get_console_output", None)
            return None if ask is None else ask(_stub(driver, cloud_id))

        try:
            said = self._ask(read)
        except NotFound:
            return None
        if isinstance(said, Mapping):
            said = said.get("output")
        if isinstance(said, bytes):
            said = said.decode(errors="replace")
        return said if isinstance(said, str) else None

    # -------------------------------------------------------------- one machine

    def _make(
        self,
        request: LaunchRequest,
        index: int,
        wanted: LibcloudSettings,
        before: AskedMachine | None,
        there: Mapping[str, Any],
    ) -> None:
        name = machine_name(request.run, request.launch_id, index)
        now = self._clock()
        asked = before or AskedMachine(
            name=name,
            run=request.run,
            pool=request.pool,
            launch_id=request.launch_id,
            number=index,
            asked_at=now,
        )
        if name in there:  # made by a call whose answer was lost, or for a record that was
            self._record.write(replace(asked, cloud_id=str(there[name].id)))
            return
        if before is not None and now - before.asked_at < self.consistency_window:
            raise RetryLater(f"whether {name} was made can't be seen yet")
        asked = replace(asked, asked_at=now)
        self._record.write(asked)
        try:
            node = self._ask(
                lambda driver: driver.create_node(**self._arguments(driver, request, name, wanted)),
                launching=True,
            )
        except (LaunchRefused, InsufficientCapacity, CredentialsRejected):
            if before is None:  # nothing was made, neither now nor by an earlier call
                self._record.forget(name)
            raise
        price = getattr(getattr(node, "size", None), "price", None) or None
        self._record.write(replace(asked, cloud_id=str(node.id), price=price))

    def _arguments(
        self, driver: Any, request: LaunchRequest, name: str, wanted: LibcloudSettings
    ) -> dict[str, Any]:
        """What ``create_node`` is called with. Raises LaunchRefused."""
        accepted = inspect.signature(driver.create_node).parameters
        open_ended = any(one.kind is one.VAR_KEYWORD for one in accepted.values())

        def first(*words: str) -> str:
            return next((word for word in words if word in accepted), "")

        given: dict[str, Any] = {"name": name, "size": self._size(driver, wanted.type)}
        given["image"] = _image(driver, wanted.image)
        if wanted.location:
            given["location"] = _one(driver.list_locations(), wanted.location, "location")
        if wanted.key_name:
            given[first("ex_keyname", "ex_key_name") or "ex_keyname"] = wanted.key_name
        if wanted.security_groups:
            groups = [group.strip() for group in wanted.security_groups.split(",")]
            given["ex_security_groups"] = groups
        if request.user_data:
            word = first(*USER_DATA_WORDS)
            if not word and not open_ended:
                what = f"provider {wanted.provider} has no way to give user-data to a machine"
                raise LaunchRefused(what)
            given[word or USER_DATA_WORDS[0]] = request.user_data
        if "ex_metadata" in accepted:
            given["ex_metadata"] = tags(
                request.run, request.pool, request.launch_id, int(name.rpartition("-")[2])
            )
        if "ex_clienttoken" in accepted:
            given["ex_clienttoken"] = name
        given |= json_object(wanted.options, "options")
        for word in given.keys() - accepted.keys():
            if not open_ended:
                remedy = did_you_mean(word, accepted)
                what = f"provider {wanted.provider} takes no '{word}'"
                raise LaunchRefused(f"{what} ({remedy})" if remedy else what)
        return given

    def _size(self, driver: Any, kind: str) -> Any:
        if kind not in self._sizes:
            self._sizes[kind] = _one(driver.list_sizes(), kind, "type")
        return self._sizes[kind]

    def check_machine(self, settings: Mapping[str, str]) -> None:
        """Raises LaunchRefused for settings that no machine can have. Asks nobody."""
        self._wanted(settings)

    def _wanted(self, own: Mapping[str, str]) -> LibcloudSettings:
        """The cloud's settings with a request's ``own`` over them. Raises LaunchRefused."""
        unknown = sorted(own.keys() - MACHINE_KEYS)
        if unknown:
            what = f"unknown key '{unknown[0]}'"
            raise LaunchRefused(f"{what} ({did_you_mean(unknown[0], MACHINE_KEYS)})")
        try:
            wanted = replace(self.settings, **own)  # type: ignore[arg-type]
        except ValueError as problem:
            raise LaunchRefused(str(problem)) from None
        for key in ("image", "type"):
            if not getattr(wanted, key):
                raise LaunchRefused(f"{key} is missing: give it to the cloud or the pool")
        return wanted

    def _named(self) -> dict[str, Any]:
        """Every node with a name of ours, ended ones included, by that name."""
        found = {}
        for node in self._ask(lambda driver: driver.list_nodes()):
            named = read_name(names_of(node))
            if named:
                found[named[0]] = node
        return found

    def _end(self, cloud_id: str, node: Any) -> None:
        if node is not None and state_of(node) == "terminated":
            return
        try:
            self._ask(lambda driver: driver.destroy_node(_stub(driver, cloud_id)))
        except NotFound:
            return  # gone, or not visible yet: then it is listed later, and ended then

    # -------------------------------------------------------------- libcloud

    def _ask(self, call: Callable[[Any], Any], launching: bool = False) -> Any:
        """``call`` with this thread's own driver. Raises our errors only."""
        try:
            if not hasattr(self._own, "driver"):
                self._own.driver = self._connect()
            return call(self._own.driver)
        except EpuError:
            raise
        except Exception as problem:
            # Some drivers keep a connection that is of no use after an error.
            if hasattr(self._own, "driver"):
                del self._own.driver
            status = getattr(problem, "http_code", None) or getattr(problem, "code", None)
            text = str(problem).strip() or type(problem).__name__
            for secret in (self.settings.secret_key, self.settings.access_key):
                text = text.replace(secret, "…") if secret else text
            number = status if isinstance(status, int) else None
            raise failure(type(problem).__name__, number, text[:500], launching) from None


def _connector(settings: LibcloudSettings) -> Callable[[], Any]:
    """A function that makes libcloud's driver. Raises ConfigProblem when it can't be had."""
    try:
        from libcloud.compute.providers import get_driver
        from libcloud.compute.types import Provider
    except ImportError:
        remedy = "pip install epu[libcloud]"
        what = "driver libcloud needs apache-libcloud, which is not installed"
        raise ConfigProblem([Problem(key="driver", what=what, remedy=remedy)]) from None
    names = {
        name.lower().replace("_", ""): value
        for name, value in vars(Provider).items()
        if name.isupper() and isinstance(value, str)
    }
    wanted = settings.provider.lower().replace("_", "").replace("-", "")
    try:
        kind = get_driver(names.get(wanted, settings.provider))
    except (AttributeError, ImportError):
        remedy = did_you_mean(wanted, names)
        what = f"unknown provider '{settings.provider}'"
        raise ConfigProblem([Problem(key="provider", what=what, remedy=remedy)]) from None
    positional, named = _constructor(settings, kind)
    return lambda: kind(*positional, **named)


def _constructor(settings: LibcloudSettings, kind: Any) -> tuple[list[str], dict[str, Any]]:
    """Arguments of a provider's class; the timeout only where it is known to be taken."""
    positional = [text for text in (settings.access_key, settings.secret_key) if text]
    named: dict[str, Any] = {}
    accepted = inspect.signature(kind.__init__).parameters
    if any(one.kind is one.VAR_KEYWORD for one in accepted.values()):
        named["timeout"] = settings.timeout
    if settings.region:
        named["region"] = settings.region
    if settings.endpoint:
        address = urlsplit(settings.endpoint)
        named |= {"host": address.hostname, "secure": address.scheme == "https"}
        if address.port:
            named["port"] = address.port
    return positional, named | json_object(settings.arguments, "arguments")


def _one(offered: Sequence[Any], wanted: str, what: str) -> Any:
    """What has this id or name. Raises LaunchRefused with the nearest."""
    for one in offered:
        if wanted in (str(one.id), one.name):
            return one
    remedy = did_you_mean(wanted, [str(one.id) for one in offered][:200])
    raise LaunchRefused(f"the provider has no {what} '{wanted}' ({remedy})")


def _image(driver: Any, image: str) -> Any:
    """An image by its id, without the listing of thousands that some providers have."""
    from libcloud.compute.base import NodeImage

    return NodeImage(id=image, name=image, driver=driver)


def _stub(driver: Any, cloud_id: str) -> Any:
    """A node as far as its end and its console need one: its id."""
    from libcloud.compute.base import Node
    from libcloud.compute.types import NodeState

    return Node(cloud_id, "", NodeState.UNKNOWN, [], [], driver)
