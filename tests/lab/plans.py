"""The plans of all scenarios through any resolvers, one after the other or at once."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from mailtlspolicy import AsyncEngine, Config, Engine
from mailtlspolicy.adapters.dns import AsyncDnsResolver, DnsResolver
from mailtlspolicy.adapters.https import HttpsFetcher
from mailtlspolicy.adapters.https_async import AsyncHttpsFetcher
from mailtlspolicy.dns.effects import FailureKind
from mailtlspolicy.engine import keep_order

if TYPE_CHECKING:
    from tests.lab.lab import Lab, World

    Json = dict[str, Any]

PATIENCE = 60.0  # seconds; all that is asked for has an answer, on a busy machine too
HERE = "loopback_is_own=false"  # all of the lab is on this machine
# Why the twelfth alias of a chain is an error: it is one too many for the resolver, which says SERVFAIL, or for us (for
# Unbound that depends on its cache);
# PowerDNS Recursor has data if it is not to validate, so that the error looks like that of bogus data.
REASONS_DIFFER = "alias-chain-12"


def without_time(plan: Json) -> Json:
    """A plan but for the end of its validity, which moves with the TTLs left in the resolver's cache."""
    return {key: value for key, value in plan.items() if key != "valid_until"}


def decided(plan: Json) -> Json:
    """A plan but for the end of its validity and the traces, which tell how lookups fail: resolvers differ there."""
    hosts = [{key: value for key, value in host.items() if key != "trace"} for host in plan["hosts"]]
    return {key: value for key, value in without_time(plan).items() if key != "trace"} | {"hosts": hosts}


def alike(plans: dict[str, Json]) -> dict[str, Json]:
    """The plans but for the reason of a failure that is not the same through all resolvers."""
    for host in plans[REASONS_DIFFER]["hosts"]:
        assert host["skip"]["failure"] in {FailureKind.SERVFAIL, FailureKind.LOOP, FailureKind.BOGUS}
        host["skip"].pop("failure")
    return plans


def settings(world: World) -> Config:
    """The settings of a scenario, all of whose hosts are on this machine."""
    return Config.from_settings(dict(setting.split("=") for setting in (HERE, *world.scenario.settings)))


def plan_all(lab: Lab, *nameservers: str) -> dict[str, Json]:
    """The plan of every scenario through these nameservers."""
    resolver = DnsResolver(nameservers=nameservers, timeout=PATIENCE)
    fetcher = HttpsFetcher(resolver)
    return {
        name: decided(
            Engine(resolver, fetcher=fetcher, shuffle=keep_order, config=settings(world)).plan(world.next_hop).to_json()
        )
        for name, world in lab.worlds.items()
    }


def plan_all_at_once(lab: Lab, *nameservers: str) -> dict[str, Json]:
    """The same by asyncio."""

    async def plan() -> list[Any]:
        resolver = AsyncDnsResolver(nameservers=nameservers, timeout=PATIENCE)
        fetcher = AsyncHttpsFetcher(resolver)
        return await asyncio.gather(
            *(
                AsyncEngine(resolver, fetcher=fetcher, shuffle=keep_order, config=settings(world)).plan(world.next_hop)
                for world in lab.worlds.values()
            )
        )

    plans = zip(lab.worlds, asyncio.run(plan()), strict=True)
    return {name: decided(plan.to_json()) for name, plan in plans}
