"""The composition root: which parts each process of the coordinator is made of.

Read top to bottom. Nothing else in the coordinator constructs another component's parts;
libraries that only one process needs are loaded by that process alone.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from agent.keepers import KeeperCalls
from agent.messages import BrokerAccess
from coordinator.config import CoordinatorConfig, cloud_directory, read_token_key
from coordinator.errors import ConfigProblem

if TYPE_CHECKING:
    from coordinator.controller.keeper import Keeper
    from coordinator.provisioner.cloud_calls import InParallel
    from coordinator.provisioner.cloud_process import CloudProcess
    from coordinator.provisioner.provisioner import Provisioner
    from coordinator.registrar.enrolment import Registrar
    from coordinator.sensors.aggregator import Aggregator, Publisher

Call = Callable[..., Any]


def steady_clock(
    wall: Callable[[], float] = time.time, passed: Callable[[], float] = time.monotonic
) -> Callable[[], float]:
    """Seconds since the epoch that nobody can step: the wall's time now, plus what passes.

    Deadlines, ages and intervals of one process are measured with it: an hour that an
    administrator or NTP puts in or takes out ends no drain and stops no listing. What is
    read from a store after a restart is as right as the system's clock then is. Events
    keep wall time: people lay them beside the log files of other programs.
    """
    began = wall() - passed()
    return lambda: began + passed()


def build_aggregator(
    config: CoordinatorConfig, access: BrokerAccess, publisher: Publisher, call: Call
) -> Aggregator:
    """The sensors process: short histories in memory, no store."""
    from coordinator.sensors.aggregator import Aggregator
    from coordinator.sensors.deliveries import DeliverySensor
    from coordinator.sensors.queue_length import QueueLengthSensor

    return Aggregator(
        access,
        publisher,
        QueueLengthSensor(access, time.monotonic),
        call,
        loopback_interval=config.loopback_interval,
        grace=config.blindness_grace,
        deliveries=DeliverySensor(access, time.monotonic),
        poll_interval=config.queue_poll_interval,
    )


def build_registrar(config: CoordinatorConfig, access: BrokerAccess, call: Call) -> Registrar:
    """The registrar process: tokens, nonces, broker accounts."""
    from coordinator.events import EventLog
    from coordinator.registrar.broker_accounts import BrokerAccounts
    from coordinator.registrar.enrolment import Registrar
    from coordinator.registrar.records import Enrolments
    from coordinator.store.session import open_store

    store = open_store(config.store_path("registrar"))
    return Registrar(
        config.run,
        access,
        read_token_key(config),
        Enrolments(store),
        BrokerAccounts(access, config.run),
        EventLog(store, "registrar", config.run, time.time),
        KeeperCalls(call).call,
        steady_clock(),
    )


def build_keeper(
    config: CoordinatorConfig,
    call: Call,
    in_background: Callable[[Callable[[], None]], object],
    beside: Callable[[Callable[[], None]], object],
) -> Keeper:
    """The controller process: pools, engines, decisions."""
    from coordinator.controller.keeper import Keeper
    from coordinator.controller.records import PoolRecords
    from coordinator.controller.sources import sources_of
    from coordinator.events import EventLog
    from coordinator.store.session import open_store

    store = open_store(config.store_path(config.controller_name))
    clock = steady_clock()
    return Keeper(
        config,
        PoolRecords(store),
        EventLog(store, config.controller_name, config.run, time.time),
        call,
        clock,
        lambda prefix: f"{prefix}-{uuid.uuid4().hex[:10]}",
        in_background,
        beside,
        sources_of(config, clock),
    )


def open_cloud(
    config: CoordinatorConfig, name: str, broker_host: str
) -> tuple[CloudProcess, dict[str, str]]:
    """A cloud's driver, and how its machines come by their agent, for the templates.

    ``broker_host`` is the broker's address here: a loopback address is another one on
    machines of some clouds.
    Raises ConfigProblem, RetryLater.
    """
    from coordinator.clouds.agent_settings import (
        CLOUD_INIT,
        check_form,
        is_loopback,
        split_settings,
        with_our_keys,
    )
    from coordinator.provisioner.cloud_process import CloudProcess

    settings, key = config.clouds[name], f"clouds.{name}"
    theirs, agents = split_settings(settings, key)
    try:
        directory = cloud_directory(config.state_dir, name)
        cloud = CloudProcess(name, theirs, directory, {"launch": config.launch_deadline})
    except ConfigProblem as problem:
        raise with_our_keys(problem) from None
    check_form(settings, cloud.user_data_form, key)
    if cloud.user_data_form != CLOUD_INIT:
        return cloud, {}
    here = {"broker_host": cloud.loopback_address} if is_loopback(broker_host) else {}
    return cloud, {**here, **agents.variables()}


def build_provisioner(
    config: CoordinatorConfig, access: BrokerAccess, call: Call, in_parallel: InParallel
) -> Provisioner:
    """The provisioner process: instance records, and one process per cloud's driver."""
    from agent.wire import to_wire
    from coordinator.events import EventLog
    from coordinator.provisioner.launcher import Launcher
    from coordinator.provisioner.provisioner import Provisioner
    from coordinator.store.session import open_store
    from userdata_templates.render import render

    enrol_only = replace(access, accounts={"enrol": access.accounts["enrol"]}, management_url=None)
    opened = {name: open_cloud(config, name, access.host) for name in config.clouds}
    launcher = Launcher(
        config.run,
        read_token_key(config),
        to_wire(enrol_only),
        render,
        {name: agents for name, (_, agents) in opened.items()},
    )
    store = open_store(config.store_path("provisioner"))
    return Provisioner(
        store,
        {name: cloud for name, (cloud, _) in opened.items()},
        EventLog(store, "provisioner", config.run, time.time),
        config,
        launcher,
        call,
        steady_clock(),
        in_parallel,
    )
