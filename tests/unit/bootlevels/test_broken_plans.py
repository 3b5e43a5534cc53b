"""A corpus of slips that people make, with the sentence each must bring.

Each is a whole plan; ``service``, ``local`` and ``pool`` write the usual frame around it.
"""

from __future__ import annotations

import pytest

from bootlevels.plan_yaml import parse_plan
from coordinator.errors import ConfigProblem

TOP = "plan: p\n"
KEEPER = """\
levels:
  - services:
      keeper: {provides: [registrar], attributes: {accounts: a.json}}
  - services:
"""


def service(text: str, level: str = KEEPER) -> str:
    return f"{TOP}{level}      web: {text}\n"


def local(text: str) -> str:
    return service(f"{{local: true, {text}}}")


def pool(text: str) -> str:
    return service(f"{{pool: {{{text}}}}}")


def kept(text: str) -> str:
    """A plan whose pool ``web`` may be kept by the service ``base`` of a lower level."""
    keeper = "keeper: {provides: [registrar], attributes: {accounts: a.json}}"
    base = f"levels:\n  - services:\n      base: {text}\n      {keeper}\n"
    return f"{TOP}{base}  - services:\n      web: {{pool: {{}}}}\n"


#: what is written, the line and key of the problem, a part of the sentence (with remedy).
CORPUS: dict[str, tuple[str, str, str]] = {
    "no levels": ("plan: p", "f:1: levels", "is missing"),
    "no name": ("levels: [{services: {a: {}}}]", "f:1: plan", "is missing"),
    "no services": (
        f"{TOP}levels: [{{services: {{}}}}]",
        "f:2: levels[0].services",
        "not be empty",
    ),
    "levels not a list": (f"{TOP}levels: {{a: 1}}", "f:2: levels", "valid list"),
    "not a section": ("[plan]", "f:1", "a plan is a section of keys"),
    "bad plan name": ("plan: a b\nlevels: [{services: {a: {}}}]", "f:1: plan", "a name is letters"),
    "unknown top key": (
        f"{TOP}profile: {{}}\nlevels: [{{services: {{a: {{}}}}}}]",
        "f:2: profile",
        "did you mean 'profiles'?",
    ),
    "unknown service key": (service("{lcoal: true}"), "f:6: services.web.lcoal", "mean 'local'?"),
    "unknown program key": (
        local("boot: {run: 'true', timeot: 1s}"),
        "f:6: services.web.boot.timeot",
        "did you mean 'timeout'?",
    ),
    "unknown check key": (
        local("ready: [{tcp: 'a:1', intervall: 1s}]"),
        "f:6: services.web.ready[0].intervall",
        "did you mean 'interval'?",
    ),
    "machine without a cloud": (
        service("{template: coordinator}"),
        "f:6: services.web.cloud",
        "is missing (name one of the plan's clouds",
    ),
    "include": (f"{TOP}include: [x]\n{KEEPER}      a: {{}}", "f:2: include[0]", "no file 'x'"),
    "empty value": (local("boot: "), "f:6: services.web.boot", "has no value"),
    "empty service": (service(""), "f:6: services.web", "has no value"),
    "bad duration": (
        local("boot: {run: 'true', timeout: 10 minutes}"),
        "f:6: services.web.boot.timeout",
        "a duration like 30s",
    ),
    "zero time-out": (
        local("boot: {run: 'true'}, timeout: 0s"),
        "f:6: services.web.timeout",
        "longer than nothing",
    ),
    "open quote": (local('boot: {run: "sh \'x"}'), "f:6: services.web.boot.run", "into words"),
    "no program": (local("boot: {run: ''}"), "f:6: services.web.boot.run", "must name a program"),
    "missing program": (
        local("boot: {run: ./no-such.sh}"),
        "f:6: services.web.boot.run",
        "there is no program './no-such.sh'",
    ),
    "two kinds of check": (
        local("ready: [{tcp: 'a:1', file: x}]"),
        "f:6: services.web.ready[0]",
        "given: tcp, file",
    ),
    "no kind of check": (local("ready: [{}]"), "f:6: services.web.ready[0]", "given: none"),
    "boot without a place": (
        service("{boot: {run: 'true'}}"),
        "f:6: services.web.boot",
        "write local: true",
    ),
    "outputs of nothing": (
        service("{outputs: [x]}"),
        "f:6: services.web.outputs",
        "only a boot program gives outputs",
    ),
    "unknown role": (
        service("{provides: [regstrar]}"),
        "web.provides",
        "did you mean 'registrar'?",
    ),
    "second registrar": (
        service("{provides: [registrar], attributes: {accounts: a}}"),
        "web.provides",
        "another service provides the registrar too",
    ),
    "registrar without accounts": (
        service("{provides: [registrar]}", "levels:\n  - services:\n"),
        "f:4: services.web.provides",
        "'accounts'",
    ),
    "same name twice": (
        service("{}") + "      keeper: {}\n",
        "f:7: services.keeper",
        "name is used twice, see f:4",
    ),
    "key twice": (service("{local: true, local: false}"), "f:6: levels[1].services.web", "twice"),
    "unknown service": (
        local("boot: {run: 'true ${keper.name}'}"),
        "f:6: services.web.boot.run",
        "did you mean 'keeper'?",
    ),
    "unknown attribute": (
        local("boot: {run: 'true ${keeper.acounts}'}"),
        "f:6: services.web.boot.run",
        "did you mean 'accounts'?",
    ),
    "same level": (
        local("boot: {run: 'true ${other.name}'}") + "      other: {}\n",
        "f:6: services.web.boot.run",
        "is in the same level (move 'web' to a level above it)",
    ),
    "later level": (
        local("boot: {run: 'true ${other.name}'}") + "  - services:\n      other: {}\n",
        "f:6: services.web.boot.run",
        "is in level 3, which boots later",
    ),
    "unknown global": (
        local("boot: {run: 'true ${global.size}'}"),
        "f:6: services.web.boot.run",
        "give it with -g size=",
    ),
    "unknown built-in": (
        local("boot: {run: 'true ${run_nam}'}"),
        "f:6: services.web.boot.run",
        "did you mean 'run_name'?",
    ),
    "machine's built-in": (
        local("boot: {run: 'true ${keeper.private_ip}'}"),
        "f:6: services.web.boot.run",
        "it is not a machine",
    ),
    "own output too early": (
        local("outputs: [x], attributes: {y: '${.x}'}, boot: {run: 'true ${.y}'}"),
        "f:6: services.web.boot.run",
        "known only after the boot program ran",
    ),
    "circle": (
        service("{attributes: {a: '${.b}', b: '${web.a}'}}"),
        "f:6: services.web.attributes.a",
        "refers to itself: web.a → web.b → web.a",
    ),
    "circle of globals": (
        f"plan: p\nglobals: {{a: '${{global.a}}'}}\n{KEEPER}      web: {{}}",
        "f:2: globals.a",
        "refers to itself: global.a → global.a",
    ),
    "own attribute in a global": (
        f"plan: p\nglobals: {{a: '${{.x}}'}}\n{KEEPER}      web: {{}}",
        "f:2: globals.a",
        "not possible here",
    ),
    "open brace": (
        local("boot: {run: 'true ${keeper.name'}"),
        "f:6: services.web.boot.run",
        "no closing brace",
    ),
    "not a reference": (
        local("attributes: {a: '${x y}'}"),
        "f:6: services.web.attributes.a",
        "is not a reference",
    ),
    "attribute a list": (
        service("{attributes: {a: [1]}}"),
        "f:6: services.web.attributes.a",
        "must be a text or a number",
    ),
    "pool without coordinator": (
        service("{pool: {}}", "levels:\n  - services:\n"),
        "f:4: services.web.pool",
        "has provides: [registrar]",
    ),
    "pool with programs": (
        service("{pool: {}, boot: {run: 'true'}}"),
        "f:6: services.web",
        "a pool has no programs of its own",
    ),
    "verify without pool": (service("{verify: stable}"), "f:6: services.web.verify", "only pools"),
    "unknown pool key": (pool("progams: {}"), "f:6: services.web.pool.progams", "mean 'programs'?"),
    "unknown engine": (
        pool("engine: {type: n_preservng}"),
        "f:6: services.web.pool.engine.type",
        "did you mean 'n_preserving'?",
    ),
    "engine's key": (
        pool("engine: {type: n_preserving, preserv_n: 2}"),
        "f:6: services.web.pool.engine.preserv_n",
        "did you mean 'preserve_n'?",
    ),
    "pool bounds": (pool("min: 5, max: 2"), "f:6: services.web.pool", "min (5)"),
    "unknown driver": (
        f"{TOP}clouds: {{x: {{driver: proces}}}}\n{KEEPER}      web: {{}}",
        "f:2: clouds.x.driver",
        "did you mean 'process'?",
    ),
    "cloud without driver": (
        f"{TOP}clouds: {{x: {{region: y}}}}\n{KEEPER}      web: {{}}",
        "f:2: clouds.x.driver",
        "is missing",
    ),
    "pool on an unknown cloud": (
        f"{TOP}clouds: {{here: {{driver: in_memory}}}}\n{KEEPER}"
        "      web: {pool: {clouds: [her]}}",
        "f:7: services.web.pool.clouds",
        "did you mean 'here'?",
    ),
    "profile's service": (
        f"{TOP}profiles: {{x: {{services: {{wbe: {{}}}}}}}}\n{KEEPER}      web: {{}}",
        "f:2: profiles.x.services.wbe",
        "did you mean 'web'?",
    ),
    "profile's key": (
        f"{TOP}profiles: {{x: {{levels: []}}}}\n{KEEPER}      web: {{}}",
        "f:2: profiles.x.levels",
        "unknown key",
    ),
    "keeps what is no pool": (
        kept("{local: true, keeps: [wbe]}"),
        "f:4: services.base.keeps",
        "no pool 'wbe' (did you mean 'web'?)",
    ),
    "keeps a pool of its own level": (
        f"{TOP}{KEEPER}      base: {{local: true, keeps: [web]}}\n      web: {{pool: {{}}}}\n",
        "f:6: services.base.keeps",
        "the pool web is not in a higher level",
    ),
    "keeps a pool twice": (
        kept("{local: true, keeps: [web, web]}"),
        "f:4: services.base.keeps",
        "the pool web is kept twice",
    ),
    "keeps without a place": (
        kept("{keeps: [web]}"),
        "f:4: services.base.keeps",
        "nothing runs here that could keep pools (write local: true",
    ),
    "keeps and replicas": (
        kept("{local: true, keeps: [web], replicas: 2}"),
        "f:4: services.base.replicas",
        "two of them would keep the same pools",
    ),
    "keeps as an attribute": (
        kept("{local: true, keeps: [web], attributes: {keeps: a}}"),
        "f:4: services.base.attributes.keeps",
        "is made from the service's keeps:",
    ),
    "tab": ("plan: p\nlevels:\n\t- a", "f:3", "not YAML"),
}


