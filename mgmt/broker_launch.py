"""Finding RabbitMQ on this machine and starting its Erlang machine, detached.

The Debian wrapper in ``/usr/sbin`` changes user and directory; the script behind it is
used instead, with every path set. No epmd takes part: the node is given its distribution
port on the command line (``-erl_epmd_port``), so nothing needs to be looked up. RabbitMQ
nevertheless looks after epmd once a minute by starting ``erl -sname epmd-starter-…``;
``_HELPER_FLAGS`` make that a short-lived process that starts and opens nothing.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
from pathlib import Path

from mgmt.broker_certificates import AUTHORITY, CERTIFICATE, KEY
from mgmt.broker_files import DISK_RESERVE, LOOPBACK, BrokerFiles, NodeIdentity
from mgmt.broker_processes import MARK_VARIABLE

#: Names another ``rabbitmq-server`` script, e.g. of the generic-unix archive.
SCRIPT_VARIABLE = "EPU_RABBITMQ_SERVER"
#: Where Debian puts the real script; /usr/sbin is not in an ordinary user's PATH.
_PLACES = ("/usr/lib/rabbitmq/bin", "/usr/sbin", "/usr/local/sbin")
_PLUGINS = "[rabbitmq_management,rabbitmq_event_exchange].\n"
#: Erlang reserves memory for every file it might open, so neither 1024 nor "unlimited".
_OPEN_FILES = 65_536
#: Two schedulers and few helpers: a run's broker is small, and the machine is shared.
_SMALL_MACHINE = "+S 2:2 +SDcpu 1:1 +SDio 2 +A 2"
#: Put after the words of every ``erl`` below the node, and of the node itself, which says
#: the contrary before; the first of two contrary flags counts.
_HELPER_FLAGS = "-start_epmd false -dist_listen false"

#: Starts ``$@`` in the background and says its pid. The RabbitMQ scripts ``exec`` all the
#: way, so the pid is the Erlang machine's. Our own words only; nothing of a user's is parsed.
_DETACH = 'umask 077; ulimit -n "$1"; log=$2; shift 2; "$@" </dev/null >>"$log" 2>&1 & echo $!'


def server_script(search: str | None = None) -> Path | None:
    """The real ``rabbitmq-server`` script, or None when RabbitMQ is not installed.

    ``search``: directories as in PATH, used before Debian's own.
    """
    named = os.environ.get(SCRIPT_VARIABLE)
    if named:
        return Path(named) if os.access(named, os.X_OK) else None
    places = os.pathsep.join([search or os.environ.get("PATH", os.defpath), *_PLACES])
    found = shutil.which("rabbitmq-server", path=places)
    if found is None:
        return None
    real = Path(found).resolve()
    # Debian's wrapper is one script under many names, beside the real ones.
    return real.parent / "rabbitmq-server" if real.name == "rabbitmq-script-wrapper" else real


#: Seconds between two looks of the node at its own queues. The management plugin takes
#: them over at the shortest interval of its retention policies (5 s unless set), so both
#: must be set for a queue length that is no older than this.
STATISTICS_INTERVAL = 1.0


def config_text(files: BrokerFiles, identity: NodeIdentity) -> str:
    """``rabbitmq.conf`` of a node that listens on one address only."""
    return f"""\
# Made by `epu broker start` at each start; changes are lost.
{_listeners(files, identity)}\
load_definitions = {files.definitions}
collect_statistics_interval = {int(STATISTICS_INTERVAL * 1000)}
management.sample_retention_policies.global.minute = {int(STATISTICS_INTERVAL)}
management.sample_retention_policies.basic.minute = {int(STATISTICS_INTERVAL)}
management.sample_retention_policies.detailed.10 = {int(STATISTICS_INTERVAL)}
event_exchange.vhost = {identity.vhost}
disk_free_limit.absolute = {DISK_RESERVE}
log.console = false
log.file.level = info
log.file.rotation.size = 5242880
log.file.rotation.count = 3
"""


def _listeners(files: BrokerFiles, identity: NodeIdentity) -> str:
    ports = identity.ports
    if not identity.tls:
        return f"""\
