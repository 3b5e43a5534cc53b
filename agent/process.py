"""A nameko service as a process of its own: config, logging, signals, exit code."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import stat
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import eventlet
import yaml
from eventlet.event import Event as GreenEvent
from nameko.containers import ServiceContainer
from nameko.exceptions import BadRequest

from agent.broker_link import one_line
from agent.watchdog import HUNG_AFTER, stay_awake

log = logging.getLogger(__name__)


def read_config(path: Path) -> dict[str, Any]:
    """A nameko config file. Refuses one that other users can read: it holds a password."""
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        raise PermissionError(
            f"{path} can be read by other users (mode {mode:04o}); run: chmod 600 {path}"
        )
    found = yaml.safe_load(path.read_text())
    if not isinstance(found, dict) or "AMQP_URI" not in found:
        raise ValueError(f"{path} must hold AMQP_URI")
    return found


def run_service(service_class: type, config: dict[str, Any]) -> int:
    """Serve until SIGTERM or SIGINT; the exit code. Waits for the broker by itself.

    ``HUNG_AFTER`` in ``config``: seconds without a turn for its greenlets that end it.
    """
    eventlet.spawn_n(stay_awake, config.get("HUNG_AFTER", HUNG_AFTER))
    container = ServiceContainer(service_class, config)
    stopping = GreenEvent()

    def ask_to_stop(*_: object) -> None:
        eventlet.spawn_n(lambda: stopping.ready() or stopping.send(0))

    signal.signal(signal.SIGTERM, ask_to_stop)
    signal.signal(signal.SIGINT, ask_to_stop)

    def serve() -> None:
        code = 1
        try:
            container.start()
            log.info("serving %s", container.service_name)
            container.wait()
            code = 0
        except Exception:
            log.exception("%s ended", container.service_name)
        if not stopping.ready():
            stopping.send(code)

    eventlet.spawn(serve)
    code: int = stopping.wait()
    # A consumer that is waiting for a dead broker never stops by itself.
    with eventlet.Timeout(5, exception=False):
        container.stop()
    return code


def set_up_logging(level: str = "INFO") -> None:
    """Plain lines on stderr; nameko's and kombu's chatter only when it is a warning."""
    logging.basicConfig(
        stream=sys.stderr,
        level=level,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    for chatty in ("nameko", "kombu", "amqp", "urllib3"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    # It prints a traceback for every exception; bus.log_failure tells which deserve one.
    logging.getLogger("nameko.containers").setLevel(logging.CRITICAL)
    # It prints a traceback for every lost connection; we say it in a line.
    logging.getLogger("kombu.mixins").setLevel(logging.ERROR)


def log_failure(what: str, exc_info: Any) -> None:
    """One line for an error that speaks for itself, a traceback for a defect of ours."""
    problem = exc_info[1]
    if getattr(problem, "expected", False) or isinstance(problem, BadRequest):
        log.info("%s: %s: %s", what, type(problem).__name__, one_line(problem))
    else:
        log.error("%s failed", what, exc_info=exc_info)


def main(service_class: type | Callable[[Mapping[str, Any]], type]) -> None:
    """The command line of a service module: ``--config FILE``. Ends the process."""
    parser = argparse.ArgumentParser(description=f"Run {service_class.__name__}.")
    parser.add_argument("--config", type=Path, required=True, help="nameko config, mode 0600")
    options = parser.parse_args()
    set_up_logging(os.environ.get("EPU_LOG_LEVEL", "INFO"))
    try:
        config = read_config(options.config)
    except (OSError, ValueError, yaml.YAMLError) as problem:
        sys.exit(f"epu: {problem}")
    made = service_class if isinstance(service_class, type) else service_class(config)
    code = run_service(made, config)
    logging.shutdown()
    os._exit(code)  # no waiting for the threads of a broker that is gone