@pytest.mark.parametrize("slip", CORPUS)
def test_a_slip_is_named_with_line_key_and_remedy(slip: str) -> None:
    text, place, sentence = CORPUS[slip]
    profile = "x" if slip.startswith("profile") else ""
    with pytest.raises(ConfigProblem) as found:
        parse_plan(text, file="f", directory="/", profile=profile)
    said = [str(problem) for problem in found.value.problems]
    assert [line for line in said if place in line and sentence in line], said
    assert len(said) == 1, said


def test_an_unknown_profile_and_an_unknown_given_global_are_named() -> None:
    with pytest.raises(ConfigProblem) as found:
        parse_plan(
            f"plan: p\nglobals: {{size: 1}}\nprofiles: {{big: {{}}}}\n{KEEPER}      web: {{}}",
            file="f",
            directory="/",
            profile="bg",
            given={"sise": "2"},
        )
    said = str(found.value)
    assert "unknown profile 'bg' (did you mean 'big'?)" in said
    assert "command line: sise: no such global in the plan (did you mean 'size'?)" in said


def test_of_two_profiles_the_later_is_laid_over_the_earlier() -> None:
    text = (
        "plan: p\nglobals: {size: 1, word: none}\n"
        "profiles: {big: {globals: {size: 9, word: big}}, odd: {globals: {word: odd}}}\n"
        f"{KEEPER}      web: {{}}"
    )

    def globals_with(profile: str) -> dict[str, str]:
        plan = parse_plan(text, file="f", directory="/", profile=profile)
        return {name: str(value) for name, value in plan.globals.items()}

    assert globals_with("big,odd") == {"size": "9", "word": "odd"}
    assert globals_with("odd, big") == {"size": "9", "word": "big"}
    for wrong in ("big,", ",", "big,of"):
        with pytest.raises(ConfigProblem, match="unknown profile"):
            globals_with(wrong)
