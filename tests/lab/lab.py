"""The lab put together: certificates, zones and servers of all scenarios, NSD, and three Unbounds.

Started inside a network namespace of its own (`python -m tests.lab`), it has the loopback addresses to itself.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import time
from contextlib import ExitStack, contextmanager
from functools import partial
from subprocess import DEVNULL
from typing import TYPE_CHECKING

import dns.exception
import dns.flags
import dns.message
import dns.query
import dns.rcode
from attrs import frozen

from tests.lab import pki, policy_hosts, postfix, servers, zones
from tests.lab.delivery_scenarios import DELIVERIES, RECEIVERS
from tests.lab.programs import program
from tests.lab.scenarios import SCENARIOS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from tests.lab.scenarios import Scene, Server

RESOLVER = "127.0.0.1"
OBLIVIOUS_RESOLVER = "127.0.0.2"
"""A recursive resolver that does not validate."""
TACITURN_RESOLVER = "127.0.0.3"
"""A validating resolver that sends no extended errors, as most do: bogus data is SERVFAIL and no more."""
NAME_SERVER = "127.0.0.53"
_START_SECONDS = 60
_QUESTION = re.compile(r"info: 127\.0\.0\.1 (\S+)\. (\w+) IN$", re.MULTILINE)

_NSD_CONF = """\
server:
    ip-address: {address}@53
    username: ""
    zonesdir: "{directory}"
    database: ""
    pidfile: "{directory}/nsd.pid"
    zonelistfile: "{directory}/zone.list"
    xfrdfile: "{directory}/xfrd.state"
    xfrdir: "{directory}"
    logfile: "{directory}/nsd.log"
    server-count: 1
    do-ip6: no
    rrl-ratelimit: 0
remote-control:
    control-enable: no
"""

_UNBOUND_CONF = """\
server:
    interface: {address}
    interface: {address}@853
    port: 53
    tls-port: 853
    tls-service-pem: "{directory}/resolver.pem"
    tls-service-key: "{directory}/resolver.pem"
    do-ip6: no
    do-daemonize: no
    num-threads: 1
    username: ""
    chroot: ""
    directory: "{directory}"
    pidfile: "{directory}/unbound-{address}.pid"
    logfile: "{directory}/unbound-{address}.log"
    use-syslog: no
    log-queries: yes
    ede: {extended_errors}
    rrset-roundrobin: no
    module-config: "{modules}"
    root-hints: "{directory}/hints"
    trust-anchor-file: "{directory}/anchor"
    trust-anchor-signaling: no
    do-not-query-localhost: no
    local-zone: "test." transparent
    access-control: 127.0.0.0/8 allow
remote-control:
    control-enable: no
