"""Never weaker: what nobody on the path can bring about. `python -m tests.model.attacker [--count N --seed S]`.

An attacker replaces what insecure zones hold, never the secure part of an alias chain; drops packets, so that any
lookup or fetch fails; and stands in front of every server: STARTTLS is stripped, refused or broken, the connection
ends, another certificate is shown. By default settings, for mail without TLS-Required: No that is no TLS report:

1. A host that the untouched plan gives `dane` behind a secure MX RRset, or that comes under a policy of mode `enforce`
   that is cached and in force, is never used without the duties that the untouched plan demands of it.
2. A host name that the untouched plan lacks is never used behind a secure MX RRset, and under such a policy only if
   the policy lists it and its certificate is valid for it.
3. Mail with REQUIRETLS is only sent within TLS, by MAIL with REQUIRETLS, to a host that was chosen securely and has
   authenticated itself.

"Used" is what the servers see: a message was handed to one. What has to hold then is computed by the model, from the
*untouched* world. The library alone runs in the attacked one.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import random
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from tests.model import decision, space
from tests.model.delivery import certificate, dane_failure, pkix_failure
from tests.model.exhaustive import BATCH, PROCESSES, told
from tests.model.library import Sent, run_of
from tests.model.worlds import IMPLICIT, Host, Policy, Server, World, host_name

if TYPE_CHECKING:
    from collections.abc import Iterator

ON_ONE_WORLD = 10  # attacks that a sample has of one world

CACHED = frozenset(policy for policy in space.POLICIES if policy.startswith("cached-enforce"))


class Attack(NamedTuple):
    untouched: World
    attacked: World


# --- What is attacked ------------------------------------------------------------------------------------------------


def untouched() -> Iterator[World]:
    """One host of each kind, found in each way, under each kind of policy, with and without REQUIRETLS."""
    policies: tuple[tuple[Policy, bool], ...] = (
        ("none", True),
        ("cached-enforce", True),
        ("cached-enforce", False),
        ("enforce", True),
        ("testing", True),
    )
    for world in space.found_worlds():
        host = world.hosts[0]
        signed = world.mx == "none-secure" or "secure" in {host.a, host.aaaa}
        if host.kind == "invalid" or (signed and "insecure" in {host.a, host.aaaa}):
            continue  # one name is in one zone: where one answer is secure, so are the others
        one = world._replace(hosts=(host._replace(denials_secure=signed),))
        for (policy, listed), wish in itertools.product(policies, space.WISHES[:2]):
            yield one._replace(policy=policy, listed=(listed,), wish=wish)


# The attacker's own certificate is one for a name of his own, or one that nobody issued. At a host of his own the first
# server is his, and nothing is wrong with it.
SERVERS = (
    Server(),
    Server(starttls="absent"),
    Server(starttls="refused"),
    Server(starttls="broken"),
    Server(starttls="alert-sni", chain="wrong"),
    Server(chain="wrong"),
    Server(chain="stranger"),
    Server(within="closed", chain="wrong"),
)

POLICY_MOVES: dict[Policy, tuple[Policy, ...]] = {
    "none": ("none", "record-failing", "unfetchable"),  # a record can be invented, a policy can not
    "enforce": ("enforce", "none", "record-failing", "unfetchable"),
    "testing": ("testing", "none", "record-failing", "unfetchable"),
    "cached-enforce": (
        "cached-enforce",
        "cached-enforce-record-gone",
        "cached-enforce-record-failing",
        "cached-enforce-successor-unfetchable",
    ),
}


def host_moves(host: Host) -> Iterator[Host]:
    """The host as it is, each lookup dropped, and what insecure zones hold replaced."""
    yield host
    yield host._replace(a="failing")
    yield host._replace(aaaa="failing")
    yield host._replace(a="failing", aaaa="failing")
    yield host._replace(cname="failing")
    yield host._replace(tlsa="failing")
    yield host._replace(tlsa_target="failing")
    yield host._replace(tlsa="failing", tlsa_target="failing")
    kept = host.links[: host.links.index(False)] if not all(host.links) else host.links
    if kept != host.links:
        # From the first insecure alias on everything is the attacker's: he leads it to a zone of his own, signed or not
        for links, tlsa_target in (
            ((*kept, False), "usable"),
            ((*kept, False), "none"),
            ((*kept, False, False), "usable"),
        ):
            for a, aaaa in (("secure", "absent"), ("insecure", "insecure"), ("absent", "absent")):
                yield host._replace(
                    links=links[:2],
                    a=a,  # type: ignore[arg-type]
                    aaaa=aaaa,  # type: ignore[arg-type]
                    tlsa=host.tlsa if kept else "insecure",
                    tlsa_target=tlsa_target,  # type: ignore[arg-type]
                )
    insecure = {"insecure"} | (set() if host.denials_secure else {"absent"})
    if host.a in insecure:
        yield host._replace(a="insecure")
        yield host._replace(a="absent")
    if host.aaaa in insecure:
        yield host._replace(aaaa="insecure")
        yield host._replace(aaaa="absent")
    if {host.a, host.aaaa} <= insecure:
        yield host._replace(a="insecure", aaaa="insecure")
        if all(host.links):  # an alias is put where there was none
            links = (*host.links, False)
            if len(links) < 3:
                yield host._replace(
                    links=links, a="secure", tlsa=host.tlsa if host.links else "insecure", tlsa_target="usable"
                )
    if host.tlsa == "insecure":
        yield host._replace(tlsa="none")
    if host.tlsa_target == "insecure":
        yield host._replace(tlsa_target="none")


def mx_moves(world: World) -> Iterator[World]:
    """The answer as it is, dropped and, where it is insecure, replaced."""
    yield world
    if world.mx == "relay":
        return
    yield world._replace(mx="failing")
    if decision.mx_is_secure(world):
        return
    server = world.hosts[0].server
    alias = world.alias[: world.alias.index(False) + 1] if not all(world.alias) else ()
    stranger = Host(kind="stranger", tlsa="usable", server=server)
    for hosts in (
        (stranger,),
        (stranger._replace(tlsa="none"),),
        (stranger._replace(a="insecure"),),
        (Host(a="insecure", server=server),),
        (stranger, Host(a="insecure", server=server)),
    ):
        listed = tuple(world.listed[0] and host.kind == "host" and world.mx not in IMPLICIT for host in hosts)
        yield world._replace(mx="insecure", alias=alias, hosts=hosts, listed=listed)
    yield world._replace(mx="null", alias=alias)
    yield world._replace(mx="no-domain", alias=alias)


def attacks_on(world: World) -> Iterator[Attack]:
    """Every move at the MX answer, at the host and at the policy, together; the servers take turns."""
    servers = itertools.cycle(SERVERS)
    moved = dict.fromkeys(host_moves(world.hosts[0]))
    for host, policy in itertools.product(moved, POLICY_MOVES[world.policy]):
        one = world._replace(hosts=(host._replace(server=next(servers)),), policy=policy)
        if one.mx in IMPLICIT:
            one = one._replace(alias=host.links)
        yield from (Attack(world, attacked) for attacked in mx_moves(one))


def attacks() -> Iterator[Attack]:
    for world in untouched():
        yield from attacks_on(world)


# --- What has to hold ------------------------------------------------------------------------------------------------


def broken(attack: Attack) -> tuple[list[str], bool]:
    """The promises that do not hold, for people, and whether a message was handed to anybody."""
    run = run_of(attack.attacked)
    first = run.engine.deliver(run.message, run.route)
    if first.cleartext_retry:
        run.engine.deliver(run.message, run.route, before=first)
    if not run.connector.sent:
        return [], False
    plan = decision.decide(attack.untouched)
    return [text for sent in run.connector.sent for text in judge_use(attack, plan, sent)], True


def judge_use(attack: Attack, plan: decision.Plan, sent: Sent) -> Iterator[str]:
    world, attacked = attack
    name = host_name(attacked, sent.host)
    server = attacked.hosts[sent.host].server
    shown = certificate(attacked, sent.host, name, server.chain)
    known = next((host for host in plan.hosts if host.host == name), None)
    cached = world.policy in CACHED
    pkix = bare(name)
    by_policy = sent.tls and attacked.listed[sent.host] and pkix_failure(pkix, shown, common_name=False) is None

    if known is not None and not known.skip and ((known.level == "dane" and plan.mx_secure) or cached):
        if "dane" in known.requires and not (sent.tls and dane_failure(known, shown) is None):
            yield f"1: {name} is used without DANE"
        if "pkix" in known.requires and cached and not by_policy:
            yield f"1: {name} is used without the duties of the cached policy"
    if known is not None and known.skip and cached and not by_policy:
        yield f"1: {name} was skipped, and is used without the duties of the cached policy"
    if known is None and plan.mx_secure:
        yield f"2: {name} is used behind a secure MX"
    if known is None and cached and not by_policy:
        yield f"2: {name} is used without the duties of the cached policy"
    if world.wish == "requiretls":
        mode, _ = decision.policy_of(world)
        chosen = (known is not None and plan.mx_secure) or (mode == "enforce" and attacked.listed[sent.host])
        if known is not None and "dane" in known.requires:
            proven = dane_failure(known, shown) is None
        else:
            proven = pkix_failure(pkix, shown, common_name=True) is None
        if not (sent.tls and sent.requiretls and server.requiretls and chosen and proven):
            yield f"3: REQUIRETLS is unmet at {name}"


def bare(name: str) -> decision.HostPlan:
    """A host of which nothing is known but its name."""
    return decision.HostPlan(0, name, (), None, None)


# --- The run ---------------------------------------------------------------------------------------------------------


class Batch(NamedTuple):
    attacks: int
    used: int  # attacks in which a message was handed to somebody
    found: tuple[tuple[Attack, str], ...]


def judge(some: list[Attack]) -> Batch:
    results = [(attack, *broken(attack)) for attack in some]
    found = tuple((attack, text) for attack, texts, _ in results for text in texts)
    return Batch(len(some), sum(used for _, _, used in results), found)


def sample(count: int, seed: int) -> Iterator[Attack]:
    """A sample of `count` attacks, the same for the same seed: a few on each world that is drawn."""
    draw = random.Random(seed)
    worlds = list(untouched())
    drawn = itertools.chain.from_iterable(
        draw.choices(list(attacks_on(draw.choice(worlds))), k=ON_ONE_WORLD) for _ in itertools.count()
    )
    return itertools.islice(drawn, count)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--count", type=int, help="a sample of about this many attacks")
    parser.add_argument("--seed", type=int, default=7672)
    parser.add_argument("--processes", type=int, default=PROCESSES)
    chosen = parser.parse_args(arguments)
    worlds = attacks() if chosen.count is None else sample(chosen.count, chosen.seed)
    begun = time.perf_counter()
    count = used = 0
    found: list[tuple[Attack, str]] = []
    with multiprocessing.Pool(chosen.processes) as pool:
        for batch in pool.imap(judge, iter(lambda: list(itertools.islice(worlds, BATCH)), [])):
            count += batch.attacks
            used += batch.used
            found += batch.found
    kinds = Counter(text for _, text in found)
    first = {text: attack for attack, text in reversed(found)}
    for text, number in kinds.most_common():
        print(f"\n{number} attacks: {text}\n  untouched:\n{told(first[text].untouched)}")
        print(f"  attacked:\n{told(first[text].attacked)}")
    seconds = time.perf_counter() - begun
    print(f"\n{count} attacks, {used} of them answered by mail, {len(found)} break a promise; {seconds:.0f} s")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