listeners.tcp.local = {identity.host}:{ports.amqp}
management.tcp.ip = {identity.host}
management.tcp.port = {ports.management}
"""
    lines = [
        "listeners.tcp = none",
        f"listeners.ssl.local = {identity.host}:{ports.amqp}",
        f"management.ssl.ip = {identity.host}",
        f"management.ssl.port = {ports.management}",
    ]
    for section in ("ssl_options", "management.ssl"):
        lines += [
            f"{section}.cacertfile = {files.tls / AUTHORITY}",
            f"{section}.certfile = {files.tls / CERTIFICATE}",
            f"{section}.keyfile = {files.tls / KEY}",
            f"{section}.versions.1 = tlsv1.3",
            f"{section}.versions.2 = tlsv1.2",
        ]
    # Clients are known by their accounts.
    lines += ["ssl_options.verify = verify_none", "ssl_options.fail_if_no_peer_cert = false"]
    return "\n".join([*lines, ""])


def node_environment(files: BrokerFiles, identity: NodeIdentity) -> dict[str, str]:
    """The whole environment of the node: nothing of ours leaks in, no RABBITMQ_* of others."""
    kept = {key: os.environ[key] for key in ("PATH", "LANG", "LC_ALL", "TZ") if key in os.environ}
    kept.setdefault("PATH", os.defpath)
    machine = (
        f"{_SMALL_MACHINE} -sname {identity.name} -start_epmd false -dist_listen true"
        f" -erl_epmd_port {identity.ports.distribution}"
        f" -kernel inet_dist_use_interface {{127,0,0,1}}"
        f" -kernel inet_dist_listen_min {identity.ports.distribution}"
        f" -kernel inet_dist_listen_max {identity.ports.distribution}"
    )
    return {
        **kept,
        MARK_VARIABLE: identity.mark,
        "HOME": str(files.home),
        # Makes the script exec Erlang rather than stay as its parent.
        "RUNNING_UNDER_SYSTEMD": "true",
        "RABBITMQ_NODENAME": identity.name,
        "RABBITMQ_CONF_ENV_FILE": str(files.directory / "no-rabbitmq-env.conf"),
        "RABBITMQ_CONFIG_FILE": str(files.config),
        "RABBITMQ_ADVANCED_CONFIG_FILE": str(files.directory / "advanced.config"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(files.plugins),
        "RABBITMQ_MNESIA_BASE": str(files.data),
        "RABBITMQ_MNESIA_DIR": str(files.data / "node"),
        "RABBITMQ_LOG_BASE": str(files.logs),
        "RABBITMQ_LOGS": str(files.log),
        "RABBITMQ_PID_FILE": str(files.data / "pid"),
        "RABBITMQ_DIST_PORT": str(identity.ports.distribution),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": machine,
        # Unbound: several brokers and the coordinator share the processors.
        "RABBITMQ_SCHEDULER_BIND_TYPE": "u",
        "ERL_ZFLAGS": _HELPER_FLAGS,
        # Only if something starts an epmd after all: it would keep to loopback.
        "ERL_EPMD_ADDRESS": LOOPBACK,
        "ERL_CRASH_DUMP": str(files.logs / "erl_crash.dump"),
        "ERL_CRASH_DUMP_BYTES": "10485760",
    }


def launch(script: Path, files: BrokerFiles, identity: NodeIdentity) -> None:
    """Start the node in a session of its own, holding none of the caller's files.

    Returns at once: the node is then found by its mark. Raises OSError.
    """
    files.plugins.write_text(_PLUGINS)
    files.config.write_text(config_text(files, identity))
    words = ["/bin/sh", "-c", _DETACH, "epu-broker", str(_open_files()), str(files.startup_log)]
    subprocess.run(
        [*words, str(script)],
        env=node_environment(files, identity),
        cwd=files.directory,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        check=True,
        timeout=10,
    )


def _open_files() -> int:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _OPEN_FILES)
