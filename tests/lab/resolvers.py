"""The other resolvers that are commonly installed: recursive ones over the lab's root, and forwarders over Unbound.

The recursive ones run as they are packaged. BIND and PowerDNS Recursor call bogus data SERVFAIL and no more; Knot
Resolver says why now and then.
"""

from __future__ import annotations

import base64
import subprocess
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import dns.rcode

from tests.lab.lab import TACITURN_RESOLVER, await_answer
from tests.lab.programs import program

if TYPE_CHECKING:
    from collections.abc import Iterator

RESOLVERS = {"bind": "127.0.0.5", "knot": "127.0.0.6", "powerdns": "127.0.0.7"}

_NAMED_CONF = """\
options {{
    directory "{directory}";
    pid-file "{directory}/named.pid";
    session-keyfile "{directory}/session.key";
    listen-on {{ {address}; }};
    listen-on-v6 {{ none; }};
    dnssec-validation yes;
}};
controls {{ }};
trust-anchors {{ . static-ds {tag} {algorithm} {digest_type} "{digest}"; }};
zone "." {{ type hint; file "{lab}/hints"; }};
"""

# The name `test.` is for tests (RFC 6761 section 6.2), and so Knot Resolver denies it by itself.
_KRESD_CONF = """\
net.listen('{address}', 53, {{ kind = 'dns' }})
net.ipv6 = false
cache.open(10 * MB, 'lmdb://{directory}')
modules = {{ 'hints > iterate' }}
hints.root_file('{lab}/hints')
trust_anchors.remove('.')
trust_anchors.add_file('{lab}/anchor', true)
policy.add(policy.suffix(policy.PASS, {{ todname('test.') }}))
"""

_RECURSOR_CONF = """\
local-address={address}
local-port=53
daemon=no
socket-dir={directory}
hint-file={lab}/hints
lua-config-file={directory}/recursor.lua
dont-query=
security-poll-suffix=
"""
_RECURSOR_LUA = """\
clearTA(".")
addTA(".", "{tag} {algorithm} {digest_type} {digest}")
"""


@contextmanager
def run(directory: Path, lab: Path) -> Iterator[None]:
    """Run them for as long as the block takes.

    Args:
        directory: an empty one, for their files and what they log.
        lab: the lab's, with the trust anchor and the hints of its root.
    """
    tag, algorithm, digest_type, digest = (lab / "anchor").read_text("ascii").split()[4:]
    anchor = {"tag": tag, "algorithm": algorithm, "digest_type": digest_type, "digest": digest}

    def write(name: str, file: str, text: str) -> Path:
        folder = directory / name
        folder.mkdir(exist_ok=True)
        path = folder / file
        path.write_text(text.format(directory=folder, address=RESOLVERS[name], lab=lab, **anchor))
        return path

    named = write("bind", "named.conf", _NAMED_CONF)
    kresd = write("knot", "kresd.conf", _KRESD_CONF)
    write("powerdns", "recursor.lua", _RECURSOR_LUA)
    recursor = write("powerdns", "recursor.conf", _RECURSOR_CONF)
    commands = {
        "bind": ("named", "-g", "-c", str(named)),
        "knot": ("kresd", "-n", "-c", str(kresd), str(kresd.parent)),
        "powerdns": ("pdns_recursor", f"--config-dir={recursor.parent}"),
    }
    # BIND listens at addresses that an interface has, not at all of 127.0.0.0/8.
    subprocess.run(["ip", "address", "replace", f"{RESOLVERS['bind']}/8", "dev", "lo"], check=True)
    with ExitStack() as stack:
        for name, command in commands.items():
            log = stack.enter_context((directory / f"{name}.log").open("wb"))
            stack.enter_context(program(*command, stdout=log, stderr=subprocess.STDOUT))
        for address in RESOLVERS.values():
            await_answer(address, ".", "SOA")
        yield


FORWARDER = "127.0.0.8"


@contextmanager
def forward(directory: Path, lab: Path, *options: str, upstream: str = TACITURN_RESOLVER) -> Iterator[None]:
    """Run dnsmasq with nothing in its cache, for as long as the block takes.

    What it caches stays there, however slow the machine is.

    Args:
        directory: for what it logs.
        lab: the lab's, with the trust anchor of its root.
        options: such as `--dnssec`.
        upstream: the resolver that it forwards to.
    """
    anchor = ",".join((lab / "anchor").read_text("ascii").split()[4:])
    command = (
        "dnsmasq",
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--pid-file",
        "--user=root",
        "--no-resolv",
        "--no-hosts",
        "--bind-interfaces",
        f"--listen-address={FORWARDER}",
        f"--server={upstream}",
        "--dns-forward-max=10000",  # questions under way; the default is less than the lab asks at once
        f"--trust-anchor=.,{anchor}",
        *options,
    )
    with (directory / "dnsmasq.log").open("wb") as log, program(*command, stdout=log, stderr=subprocess.STDOUT):
        await_answer(FORWARDER, ".", "SOA")
        yield


