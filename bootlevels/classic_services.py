"""From what holds for one classic service to its frozen value."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from bootlevels.attributes import MalformedReference
from bootlevels.classic_ini import Entry, Findings
from bootlevels.classic_keys import PROGRAMS, Settings, environment_name
from bootlevels.classic_text import attribute_text, program_words
from bootlevels.plan import (
    CheckKind,
    MachineRequest,
    Program,
    ReadyCheck,
    ServiceKind,
    ServiceSpec,
    SshAccess,
    TransportKind,
)
from bootlevels.plan_values import at_host

#: Seconds between the two runs that a ready program had, and has.
READY_INTERVAL = 1.0
READY_TRIES = 2

#: The driver's name of each key that describes a machine.
_MACHINE_KEYS = {
    "image": "image",
    "allocation": "type",
    "sshkeyname": "key_name",
    "securitygroups": "security_groups",
}
#: Settings that other services could ask for by these names, as attributes of the service.
ASKABLE = {
    "image": "image",
    "iaas": "iaas",
    "iaas_url": "iaas_url",
    "iaas_key": "iaas_key",
    "iaas_secret": "iaas_secret",
    "allocation": "allocation",
    "keyname": "sshkeyname",
    "sshkeyname": "sshkeyname",
    "localkey": "localsshkeypath",
    "localsshkeypath": "localsshkeypath",
    "username": "ssh_username",
    "ssh_username": "ssh_username",
    "scp_username": "scp_username",
    "securitygroups": "securitygroups",
    "pgm_timeout": "pgm_timeout",
}


@dataclass
class ServiceReading:
    """One service as read: its value, where each of its keys stands, what may be asked for.

    ``written``: its name in the plan, without a replica's number.
    ``places``: by the key that problems have below ``services.<name>.``. ``askable``:
    texts that become attributes only when somebody refers to them.
    """

    spec: ServiceSpec
    written: str
    place: str
    places: dict[str, str]
    askable: dict[str, str]


@dataclass
class ServiceReader:
    """Reads the services of one level file.

    ``directory``: of the level file, absolute. ``shown``: how people know a path.
    ``cloud_of``: gives the cloud's name for a machine, and whether it was remapped.
    """

    directory: str
    shown: Callable[[str], str]
    cloud_of: Callable[[str, Settings], tuple[str, bool]]
    found: Findings
    _files: dict[str, bool] = field(default_factory=dict)

    def read(self, name: str, settings: Settings, deps: dict[str, Entry]) -> ServiceReading:
        """Service ``name``; what is wrong with it goes into ``found``."""
        attributes, places = self._attributes(deps)
        timeout = settings.timeout()
        programs: dict[str, Program] = {}
        for key in PROGRAMS:
            program = self._program(key, settings, timeout, places)
            if program is not None:
                programs[key] = program
                variable = environment_name(settings.written(f"{key}_args"))
                if variable is not None:
                    attributes[f"{key}_args"] = f"env:{variable}"
        ready: tuple[ReadyCheck, ...] = ()
        if "readypgm" in programs:
            ready = (
                ReadyCheck(
                    kind=CheckKind.RUN,
                    program=programs["readypgm"],
                    interval=READY_INTERVAL,
                    timeout=timeout,
                    tries=READY_TRIES,
                ),
            )
        bootconf = self._file("bootconf", settings)
        spec = ServiceSpec(
            name=name,
            kind=ServiceKind.ATTRIBUTES,
            attributes=attributes,
            boot=programs.get("bootpgm"),
            ready=ready,
            terminate=programs.get("terminatepgm"),
            bootconf=bootconf,
        )
        spec = self._placed(spec, settings, timeout)
        places.update(
            {
                "boot": settings.place("bootpgm"),
                "ready[0]": settings.place("readypgm"),
                "terminate": settings.place("terminatepgm"),
                "bootconf": settings.place("bootconf"),
                "machine": settings.place("image"),
                "cloud": settings.place("cloud", "iaas"),
                "host": settings.place("hostname"),
                "on": settings.place("hostname"),
                "ssh": settings.place("localsshkeypath", "ssh_username"),
                "ssh.key": settings.place("localsshkeypath"),
                "transport": settings.place("local_exe", "hostname"),
            }
        )
        return ServiceReading(
            spec=spec,
            written=name,
            place=settings.section.place,
            places=places,
            askable=self._askable(settings),
        )

    # ---------------------------------------------------------------- texts

    def text(self, value: str, place: str, key: str) -> str:
        """``value`` with our references, or the variable it is as a whole."""
        variable = environment_name(value)
        if variable is not None:
            return f"env:{variable}"
        complaints: list[str] = []
        try:
            text = attribute_text(value, complaints)
        except MalformedReference as malformed:
            self.found.problem(place, str(malformed), key=key)
            return ""
        self._complain(complaints, place, key)
        return text

    def _complain(self, complaints: list[str], place: str, key: str) -> None:
        for complaint in complaints:
            remedy = "${.name} is an attribute of the service itself"
            self.found.warning(place, complaint, key=key, remedy=remedy)

    def _attributes(self, deps: dict[str, Entry]) -> tuple[dict[str, str], dict[str, str]]:
        attributes = {name: self.text(e.value, e.place, name) for name, e in deps.items()}
        return attributes, {f"attributes.{name}": entry.place for name, entry in deps.items()}

    def _askable(self, settings: Settings) -> dict[str, str]:
        asked = {}
        for name, key in ASKABLE.items():
            value = settings.written(key)
            if value:
                variable = environment_name(value)
                asked[name] = f"env:{variable}" if variable else _as_text(value)
        return asked

    # ---------------------------------------------------------------- programs and files

    def _program(
        self, key: str, settings: Settings, timeout: float, places: dict[str, str]
    ) -> Program | None:
        path = self._file(key, settings)
        if not path:
            return None
        arguments = f"{key}_args"
        part = {"bootpgm": "boot", "readypgm": "ready[0]", "terminatepgm": "terminate"}[key]
        places[f"{part}.run"] = settings.place(arguments, key)
        complaints: list[str] = []
        words: tuple[str, ...] = ()
        if environment_name(settings.written(arguments)):
            words = (f"${{.{arguments}}}",)  # may be a secret: it stays a name, and one word
        else:
            try:
                words = program_words(settings.written(arguments), complaints)
            except MalformedReference as malformed:
                settings.problem(arguments, str(malformed))
            except ValueError as error:
                settings.problem(arguments, f"can't be split into words: {error}")
        self._complain(complaints, settings.place(arguments), arguments)
        return Program(words=(_as_text(path), *words), timeout=timeout, staged=True)

    def _file(self, key: str, settings: Settings) -> str:
        """The absolute path of the file that ``key`` names; "" when there is none."""
        path = settings.path(key, self.directory)
        if not path:
            return ""
        if path not in self._files:
            self._files[path] = os.path.isfile(path)
        if not self._files[path]:
            kind = "is a directory" if os.path.isdir(path) else "there is no such file"
            shown = self.shown(path)
            settings.problem(key, f"{kind}: '{shown}'", "paths are taken from the level file")
            return ""
        return path

    # ---------------------------------------------------------------- places

    def _placed(self, spec: ServiceSpec, settings: Settings, timeout: float) -> ServiceSpec:
        """``spec`` where its keys put it."""
        local = settings.flag("local_exe") or False
        if self._is_launched(settings, local):
            cloud, remapped = self.cloud_of(spec.name, settings)
            settings.remapped = remapped
            by_ssh = not (local or remapped)
            machine = MachineRequest(
                cloud=cloud,
                settings=_present({name: settings.now(k) for k, name in _MACHINE_KEYS.items()}),
                timeout=timeout,
            )
            return replace(
                spec,
                kind=ServiceKind.MACHINE,
                machine=machine,
                ssh=self._ssh(settings, by_ssh),
                transport=TransportKind.LOCAL if local else None,
            )
        return self._without_machine(spec, settings, local)

    def _is_launched(self, settings: Settings, local: bool) -> bool:
        """Whether the service gets a machine of its own."""
        wanted = settings.flag("iaas_launch")
        image, host = settings.rank("image"), settings.rank("hostname")
        if wanted is None:
            # Who says hostname wants no machine, unless that was said further away.
            wanted = image is not None and (host is None or image > host)
        if wanted and image is None:
            settings.problem("iaas_launch", "there is no image to launch", "give it an image")
            return False
        return wanted

    def _without_machine(self, spec: ServiceSpec, settings: Settings, local: bool) -> ServiceSpec:
        host = self.text(settings.now("hostname"), settings.place("hostname"), "hostname")
        if local:
            kind = ServiceKind.LOCAL if spec.programs else ServiceKind.ATTRIBUTES
            attributes = dict(spec.attributes)
            if host and (host != "localhost" or kind is ServiceKind.ATTRIBUTES):
                attributes = {**attributes, "hostname": host}
            return replace(spec, kind=kind, attributes=attributes)
        if host:
            placed = at_host(spec, host)
            ssh = self._ssh(
                settings, by_ssh=placed.kind is ServiceKind.HOST and bool(spec.programs)
            )
            return replace(placed, ssh=ssh)
        for key in PROGRAMS:
            if settings.written(key):
                what = "there is no place to run it"
                remedy = "give the service an image, a hostname, or local_exe: true"
                settings.problem(key, what, remedy)
        return replace(spec, boot=None, ready=(), terminate=None)

    def _ssh(self, settings: Settings, by_ssh: bool) -> SshAccess:
        """How the machine is reached; its key must exist only where ssh is really used."""
        if by_ssh:
            key = self._file("localsshkeypath", settings)
        else:  # an old key that is no more is not needed then
            key = settings.path("localsshkeypath", self.directory)
            key = key if os.path.isfile(key) else ""
        return SshAccess(
            user=_as_text(settings.now("ssh_username")),
            scp_user=_as_text(settings.now("scp_username")),
            key=key,
        )


def _as_text(value: str) -> str:
    """``value`` as a text without references."""
    return value.replace("${", "$${")


def _present(texts: dict[str, str]) -> dict[str, str]:
    return {name: text for name, text in texts.items() if text}
