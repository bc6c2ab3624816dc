"""What several commands share: the engine that the arguments describe, its record, and how an answer is printed."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import evolve

from mailtlspolicy.config import Config, Sts
from mailtlspolicy.engine import Engine, keep_order
from mailtlspolicy.sts.effects import StoreFailure
from mailtlspolicy.world.recording import Recorder
from mailtlspolicy.world.world import World

if TYPE_CHECKING:
    from argparse import Namespace

    from mailtlspolicy.adapters.dns import DnsResolver
    from mailtlspolicy.adapters.sqlite import SqliteStore
    from mailtlspolicy.world.world import WorldEngine

# The adapters are imported where they are made: over a world there is neither a socket nor, mostly, a database.


def engine_of(arguments: Namespace, *, connects: bool = False) -> Engine:
    """The engine over a world or over the network; there it has a connector where the command connects."""
    return _live_engine(arguments, connects=connects) if arguments.world is None else world_engine(arguments)


def world_engine(arguments: Namespace) -> WorldEngine:
    """The engine over a world; policies that the world has cached go into the store, where one is named."""
    config = _config_of(arguments)
    if arguments.resolver is not None:
        raise ValueError("--world and --resolver exclude each other")
    world = World.tour() if arguments.world == "tour" else World.load(arguments.world)
    engine = world.engine(config)
    if arguments.store is None:
        return engine
    store = _open_store(arguments, arguments.store)
    for domain, entry in world.cache.items():
        if store.load(domain) is None:
            store.store(domain, entry)
    return evolve(engine, store=store)


def resolver_of(arguments: Namespace) -> DnsResolver:
    """The resolver that is named, or the system's."""
    from mailtlspolicy.adapters.dns import DnsResolver  # noqa: PLC0415

    trust_ad = arguments.trust_ad or None
    if arguments.resolver is None:
        return DnsResolver.from_system(trust_ad=trust_ad)
    return DnsResolver(nameservers=[arguments.resolver], trust_ad=trust_ad)


def recorded_engine(arguments: Namespace, *, connects: bool = False) -> tuple[Engine, Recorder]:
    """The engine, its injected parts wrapped to be written down, at one time for the whole run."""
    engine = engine_of(arguments, connects=connects)
    recorder = Recorder(engine.resolver, engine.fetcher, engine.store, engine.connector, engine.trust)
    now = engine.clock()
    recorded = evolve(
        engine,
        resolver=recorder,
        fetcher=recorder,
        store=recorder,
        connector=None if engine.connector is None else recorder,
        clock=lambda: now,
    )
    return recorded, recorder


def write_record(arguments: Namespace, engine: Engine, recorder: Recorder) -> None:
    """Write what was seen as a world that replays, where --record wants it."""
    if arguments.record is None:
        return
    try:
        world = recorder.to_world(engine.clock())
    except ValueError as error:  # of the resolver's or the store's making: the plan stands
        _warn(f"nothing was recorded: {error}")
        return
    arguments.record.write_text(json.dumps(world, indent=1) + "\n", "utf-8")


def print_answer(arguments: Namespace, data: dict[str, Any] | None, text: str) -> None:
    """Print an answer: the data where --json wants it, else the text."""
    print(json.dumps(data, indent=1) if arguments.json else text)


def _live_engine(arguments: Namespace, *, connects: bool) -> Engine:
    from mailtlspolicy.adapters.https import HttpsFetcher  # noqa: PLC0415

    config = _config_of(arguments)
    resolver = resolver_of(arguments)
    if not resolver.trusted:
        _warn("the resolver is not on loopback: no answer counts as secure, and DANE never applies (see --trust-ad)")
    engine = Engine(
        resolver,
        fetcher=HttpsFetcher(resolver),
        store=None if config.sts is Sts.OFF else _open_store(arguments, arguments.store or _state_file()),
        shuffle=keep_order,
        config=config,
    )
    if not connects:
        return engine
    from mailtlspolicy.adapters.smtp import SmtpConnector  # noqa: PLC0415
    from mailtlspolicy.adapters.tls import system_trust_store  # noqa: PLC0415

    # made last and for a check alone: the connector asks the system for its name
    return evolve(engine, connector=SmtpConnector(), trust=system_trust_store())


def _config_of(arguments: Namespace) -> Config:
    pairs = [setting.partition("=") for setting in arguments.settings]
    if missing := [key for key, equals, _ in pairs if not equals]:
        raise ValueError(f"--set takes KEY=VALUE, not {missing[0]!r}")
    config = Config.from_settings({key: value for key, _, value in pairs})
    for warning in config.warnings:
        _warn(warning)
    return config


def _open_store(arguments: Namespace, path: Path) -> SqliteStore:
    """The policy store in a file, which has to be usable: a wrong path is misuse, not a decision."""
    from mailtlspolicy.adapters.sqlite import SqliteStore  # noqa: PLC0415

    store = SqliteStore(path)
    arguments.closing.callback(store.close)
    if isinstance(bad := store.load("example"), StoreFailure):
        raise ValueError(f"the policy store {path} can not be used: {bad.detail}")
    return store


def _state_file() -> Path:
    """Where policies are kept by default: in the user's state folder (XDG Base Directory Specification)."""
    base = Path(os.environ.get("XDG_STATE_HOME", ""))
    if not base.is_absolute():  # which the specification wants ignored
        try:
            base = Path.home() / ".local" / "state"
        except RuntimeError as error:
            raise ValueError("there is no home folder to keep policies in: give --store PATH") from error
    folder = base / "mailtlspolicy"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder / "policies.sqlite"


def _warn(text: str) -> None:
    print(f"mailtlspolicy: warning: {text}", file=sys.stderr)
