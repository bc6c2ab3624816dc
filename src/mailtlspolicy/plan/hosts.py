"""From a host name to its addresses and the TLSA records that bind it: RFC 7672 sections 2.2.2 and 2.2.3.

Rules, in the order of the sections:

- Addresses come first. No TLSA question is asked of a host without addresses, or of one whose addresses are insecure:
  name servers of unsigned zones often fail to answer it (section 2.2.2).
- Candidate TLSA base domains: the host name where it is no alias; the fully expanded name, then the host name, where
  the whole alias chain is secure; the host name alone where the chain is insecure but its first alias is secure. A name
  in the middle of a chain is never a candidate.
- How secure the first alias is takes a question of its own (section 2.1.3): for the CNAME record, or, where the answer
  showed that a DNAME record makes the alias, for that record, since some resolvers do not answer the other. It is not
  asked of a resolver that is not believed, whose answer could change nothing.
- The first candidate with a secure TLSA RRset is the base domain. An alias of the TLSA record never changes it.
- A failure of any of these questions spoils the host; the next candidate is not tried (section 2.1.2).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen

from mailtlspolicy._words import Word
from mailtlspolicy.config import AddressFamilies
from mailtlspolicy.dns.effects import Answer, FailureKind, LookupFailure, RecordType
from mailtlspolicy.dns.lookups import lookup, lowest_ttl
from mailtlspolicy.effects import together
from mailtlspolicy.names import MAX_NAME_OCTETS, canonical, canonical_address, is_local_address
from mailtlspolicy.tlsa import Tlsa, TlsaRRset
from mailtlspolicy.trace import Step, counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mailtlspolicy.config import Config
    from mailtlspolicy.effects import Program


_ADDRESS_TYPES = {4: RecordType.A, 6: RecordType.AAAA}


class SkipReason(Word):
    """Why a host is not used, in the order in which reasons take precedence."""

    INVALID_HOST = "invalid-host"
    NO_ADDRESSES = "no-addresses"
    ADDRESS_LOOKUP_FAILED = "address-lookup-failed"
    ALIAS_LOOKUP_FAILED = "alias-lookup-failed"
    TLSA_LOOKUP_FAILED = "tlsa-lookup-failed"
    DANE_REQUIRED = "dane-required"
    STS_MX_MISMATCH = "sts-mx-mismatch"
    REQUIRETLS_UNMET = "requiretls-unmet"


class TlsaOutcome(Word):
    """The four outcomes of the search for TLSA records, each with its own action (RFC 7672 section 2.2)."""

    USABLE = "usable"
    UNUSABLE = "unusable"
    ABSENT = "absent"
    ERROR = "error"


@frozen
class TlsaBinding:
    """What belongs together in one DANE session; nothing else computes any of the four.

    Attributes:
        base_domain: the TLSA base domain (RFC 7672 section 2.2.3).
        sni: the server name to send: the base domain (section 8.1).
        reference_ids: the names that a DANE-TA certificate may bear, base domain first (section 3.2.2).
        records: the TLSA RRset as published, unusable records too.
    """

    base_domain: str
    sni: str
    reference_ids: tuple[str, ...]
    records: TlsaRRset


@frozen
class Addresses:
    """The addresses of a host, by the order of `Config.ip_versions`, each family in the order received.

    Attributes:
        found: the addresses, at most `Config.max_addresses`.
        own: one of them, or of those cut off, that is this system's (`Config.own_addresses`, `loopback_is_own`), or
            None.
        secure: every family that yielded addresses is secure.
        aliases: the alias chain that led to them.
        believed: the resolver is believed when it says "secure".
        dname: the owner of the DNAME record that makes the first alias.
        ttl: seconds for which the DNS says so, 0 where it said nothing.
        skip: why there are none.
        failure: which failure is why.
    """

    found: tuple[str, ...] = ()
    own: str | None = None
    secure: bool = False
    aliases: tuple[str, ...] = ()
    believed: bool = True
    dname: str | None = None
    ttl: int = 0
    skip: SkipReason | None = None
    failure: FailureKind | None = None


@frozen
class TlsaSearch:
    """How the search for TLSA records ended.

    Attributes:
        outcome: one of the four.
        binding: the RRset found and what it binds, unless absent or in error.
        error: which question failed.
        failure: how, where it had no answer.
        ttl: seconds for which the DNS says so, 0 where it said nothing; None where it was not asked.
    """

    outcome: TlsaOutcome
    binding: TlsaBinding | None = None
    error: SkipReason | None = None
    failure: FailureKind | None = None
    ttl: int | None = None


@frozen
class _Candidates:
    """The candidate TLSA base domains, in order, and what it took to find them."""

    domains: tuple[str, ...] = ()
    error: SkipReason | None = None
    failure: FailureKind | None = None
    ttl: int | None = None


def find_addresses(host: str, config: Config, trace: list[Step], *, chosen: bool = False) -> Program[Addresses]:
    """Look up its addresses, all families side by side (RFC 7672 section 2.2.2); steps are added to the trace.

    Args:
        host: the host name.
        config: limits, and what addresses this system has.
        trace: the steps so far.
        chosen: the operator has chosen the host, and so means the loopback address that it may have.
    """
    answers = yield from together(*(lookup(host, _ADDRESS_TYPES[version], config) for version in config.ip_versions))
    ttl = min((answer.ttl if isinstance(answer, Answer) else 0 for answer in answers), default=0)
    failures = [answer for answer in answers if isinstance(answer, LookupFailure)]
    yielding = [answer for answer in answers if isinstance(answer, Answer) and answer.records]
    for failure in failures:
        fact = f"the {failure.question.rdtype} lookup of {host} failed ({failure.kind})"
        if config.address_families is AddressFamilies.BOTH:
            trace.append(Step("RFC 7672 section 2.2.2", fact, "the host is not used"))
            return Addresses(skip=SkipReason.ADDRESS_LOOKUP_FAILED, failure=failure.kind)
        if not yielding:
            trace.append(Step("RFC 7672 section 2.1.2", fact, "the host is not used"))
            return Addresses(skip=SkipReason.ADDRESS_LOOKUP_FAILED, failure=failure.kind)
        trace.append(Step("Config.address_families", fact, "the other family is used"))
    if not yielding:
        trace.append(Step("RFC 7672 section 2.2.2", f"{host} has no addresses", "the host is unreachable"))
        return Addresses(ttl=ttl, skip=SkipReason.NO_ADDRESSES)
    found = tuple(dict.fromkeys(canonical_address(str(text)) for answer in yielding for text in answer.records))
    secure = all(answer.secure for answer in yielding)
    fact = f"{host} has {counted(len(found), 'address')} ({'secure' if secure else 'insecure'})"
    trace.append(Step("RFC 7672 section 2.2.2", fact, "the host is reachable"))
    if len(found) > config.max_addresses:
        fact = f"{len(found)} addresses are more than max_addresses"
        trace.append(Step("Config.max_addresses", fact, f"the first {config.max_addresses} are kept"))
    # The aliases of the two families differ only if they changed in between; the first that yields decides.
    is_loopback_own = config.loopback_is_own and not chosen
    own = (text for text in found if text in config.own_addresses or (is_loopback_own and is_local_address(text)))
    first = yielding[0]
    return Addresses(
        found[: config.max_addresses], next(own, None), secure, first.aliases, first.believed, first.dname, ttl
    )


def find_tlsa(
    host: str, port: int, addresses: Addresses, further_ids: Sequence[str], config: Config, trace: list[Step]
) -> Program[TlsaSearch]:
    """Find the TLSA base domain and its records (RFC 7672 sections 2.2.2 and 2.2.3); steps are added to the trace.

    Args:
        host: the host name that was looked up, canonical.
        port: TCP port of the server, which the TLSA owner name bears.
        addresses: what `find_addresses` found.
        further_ids: the reference identifiers beside the base domain (section 3.2.2).
        config: limits, and what makes a record usable.
        trace: the steps so far.
    """
    candidates = yield from _candidates(host, addresses, config, trace)
    if candidates.error is not None:
        return TlsaSearch(TlsaOutcome.ERROR, None, candidates.error, candidates.failure, candidates.ttl)
    ttl = candidates.ttl
    for base_domain in candidates.domains:
        owner = f"_{port}._tcp.{base_domain}"
        if len(owner) > MAX_NAME_OCTETS:
            fact = f"the TLSA owner name below {base_domain} would be too long to exist"
            trace.append(Step("RFC 1035 section 3.1", fact, "it is not the base domain"))
            continue
        answer = yield from lookup(owner, RecordType.TLSA, config)
        if isinstance(answer, LookupFailure):
            fact = f"the TLSA lookup of {owner} failed ({answer.kind})"
            trace.append(Step("RFC 7672 section 2.1.2", fact, "the host counts as unreachable"))
            return TlsaSearch(TlsaOutcome.ERROR, None, SkipReason.TLSA_LOOKUP_FAILED, answer.kind, ttl=0)
        ttl = lowest_ttl(ttl, answer.ttl)
        if len(answer.records) > config.max_tlsa_records:
            fact = f"{owner} has {len(answer.records)} TLSA records, more than max_tlsa_records"
            trace.append(Step("Config.max_tlsa_records", fact, "the host counts as unreachable"))
            return TlsaSearch(TlsaOutcome.ERROR, error=SkipReason.TLSA_LOOKUP_FAILED, ttl=ttl)
        if answer.secure and answer.records:
            records = TlsaRRset(record for record in answer.records if isinstance(record, Tlsa))
            reference_ids = tuple(dict.fromkeys((base_domain, *further_ids)))
            binding = TlsaBinding(base_domain, base_domain, reference_ids, records)
            return _found(binding, ttl, config, trace)
        fact = f"{owner} has {'only insecure' if answer.records else 'no'} TLSA records"
        trace.append(Step("RFC 7672 section 2.2.3", fact, "it is not the base domain"))
    return TlsaSearch(TlsaOutcome.ABSENT, ttl=ttl)


def _candidates(host: str, addresses: Addresses, config: Config, trace: list[Step]) -> Program[_Candidates]:
    """The candidate TLSA base domains, in order: the cases of RFC 7672 section 2.2.2."""
    if not addresses.aliases:
        if addresses.secure:
            return _Candidates((host,))
        trace.append(Step("RFC 7672 section 2.2.2", f"the addresses of {host} are insecure", "no TLSA lookup"))
        return _Candidates()
    if addresses.secure:
        expanded = addresses.aliases[-1]
        try:
            expanded = canonical(expanded)
        except ValueError:  # RFC 6698 section 3: a base domain is made of host name labels
            fact = f"{host} is an alias of {expanded!r}, which is no host name"
            trace.append(Step("RFC 6698 section 3", fact, "the host counts as unreachable"))
            return _Candidates(error=SkipReason.ALIAS_LOOKUP_FAILED)
        fact = f"{host} is a secure alias of {expanded}"
        trace.append(Step("RFC 7672 section 2.2.2", fact, "both are candidate base domains, the expanded name first"))
        return _Candidates((expanded, host))
    if not addresses.believed:  # no answer can make a difference
        trace.append(Step("RFC 7672 section 2.2.2", f"{host} is an insecure alias", "DANE does not apply"))
        return _Candidates()
    first = yield from _first_alias(host, addresses, config)
    if isinstance(first, LookupFailure):
        fact = f"the {first.question.rdtype} lookup of {first.question.name} failed ({first.kind})"
        trace.append(Step("RFC 7672 section 2.1.2", fact, "the host counts as unreachable"))
        return _Candidates(error=SkipReason.ALIAS_LOOKUP_FAILED, failure=first.kind, ttl=0)
    if first.secure:
        fact = f"{host} is a secure alias that leads to insecure addresses"
        trace.append(Step("RFC 7672 section 2.2.2", fact, "only the name itself is a candidate base domain"))
        return _Candidates((host,), ttl=first.ttl)
    trace.append(Step("RFC 7672 section 2.2.2", f"{host} is an insecure alias", "DANE does not apply"))
    return _Candidates(ttl=first.ttl)


def _first_alias(host: str, addresses: Addresses, config: Config) -> Program[Answer | LookupFailure]:
    """The record that makes a host an alias, and how secure it is (RFC 7672 section 2.1.3)."""
    if addresses.dname is not None:  # the alias itself has no signature (RFC 6672 section 5.3.1)
        return lookup(addresses.dname, RecordType.DNAME, config)
    return lookup(host, RecordType.CNAME, config)


def _found(binding: TlsaBinding, ttl: int | None, config: Config, trace: list[Step]) -> TlsaSearch:
    owner, records = binding.base_domain, counted(len(binding.records), "secure TLSA record")
    if usable := len(binding.records.usable(config)):
        fact = f"{owner} has {records}, {usable} of them usable"
        trace.append(Step("RFC 7672 section 2.2", fact, "TLS and authentication are required"))
        return TlsaSearch(TlsaOutcome.USABLE, binding, ttl=ttl)
    for record in binding.records:
        fact = f"the record {str(record)[:40]} is unusable: {record.why_unusable(config)}"
        trace.append(Step("RFC 7671 section 10.3", fact, "it is set aside"))
    fact = f"{owner} has {records}, none of them usable"
    trace.append(Step("RFC 7672 section 2.2", fact, "TLS is required, without authentication"))
    return TlsaSearch(TlsaOutcome.UNUSABLE, binding, ttl=ttl)