"""


@frozen
class Placed:
    """A server of a scenario at its address; formats as the address, or as a TLSA record of its leaf."""

    server: Server
    address: str
    leaf: pki.Certificate

    def __format__(self, spec: str) -> str:
        return format(self.leaf, spec) if spec else self.address


@frozen
class World:
    """A scenario with its names and servers filled in."""

    scenario: Scene
    names: Mapping[str, str]
    servers: Mapping[str, Placed]
    authorities: Mapping[str, pki.Certificate]

    def fill(self, text: str) -> str:
        """Replace what stands in braces."""
        return text.format(**self.names, **self.servers, **self.authorities)

    def absolute(self, name: str) -> str:
        """A name of the scenario without the final dot; relative ones belong below its signed name."""
        return _absolute(self.fill(name), self.names["signed"])

    @property
    def next_hop(self) -> str:
        return self.fill(self.scenario.next_hop).rstrip(".").replace(".]", "]")

    def records(self, security: str) -> zones.Records:
        """The records of one of the four zones."""
        forged = self.scenario.forged if security == "signed" else ()
        return zones.Records(self.names[security], self.fill(getattr(self.scenario, security)), forged)


def _names(scenario: Scene) -> dict[str, str]:
    return {security: f"{scenario.name}.{security}.test." for security in zones.SECURITIES}


def _absolute(name: str, origin: str) -> str:
    """A name without the final dot; one that has none yet is relative to the origin."""
    return (name if name.endswith(".") else origin if name == "@" else f"{name}.{origin}").rstrip(".")


def _place(scenario: Scene, server: Server, address: str, authorities: Mapping[str, pki.Certificate]) -> Placed:
    names = _names(scenario)
    leaf = pki.issue(
        server.common_name.format(**names).rstrip("."),
        authorities[server.issuer] if server.issuer else None,
        names=[_absolute(name.format(**names), names["signed"]) for name in server.names],
        expired=server.expired,
    )
    return Placed(server, address, leaf)


def _listeners(directory: Path, worlds: Sequence[World]) -> Iterator[servers.Listener]:
    other = directory / "other.pem"
    pki.write_chain(other, pki.issue("other chain"), ())
    for world in worlds:
        for placed in world.servers.values():
            server = placed.server
            chain = directory / f"{placed.address}.pem"
            pki.write_chain(chain, placed.leaf, [world.authorities[word] for word in server.sends])
            if server.starttls != "down" and server.postfix is None:
                only_for = server.only_for and world.absolute(server.only_for)
                yield servers.Listener(
                    placed.address,
                    chain,
                    only_for,
                    other if only_for else None,
                    server.starttls,
                    server.port,
                    server.manners,
                    server.manners if server.tls_manners is None else server.tls_manners,
                    server.ciphers,
                    server.refuses_sni,
                )


def _receiver(directory: Path, worlds: Sequence[World]) -> AbstractContextManager[postfix.Postfix]:
    """The Postfix that some of the servers are; each of them logs by the name of its scenario."""
    options, domains = {}, []
    for world in worlds:
        for placed in world.servers.values():
            if placed.server.postfix is not None:
                chain = str(directory / f"{placed.address}.pem")
                own = {"syslog_name": world.scenario.name, "smtpd_tls_chain_files": chain}
                options[placed.address] = own | dict(placed.server.postfix)
                domains.append(world.next_hop)
    return postfix.receive(options, domains)


def await_answer(address: str, name: str, rdtype: str, rcode: int = dns.rcode.NOERROR) -> None:
    """Wait until a server answers a question, without an error if no other is wanted."""
    question = dns.message.make_query(name, rdtype)
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        try:
            if dns.query.udp(question, address, timeout=0.1).rcode() == rcode:
                return
        except (OSError, dns.exception.DNSException):
            pass
        time.sleep(0.01)
    raise RuntimeError(f"{address} does not answer {name} {rdtype} after {_START_SECONDS} seconds")


@frozen
class Lab:
    """The running lab.

    Attributes:
        directory: its files.
        worlds: what is checked, by the names of the scenarios.
        deliveries: what is only delivered to, likewise.
        journal: what the servers saw.
        policy_hosts: the policy hosts.
        receiver: the Postfix that some of the servers are.
    """

    directory: Path
    worlds: Mapping[str, World]
    deliveries: Mapping[str, World]
    journal: servers.Journal
    policy_hosts: policy_hosts.PolicyHosts
    receiver: postfix.Postfix

    @property
    def environment(self) -> dict[str, str]:
        """What posttls-finger has to find in its environment."""
        return {"MAIL_CONFIG": str(self.directory)}

    def questions(self) -> set[str]:
        """What the validating resolver has been asked so far: `name TYPE`."""
        log = (self.directory / f"unbound-{RESOLVER}.log").read_text("utf-8")
        return {f"{name} {rdtype}" for name, rdtype in _QUESTION.findall(log)}


@contextmanager
def run(directory: Path) -> Iterator[Lab]:
    """Start everything; stop it at the end of the block."""
    authorities = pki.authorities()
    addresses = (f"127.1.{number // 250}.{number % 250 + 1}" for number in range(62500))
    worlds = [
        World(
            scenario,
            _names(scenario),
            {
                label: _place(scenario, server, next(addresses), authorities)
                for label, server in scenario.servers.items()
            },
            authorities,
        )
        for scenario in (*SCENARIOS, *DELIVERIES, *RECEIVERS)
    ]
    with ExitStack() as stack:
        hosts = stack.enter_context(policy_hosts.run(directory, "plain.test"))
        yield stack.enter_context(_run(directory, worlds, hosts))


@contextmanager
def _run(directory: Path, worlds: Sequence[World], hosts: policy_hosts.PolicyHosts) -> Iterator[Lab]:
    records = {security: [world.records(security) for world in worlds] for security in zones.SECURITIES}
    records["plain"].append(zones.Records("plain.test.", hosts.records()))
    refusing = OBLIVIOUS_RESOLVER  # Unbound refuses what is not recursive
    files = zones.write_zones(directory, NAME_SERVER, refusing, records)
    nsd, *unbounds = (directory / name for name in ("nsd.conf", "unbound.conf", "taciturn.conf", "oblivious.conf"))
    zone_lines = [f'zone:\n    name: "{origin}"\n    zonefile: "{file}"\n' for origin, file in files.items()]
    nsd.write_text(_NSD_CONF.format(address=NAME_SERVER, directory=directory) + "".join(zone_lines))
    configure = partial(_UNBOUND_CONF.format, directory=directory)
    resolvers = (
        (RESOLVER, "validator iterator", "yes"),
        (TACITURN_RESOLVER, "validator iterator", "no"),
        (OBLIVIOUS_RESOLVER, "iterator", "no"),
    )
    for conf, (address, modules, extended_errors) in zip(unbounds, resolvers, strict=True):
        conf.write_text(configure(address=address, modules=modules, extended_errors=extended_errors))
    over_tls = pki.issue("resolver")
    pki.write_chain(directory / "resolver.pem", over_tls, ())
    pin = base64.b64encode(hashlib.sha256(over_tls.selected("1")).digest())
    (directory / "resolver.pin").write_bytes(pin)
    main_cf = directory / "main.cf"
    main_cf.write_text("compatibility_level = 3.6\nmyhostname = client.lab.test\n")
    os.utime(main_cf, (1, 1))  # Postfix waits 1.5 s for a younger file to settle
    with ExitStack() as stack:
        mail = servers.Listener(policy_hosts.MAIL_ADDRESS, hosts.mail_chain)
        journal = stack.enter_context(servers.serve([*_listeners(directory, worlds), mail]))
        for command, conf in (("nsd", nsd), *(("unbound", conf) for conf in unbounds)):
            stack.enter_context(program(command, "-d", "-c", str(conf), stdout=DEVNULL, stderr=DEVNULL))
        for address in (NAME_SERVER, RESOLVER, TACITURN_RESOLVER, OBLIVIOUS_RESOLVER):
            await_answer(address, ".", "SOA")
        receiver = stack.enter_context(_receiver(directory, worlds))
        by_name = {world.scenario.name: world for world in worlds}
        checked = {scenario.name: by_name.pop(scenario.name) for scenario in SCENARIOS}
        yield Lab(directory, checked, by_name, journal, hosts, receiver)
