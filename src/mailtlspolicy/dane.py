"""DANE: whether the certificates a server presented match its TLSA records (RFC 7671, RFC 7672 section 3).

* Only usable records count, less those that digest agility drops; there has to be one (RFC 7671 sections 9 and 10.3).
* DANE-EE(3) first: the leaf or its key is what the record says. Nothing else is looked at: no name, no date, no
  signature, no other certificate (RFC 7671 section 5.1, RFC 7672 section 3.1.1).
* DANE-TA(2) then: a record matches a certificate above the leaf, or holds one (`2 0 0`) or a key (`2 1 0`) that the
  server need not send; the leaf has a valid path to it, and bears a reference identifier (RFC 7671 section 5.2, RFC
  7672 sections 3.1.2, 3.2.2 and 3.2.3). Local trust stores are not consulted.
* A `2 1 x` record trusts a key, not a certificate: the dates of the certificate with that key do not count, whatever
  else it says does (RFC 7671 section 5.2.1, RFC 5280 section 6.1.1 d). Those of a `2 0 x` record count.
* A certificate behind the leaf that is malformed is no part of any path; it is told of if no path leads to an anchor.
* A leaf is never its own anchor, not by its key in a `2 1 0` record either: a key is tried on the topmost certificate
  only if no presented certificate has it (RFC 7671 section 5.2.3; OpenSSL is more lenient).
* One match suffices (RFC 6698 section 4.1), and the order of records or certificates decides nothing.

>>> from datetime import datetime, timezone
>>> from mailtlspolicy.tlsa import Tlsa
>>> record = Tlsa.parse("3 1 1 " + "ab" * 32)
>>> str(verify([b"no certificate"], [record], ["mx.example"], now=datetime.now(timezone.utc)).failure)
'malformed-certificate'
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mailtlspolicy.config import Config
from mailtlspolicy.identity import first_match, presented_identifiers
from mailtlspolicy.tlsa import CERT, DANE_EE, DANE_TA, FULL, SPKI, Tlsa, TlsaRRset, digest
from mailtlspolicy.verdict import Failure, Mechanism, Verdict
from mailtlspolicy.x509.certificates import Certificate, is_public_key, subject_public_key_info
from mailtlspolicy.x509.paths import NoPath, find_path, foremost

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

_DEFAULT = Config()


def verify(
    chain: Sequence[bytes],
    tlsa: Iterable[Tlsa],
    reference_ids: Sequence[str],
    *,
    now: datetime,
    config: Config = _DEFAULT,
) -> Verdict:
    """Verify a presented chain by TLSA records that were obtained securely.

    Args:
        chain: the certificates presented, as DER, leaf first.
        tlsa: the TLSA RRset, as published.
        reference_ids: the names of which the leaf must bear one if DANE-TA(2) authenticates it (RFC 7672 section
            3.2.2).
        now: the time of verification, aware of its zone.
        config: usages, digests, strengths and limits.

    Returns:
        The verdict; `record` and `depth` tell which record matched and where. Whatever the chain and records hold, a
        failure is a verdict.

    Raises:
        ValueError: `now` is a naive time.
        TypeError: one name was given where a sequence of names is due.
    """
    if now.utcoffset() is None:
        raise ValueError("now is a time without a zone")
    if isinstance(reference_ids, str):
        raise TypeError("reference_ids is a sequence of names, not one name")
    records = _in_order(tlsa, config)
    if not records:
        return Verdict.failed(Failure.NO_USABLE_RECORDS)
    if not chain:
        return Verdict.failed(Failure.NO_CERTIFICATE)
    try:
        key = subject_public_key_info(chain[0])
    except ValueError:
        return Verdict.failed(Failure.MALFORMED_CERTIFICATE)
    record = _first_match([record for record in records if record.usage == DANE_EE], chain[0], key, config)
    if record is not None:
        return Verdict.passed(Mechanism.DANE_EE, record=str(record), depth=0)
    anchors = [record for record in records if record.usage == DANE_TA]
    if not anchors:
        return Verdict.failed(Failure.NO_TLSA_MATCH)
    return _verify_dane_ta(chain, anchors, reference_ids, now, config)


def verify_raw_public_key(spki: bytes, tlsa: Iterable[Tlsa], *, config: Config = _DEFAULT) -> Verdict:
    """Verify a raw public key (RFC 7250) by TLSA records that were obtained securely.

    Only DANE-EE(3) SPKI(1) records can match (RFC 7671 section 5.1). They are those left by usability and digest
    agility, as for a certificate.

    Args:
        spki: the key presented, a DER SubjectPublicKeyInfo (RFC 7250 section 3).
        tlsa: the TLSA RRset, as published.
        config: usages and digests.
    """
    records = _in_order(tlsa, config)
    if not records:
        return Verdict.failed(Failure.NO_USABLE_RECORDS)
    if not spki:
        return Verdict.failed(Failure.NO_CERTIFICATE)
    if not is_public_key(spki):
        return Verdict.failed(Failure.MALFORMED_CERTIFICATE)
    record = _first_match([record for record in records if _is_for_raw_keys(record)], b"", spki, config)
    if record is None:
        return Verdict.failed(Failure.NO_TLSA_MATCH)
    return Verdict.passed(Mechanism.DANE_EE, record=str(record), depth=0)


def raw_public_key_safe(tlsa: Iterable[Tlsa], *, config: Config = _DEFAULT) -> bool:
    """Whether raw public keys can be offered beside X.509 without risk (RFC 7671 section 5.1, RFC 7250 section 4.1).

    The section asks for at least one `3 1 x` record, and trusts the publisher that each record by itself matches the
    server (section 8). Here every record that counts has to be `3 1 x`: the server chooses what it sends, and a raw key
    would fail where the record that matches is a `2 x x` or `3 0 x` one, though the certificate would have passed.
    """
    records = _in_order(tlsa, config)
    return bool(records) and all(map(_is_for_raw_keys, records))


def _is_for_raw_keys(record: Tlsa) -> bool:
    return record.usage == DANE_EE and record.selector == SPKI


def _in_order(tlsa: Iterable[Tlsa], config: Config) -> list[Tlsa]:
    """The records that count, in an order of their own: keys first, the strongest digest first, Full(0) last.

    So the verdict names the same record in whatever order they were published; usages are looked at one by one.
    """
    rrset = tlsa if isinstance(tlsa, TlsaRRset) else TlsaRRset(tlsa)
    order = (*config.digest_order, FULL)
    return sorted(
        rrset.considered(config),
        key=lambda record: (-record.selector, order.index(record.matching_type), record.data),
    )


def _first_match(records: Sequence[Tlsa], certificate: bytes, key: bytes, config: Config) -> Tlsa | None:
    """The first record whose data is that of a certificate or its key (RFC 6698 appendix B.1)."""
    digests: dict[tuple[int, int], bytes] = {}
    for record in records:
        kind = (record.selector, record.matching_type)
        if kind not in digests:
            digests[kind] = digest(record, key if record.selector == SPKI else certificate, config)
        if digests[kind] == record.data:
            return record
    return None


def _verify_dane_ta(
    chain: Sequence[bytes], records: Sequence[Tlsa], reference_ids: Sequence[str], now: datetime, config: Config
) -> Verdict:
    if len(chain) > config.max_chain_certificates or sum(map(len, chain)) > config.max_chain_octets:
        return Verdict.failed(Failure.CHAIN_TOO_LONG)
    leaf = Certificate.parse(chain[0])
    if leaf is None or leaf.extensions is None:
        return Verdict.failed(Failure.MALFORMED_CERTIFICATE)
    pool: set[Certificate] = set()
    anchors: dict[Certificate, Tlsa] = {}
    is_match_presented = is_any_malformed = False
    for der in set(chain) - {leaf.der}:
        try:
            record = _first_match(records, der, subject_public_key_info(der), config)
        except ValueError:
            continue
        is_match_presented |= record is not None
        certificate = Certificate.parse(der)
        if certificate is None:
            is_any_malformed = True
            continue
        pool.add(certificate)
        if record is not None:
            anchors[certificate] = record
    # RFC 7671 sections 5.2.2 and 5.2.3: certificates in DNS, and keys there that no presented certificate has
    presented_keys = {certificate.skeleton.key for certificate in (leaf, *pool)}
    keys = {
        record.data: record
        for record in records
        if (record.selector, record.matching_type) == (SPKI, FULL) and record.data not in presented_keys
    }
    for record in records:
        if (record.selector, record.matching_type) == (CERT, FULL):
            certificate = Certificate.parse(record.data)
            if certificate is not None:
                anchors.setdefault(certificate, record)
    name = first_match(presented_identifiers(leaf), reference_ids)
    by_key = {certificate for certificate, record in anchors.items() if record.selector == SPKI}
    path = find_path(leaf, pool, anchors, keys, by_key=by_key, now=now, config=config)
    if isinstance(path, NoPath):
        if not (path.linked or is_match_presented):
            return Verdict.failed(Failure.NO_TLSA_MATCH)
        failures = {path.failure}
        if is_any_malformed and not path.linked:
            failures.add(Failure.MALFORMED_CERTIFICATE)
        if name is None:
            failures.add(Failure.NAME_MISMATCH)
        return Verdict.failed(foremost(failures))
    if name is None:
        return Verdict.failed(Failure.NAME_MISMATCH)
    if path.key is not None:
        return Verdict.passed(Mechanism.DANE_TA, record=str(keys[path.key]), depth=len(path.certificates), name=name)
    depth = len(path.certificates) - 1
    return Verdict.passed(Mechanism.DANE_TA, record=str(anchors[path.certificates[depth]]), depth=depth, name=name)
