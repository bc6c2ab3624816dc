"""The lab's name space: a signed root, `test.` below it, and four zones there, one of each security status.

`signed.test` is signed; `plain.test` has no DS; the signatures of `bogus.test` are not by its keys; those of
`expired.test` ended long ago (Unbound forgives a day). Beside them is `strange.test`, signed by an algorithm that
nobody knows, which makes it insecure (RFC 4035 section 5.2).

Records are written as `owner type rdata`, a line each, relative to a name of the zone. TLSA records are kept as plain
octets, so that a zone can publish malformed ones.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import dns.dnssec
import dns.dnssectypes
import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdataset
import dns.rdatatype
import dns.rrset
import dns.transaction
import dns.zone
from attrs import frozen
from cryptography.hazmat.primitives.asymmetric import ec

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from dns.rdtypes.ANY.DNSKEY import DNSKEY

    Key = tuple[ec.EllipticCurvePrivateKey, DNSKEY]

TTL = 60
SECURITIES = ("signed", "plain", "bogus", "expired")
NAME_SERVER = "ns."  # in the root: some resolvers can not find a root server in a zone below
REFUSING_SERVER = "refusing.test."
STRANGE_ZONE = "strange.test."
_UNASSIGNED = 200  # no algorithm of DNSSEC
_DAY = 86400


@frozen
class Records:
    """Some records of a zone.

    Attributes:
        origin: the absolute name that `text` is relative to.
        text: `owner type rdata` lines.
        forged: the RRsets of it, `owner type`, that get a signature by nobody's key. NSEC may be named too.
    """

    origin: str
    text: str
    forged: Sequence[str] = ()


def _rdata(rdtype: dns.rdatatype.RdataType, text: str, origin: dns.name.Name) -> dns.rdata.Rdata:
    if rdtype == dns.rdatatype.TLSA:
        usage, selector, matching_type, *data = text.split()
        octets = bytes(map(int, (usage, selector, matching_type))) + bytes.fromhex("".join(data))
        return dns.rdata.GenericRdata(dns.rdataclass.IN, rdtype, octets)
    return dns.rdata.from_text(dns.rdataclass.IN, rdtype, text, origin=origin, relativize=False)


def _make_zone(origin: str, records: Iterable[Records]) -> dns.zone.Zone:
    zone = dns.zone.Zone(origin, relativize=False)
    apex = Records(origin, f"@ SOA {NAME_SERVER} hostmaster.test. 1 3600 600 86400 {TTL}\n@ NS {NAME_SERVER}")
    with zone.writer() as transaction:
        for part in (apex, *records):
            base = dns.name.from_text(part.origin)
            for line in filter(None, map(str.strip, part.text.splitlines())):
                owner, word, rest = line.split(maxsplit=2)
                rdtype = dns.rdatatype.from_text(word)
                transaction.add(dns.name.from_text(owner, origin=base), TTL, _rdata(rdtype, rest, base))
    return zone


def _new_key(flags: int) -> Key:
    private = ec.generate_private_key(ec.SECP256R1())
    return private, dns.dnssec.make_dnskey(private.public_key(), dns.dnssectypes.Algorithm.ECDSAP256SHA256, flags=flags)


def _sign(zone: dns.zone.Zone, security: str, records: Iterable[Records]) -> str:
    """Sign a zone as its security demands; return its DS record."""
    origin = zone.origin
    assert origin is not None
    key_signing, zone_signing = _new_key(257), _new_key(256)
    forging = (ec.generate_private_key(ec.SECP256R1()), zone_signing[1])
    forged = {
        (dns.name.from_text(owner, origin=dns.name.from_text(part.origin)), dns.rdatatype.from_text(rdtype))
        for part in records
        for owner, rdtype in map(str.split, part.forged)
    }
    now = int(time.time())
    inception, expiration = (now - 90 * _DAY, now - 30 * _DAY) if security == "expired" else (now - 3600, now + _DAY)

    def sign_rrset(transaction: dns.transaction.Transaction, rrset: dns.rrset.RRset) -> None:
        wrong = security == "bogus" or (rrset.name, rrset.rdtype) in forged
        dns.dnssec.default_rrset_signer(
            transaction,
            rrset,
            signer=origin,
            ksks=[key_signing],
            zsks=[forging if wrong else zone_signing],
            inception=inception,
            expiration=expiration,
        )

    dns.dnssec.sign_zone(zone, keys=[key_signing, zone_signing], rrset_signer=sign_rrset)
    return dns.dnssec.make_ds(origin, key_signing[1], "SHA256").to_text()


def _disguise(zone: dns.zone.Zone) -> str:
    """Let a signed zone be signed by an algorithm that nobody knows; return its DS record."""
    assert zone.origin is not None
    keys = list(zone.find_rdataset(zone.origin, dns.rdatatype.DNSKEY))
    strange = [key.replace(algorithm=_UNASSIGNED) for key in keys]
    tags = {dns.dnssec.key_id(old): dns.dnssec.key_id(new) for old, new in zip(keys, strange, strict=True)}
    for owner, rdataset in list(zone.iterate_rdatasets()):
        if rdataset.rdtype == dns.rdatatype.RRSIG:
            odd = [each.replace(algorithm=_UNASSIGNED, key_tag=tags[each.key_tag]) for each in rdataset]
            zone.replace_rdataset(owner, dns.rdataset.from_rdata_list(TTL, odd))
    zone.replace_rdataset(zone.origin, dns.rdataset.from_rdata_list(TTL, strange))
    return dns.dnssec.make_ds(zone.origin, strange[0], "SHA256").to_text()


def write_zones(
    directory: Path, address: str, refusing: str, records: Mapping[str, Sequence[Records]]
) -> dict[str, Path]:
    """Write the zone files, the root's trust anchor (`anchor`) and the root hints (`hints`) to a directory.

    Args:
        directory: where to write.
        address: the name server's.
        refusing: the address of a server that answers nothing, called `refusing.test`.
        records: what the zones hold, by security.

    Returns:
        The zone file of every zone.
    """
    files: dict[str, Path] = {}
    glue = f"{NAME_SERVER} A {address}"
    delegations = {".": [glue], "test.": [f"{REFUSING_SERVER} A {refusing}"]}

    def write(origin: str, parent: str | None, security: str, parts: Sequence[Records]) -> None:
        zone = _make_zone(origin, parts)
        ds = None if security == "plain" else _sign(zone, security, parts)
        if security == "strange":
            ds = _disguise(zone)
        if parent is None:
            (directory / "anchor").write_text(f". {TTL} IN DS {ds}\n")
        else:
            delegations[parent] += [f"{origin} NS {NAME_SERVER}", *([f"{origin} DS {ds}"] if ds else [])]
        files[origin] = directory / f"{origin}zone"
        zone.to_file(str(files[origin]), relativize=False)

    for security in SECURITIES:
        write(f"{security}.test.", "test.", security, records[security])
    write(STRANGE_ZONE, "test.", "strange", [Records(STRANGE_ZONE, "@ MX 10 mx\nmx A 192.0.2.1")])
    for origin, parent in (("test.", "."), (".", None)):
        write(origin, parent, "signed", [Records(".", "\n".join(delegations[origin]))])
    (directory / "hints").write_text(f". {TTL} IN NS {NAME_SERVER}\n{NAME_SERVER} {TTL} IN A {address}\n")
    return files