_STUBBY_YML = """\
resolution_type: GETDNS_RESOLUTION_STUB
tls_authentication: GETDNS_AUTHENTICATION_REQUIRED
dns_transport_list: [{transports}]
dnssec: GETDNS_EXTENSION_{validates}
dnssec_trust_anchors: "{lab}/anchor"
appdata_dir: "{directory}"
listen_addresses: [{address}]
upstream_recursive_servers:
  - address_data: {upstream}
    tls_pubkey_pinset:
      - digest: "sha256"
        value: {pin}
"""
_NOBODYS_PIN = base64.b64encode(bytes(32)).decode("ascii")


@contextmanager
def stubby(
    directory: Path,
    lab: Path,
    *,
    validates: bool = False,
    upstream: str = TACITURN_RESOLVER,
    falls_back: bool = False,
    genuine: bool = True,
) -> Iterator[None]:
    """Run Stubby, which forwards over TLS to a resolver that has to prove who it is, for as long as the block takes.

    Args:
        directory: for its configuration and what it logs.
        lab: the lab's, with the trust anchor of its root and the pin of its resolvers' key.
        validates: whether it validates by itself.
        upstream: the resolver that it forwards to.
        falls_back: whether it may do without TLS, too.
        genuine: whether the resolver has the key that is pinned.
    """
    transports = ("GETDNS_TRANSPORT_TLS", *(["GETDNS_TRANSPORT_UDP", "GETDNS_TRANSPORT_TCP"] if falls_back else []))
    conf = directory / "stubby.yml"
    conf.write_text(
        _STUBBY_YML.format(
            transports=", ".join(transports),
            validates=str(validates).upper(),
            lab=lab,
            directory=directory,
            address=FORWARDER,
            upstream=upstream,
            pin=(lab / "resolver.pin").read_text("ascii") if genuine else _NOBODYS_PIN,
        )
    )
    command = ("stubby", "-l", "-C", str(conf))
    with (directory / "stubby.log").open("wb") as log, program(*command, stdout=log, stderr=subprocess.STDOUT):
        await_answer(FORWARDER, ".", "SOA", dns.rcode.NOERROR if genuine or falls_back else dns.rcode.SERVFAIL)
        yield


_RESOLVED_CONF = """\
[Resolve]
DNS={upstream}
DNSSEC={dnssec}
DNSStubListener=no
DNSStubListenerExtra={address}
LLMNR=no
MulticastDNS=no
"""
# It reads and writes fixed places, and wants a user that its package makes: all that in mounts of its own. Any file of
# negative anchors stands for those that it has by itself, of which `test` is one.
_RESOLVED_SH = """\
set -e
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/resolved.conf.d /run/dnssec-trust-anchors.d
cp {directory}/resolved.conf /run/systemd/resolved.conf.d/lab.conf
cp {directory}/positive /run/dnssec-trust-anchors.d/lab.positive
echo lab.invalid >/run/dnssec-trust-anchors.d/lab.negative
mount --bind {directory}/passwd /etc/passwd
mount --bind {directory}/group /etc/group
exec systemd-resolved
"""
_RESOLVED_USER = {
    "passwd": "systemd-resolve:x:64999:64999::/:/usr/sbin/nologin",
    "group": "systemd-resolve:x:64999:",
}


@contextmanager
def _way_out() -> Iterator[None]:
    """An interface beside the loopback, without which systemd-resolved believes that there is no network."""
    commands = (
        "link add elsewhere type veth peer name nowhere",
        "address add 198.18.0.1/32 dev elsewhere",
        "link set nowhere up",
        "link set elsewhere up",
    )
    for command in commands:
        subprocess.run(["ip", *command.split()], check=True)
    try:
        yield
    finally:
        subprocess.run(["ip", "link", "delete", "elsewhere"], check=True)


@contextmanager
def resolved(directory: Path, lab: Path, dnssec: str) -> Iterator[None]:
    """Run systemd-resolved over Unbound, without a bus, for as long as the block takes.

    Args:
        directory: for its configuration and what it logs.
        lab: the lab's, with the trust anchor of its root.
        dnssec: its setting of that name.
    """
    conf = _RESOLVED_CONF.format(upstream=TACITURN_RESOLVER, dnssec=dnssec, address=FORWARDER)
    (directory / "resolved.conf").write_text(conf)
    (directory / "positive").write_text(f". IN DS {' '.join((lab / 'anchor').read_text('ascii').split()[4:])}\n")
    for name, line in _RESOLVED_USER.items():
        others = Path("/etc", name).read_text("utf-8").splitlines()
        kept = [other for other in others if not other.startswith("systemd-resolve:")]
        (directory / name).write_text("\n".join([*kept, line, ""]), "utf-8")
    command = ("unshare", "--mount", "sh", "-c", _RESOLVED_SH.format(directory=directory))
    with ExitStack() as stack:
        stack.enter_context(_way_out())
        log = stack.enter_context((directory / "resolved.log").open("wb"))
        stack.enter_context(program(*command, stdout=log, stderr=subprocess.STDOUT))
        await_answer(FORWARDER, ".", "SOA")
        yield
