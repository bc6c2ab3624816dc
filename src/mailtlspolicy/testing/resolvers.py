"""What every resolver has to hold to, as checks that any test runner can run, of resolvers made elsewhere too.

A check takes a resolver to which the DNS is `WORLD`, and raises an `AssertionError` that says what is wrong. How that
comes about is for the resolver's author to say:

- One that is handed its data is handed `WORLD`, an object of the world format: zones, and questions that fail.
- A stub asks a nameserver, and `nameserver()` is one; `loopback.LoopbackNameserver` puts it on a socket.
- One that validates by itself needs the zones signed, below a trust anchor of its own; the insecure zone unsigned below
  a signed parent, the bogus one with signatures that do not verify.

The resolver has to believe what it is told, as over a secured channel (RFC 7672 section 2.1.1), and to have asked none
of it before; it should wait no longer than a second. A search list that it might fall for has `SEARCH` in it.

>>> from mailtlspolicy.world.world import World
>>> for check in RESOLVER_CHECKS:
...     check(World.from_json(WORLD).resolver)

With pytest: `@pytest.mark.parametrize("check", RESOLVER_CHECKS)`. An `AsyncResolver` is checked through an
`event_loop.EventLoopThread`, which makes it look like a synchronous one. Where a resolver takes somebody else's word
that data is secure, it is also made so that it may not, and that one goes through `DISTRUST_CHECKS`. One for asyncio,
and one that threads are to share, goes through `SHARED_CHECKS` too.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from mailtlspolicy.dns.effects import Answer, FailureKind, Lookup, LookupFailure, Mx, RecordType
from mailtlspolicy.testing._expect import expect, require
from mailtlspolicy.testing.nameserver import StaticNameserver
from mailtlspolicy.tlsa import Tlsa
from mailtlspolicy.world.world import World

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mailtlspolicy.engine import Resolver

SEARCH = "search.test"
"""The domain in a search list that a resolver might fall for."""
_SPENT = 30  # seconds by which the TTL from a cache may be lower
_MANY = 60  # TLSA records: more than any datagram holds
_LABEL = "a" * 63
_LONG = ".".join([_LABEL, _LABEL, _LABEL, "b" * 49, "secure.test"])  # 253 octets: no label fits in front of it

WORLD: Mapping[str, Any] = {
    "zones": {
        "test": {"security": "secure", "denial_ttl": 600, "records": []},
        "secure.test": {
            "security": "secure",
            "denial_ttl": 120,
            "records": [
                "@ MX 10 mx",
                "@ MX 20 mx_2",
                "null MX 0 .",
                "mx A 192.0.2.1",
                "mx A 192.0.2.2",
                "mx AAAA 2001:db8::1",
                "mx_2 A 192.0.2.3",
                '_mta-sts TXT "v=STSv1; " "id=1;"',
                '_mta-sts TXT "" "\\255\\000"',
                "_25._tcp.mx TLSA 2 0 1 " + "ab" * 32,
                "_25._tcp.mx TLSA 3 1 1 " + "01" * 32,
                "_25._tcp.mx TLSA 3 1 1 " + "cd" * 32,
                "_25._tcp.short TLSA 3 1 1 abcd",
                "_25._tcp.short TLSA 3 1 1 " + "ef" * 32,
                *(f"_25._tcp.many TLSA 3 1 1 {number:064x}" for number in range(_MANY)),
                "alias 300 CNAME second",
                "second 60 CNAME third.other.test.",
                "to-missing CNAME missing",
                "to-no-data CNAME mx_2",
                "to-insecure CNAME host.insecure.test.",
                "to-insecure-missing CNAME missing.insecure.test.",
                "to-bogus CNAME host.bogus.test.",
                "to-servfail CNAME servfail",
                "alone CNAME mx_2",
                "loop CNAME loop-2",
                "loop-2 CNAME loop",
                "below 200 DNAME other.test.",
                "under_score A 192.0.2.10",
                "_25._tcp.under_score TLSA 3 1 1 " + "12" * 32,
                '_smtp._tls TXT "v=TLSRPTv1; rua=mailto:reports@secure.test"',
                "brief 7 A 192.0.2.7",
                f"{_LONG}. A 192.0.2.8",
            ],
        },
        "other.test": {
            "security": "secure",
            "denial_ttl": 30,
            "records": ["third 900 A 192.0.2.4", "third 900 TXT third"],
        },
        "insecure.test": {
            "security": "insecure",
            "denial_ttl": 120,
            "records": ["host A 192.0.2.5", "@ MX 10 host", "to-secure CNAME brief.secure.test."],
        },
        "bogus.test": {"security": "bogus", "records": ["host A 192.0.2.6", "_25._tcp.host TLSA 3 1 1 " + "ab" * 32]},
        SEARCH: {"security": "secure", "records": ["host A 192.0.2.9", "host.site A 192.0.2.9"]},
    },
    "failures": [
        {"name": "servfail.secure.test", "type": "*", "kind": "servfail"},
        {"name": "refused.secure.test", "type": "*", "kind": "refused"},
        {"name": "notimp.secure.test", "type": "*", "kind": "notimp"},
        {"name": "silent.secure.test", "type": "*", "kind": "timeout"},
        {"name": "indeterminate.secure.test", "type": "*", "kind": "indeterminate"},
    ],
}
"""The DNS that a resolver under test has to have, in the world format."""


def nameserver() -> StaticNameserver:
    """A validating nameserver, from octets to octets, which answers from `WORLD`."""
    return StaticNameserver(World.from_json(WORLD).resolver, frozenset({"alone.secure.test"}))


def _ask(resolver: Resolver, name: str, rdtype: str) -> Answer | LookupFailure:
    """Ask; what is raised is told as what it is, a failure of the world that should have been returned."""
    question = Lookup(name, RecordType(rdtype))
    try:
        result: object = resolver.lookup(question)
    except Exception as error:
        raise AssertionError(f"{name} {rdtype}: {error!r:.200} was raised; a failure is returned") from error
    if not isinstance(result, Answer | LookupFailure):
        raise AssertionError(f"{name} {rdtype}: {result!r:.200} is neither an Answer nor a LookupFailure")
    return result


def _answer(resolver: Resolver, name: str, rdtype: str) -> Answer:
    result = _ask(resolver, name, rdtype)
    if not isinstance(result, Answer):
        raise AssertionError(f"{name} {rdtype}: {result!r:.300} in place of an answer")
    return result


def _records(resolver: Resolver, name: str, rdtype: str) -> tuple[Any, ...]:
    return _answer(resolver, name, rdtype).records


def _fails(resolver: Resolver, name: str, rdtype: str, *kinds: FailureKind) -> None:
    result = _ask(resolver, name, rdtype)
    if not isinstance(result, LookupFailure):
        raise AssertionError(f"{name} {rdtype}: {result!r:.300} in place of a failure")
    shown = " or ".join(kinds)
    require(result.kind in kinds, f"{name} {rdtype}: the kind of the failure is {result.kind}, and should be {shown}")


# What an answer is


def the_question_comes_back(resolver: Resolver) -> None:
    """In every result, the very question that was asked, not the last that was sent on its account."""
    for name in ("mx.secure.test", "alias.secure.test", "missing.secure.test", "servfail.secure.test", "x.bogus.test"):
        result = _ask(resolver, name, "A")
        expect(result.question, Lookup(name, RecordType.A), f"the question in the result for {name}")


def records_have_their_form(resolver: Resolver) -> None:
    """Addresses are texts in their canonical form, MX records `Mx`, without the final dot of the exchange."""
    addresses = sorted(_records(resolver, "mx.secure.test", "A"))
    expect(addresses, ["192.0.2.1", "192.0.2.2"], "the addresses of mx.secure.test")
    expect(_records(resolver, "mx.secure.test", "AAAA"), ("2001:db8::1",), "the IPv6 addresses of mx.secure.test")
    hosts = sorted(_records(resolver, "secure.test", "MX"), key=str)
    expect(hosts, [Mx(10, "mx.secure.test"), Mx(20, "mx_2.secure.test")], "the MX records of secure.test")


def a_null_mx_is_the_root(resolver: Resolver) -> None:
    """Its exchange is ".", which says that there is no mail (RFC 7505 section 3), and no empty text."""
    expect(_records(resolver, "null.secure.test", "MX"), (Mx(0, "."),), "the null MX of null.secure.test")


def the_strings_of_a_txt_record_stay_apart(resolver: Resolver) -> None:
    """A tuple of `bytes` a record, whatever the octets: who reads it joins them (RFC 8461 section 3.1)."""
    found = sorted(_records(resolver, "_mta-sts.secure.test", "TXT"))
    wanted = [(b"", b"\xff\x00"), (b"v=STSv1; ", b"id=1;")]
    expect(found, wanted, "the TXT records of _mta-sts.secure.test, each a tuple of its strings")


def tlsa_records_are_sorted(resolver: Resolver) -> None:
    """`Tlsa` values in the order of their octets, so that the plans of one domain are equal whatever turns RRsets."""
    wanted = [Tlsa(2, 0, 1, b"\xab" * 32), Tlsa(3, 1, 1, b"\x01" * 32), Tlsa(3, 1, 1, b"\xcd" * 32)]
    found = _records(resolver, "_25._tcp.mx.secure.test", "TLSA")
    expect(list(found), wanted, "the TLSA records of _25._tcp.mx.secure.test, sorted")


def a_tlsa_record_of_odd_length_is_a_record(resolver: Resolver) -> None:
    """It is unusable, which is decided later, and costs the others nothing (RFC 6698 section 4.1)."""
    found = set(_records(resolver, "_25._tcp.short.secure.test", "TLSA"))
    wanted = {Tlsa(3, 1, 1, b"\xab\xcd"), Tlsa(3, 1, 1, b"\xef" * 32)}
    expect(found, wanted, "the TLSA records of _25._tcp.short.secure.test, one with a digest of two octets")


def an_answer_larger_than_a_datagram_is_whole(resolver: Resolver) -> None:
    """A truncated one is asked for again over TCP (RFC 7766 section 5); a part of an RRset is none."""
    found = _records(resolver, "_25._tcp.many.secure.test", "TLSA")
    expect(len(set(found)), _MANY, "the number of TLSA records of _25._tcp.many.secure.test")


def the_ttl_is_the_lowest(resolver: Resolver) -> None:
    """Of all that the answer rests on: data, aliases, a denial's SOA (RFC 2308 section 5). A cache has spent some."""
    for name, rdtype, ttl, why in (
        ("mx.secure.test", "A", 3600, "of its records"),
        ("alias.secure.test", "A", 60, "of the second alias"),
        ("x.below.secure.test", "A", 30, "of the denial behind a DNAME"),
        ("third.below.secure.test", "A", 200, "of the DNAME"),
        ("mx_2.secure.test", "AAAA", 120, "of the denial"),
        ("missing.secure.test", "A", 120, "of the denial"),
    ):
        got = _answer(resolver, name, rdtype).ttl
        in_bounds = max(ttl - _SPENT, 1) <= got <= ttl
        require(in_bounds, f"{name} {rdtype}: the TTL is {got} in place of {ttl}, the one {why}")


# Absence


def absence_is_an_answer(resolver: Resolver) -> None:
    """NXDOMAIN and NODATA are no failures: an RRset that is not there lets mail flow (RFC 7672 section 2.1.1)."""
    for name, rdtype in (
        ("missing.secure.test", "TLSA"),
        ("mx_2.secure.test", "AAAA"),
        ("missing.insecure.test", "MX"),
        ("host.insecure.test", "MX"),
        ("to-missing.secure.test", "A"),
        ("to-no-data.secure.test", "AAAA"),
    ):
        answer = _answer(resolver, name, rdtype)
        expect(answer.records, (), f"{name} {rdtype}: the records where there are none")
        require(answer.complete, f"{name} {rdtype}: a denial that was given is called incomplete")


def a_name_that_does_not_exist_is_told_from_one_without_data(resolver: Resolver) -> None:
    """Only the latter has an implicit MX (RFC 5321 section 5.1). Behind aliases it is the last name that counts."""
    for name, rdtype, nxdomain in (
        ("missing.secure.test", "MX", True),
        ("mx.secure.test", "MX", False),
        ("missing.insecure.test", "MX", True),
        ("host.insecure.test", "AAAA", False),
        ("to-missing.secure.test", "A", True),
        ("to-no-data.secure.test", "AAAA", False),
        ("mx.secure.test", "A", False),
    ):
        got = _answer(resolver, name, rdtype).nxdomain
        expect(got, nxdomain, f"{name} {rdtype}: nxdomain")


# Names


def no_search_list_applies(resolver: Resolver) -> None:
    """Names are absolute, with few labels too: a search list would find another domain's hosts."""
    for name in ("host", "host.site"):
        answer = _answer(resolver, name, "A")
        expect(answer.records, (), f"the addresses of {name}, which does not exist")


def underscores_are_letters_like_others(resolver: Resolver) -> None:
    """The names of TLSA and MTA-STS records have them (RFC 6698 section 3), and host names are met that do."""
    for name, rdtype, number in (
        ("_25._tcp.under_score.secure.test", "TLSA", 1),
        ("_smtp._tls.secure.test", "TXT", 1),
        ("under_score.secure.test", "A", 1),
    ):
        expect(len(_records(resolver, name, rdtype)), number, f"{name} {rdtype}: the number of records")


def a_name_that_can_not_be_asked_raises_nothing(resolver: Resolver) -> None:
    """Names are made of what the DNS says: a host name of 253 octets, and a label in front of that."""
    expect(_records(resolver, _LONG, "A"), ("192.0.2.8",), "the addresses of a name of 253 octets")
    for name in (f"_25._tcp.{_LONG}", f"{_LABEL}{_LABEL}.secure.test"):
        result = _ask(resolver, name, "TLSA")
        is_none = isinstance(result, LookupFailure) or not result.records
        require(is_none, f"{result!r:.200}: an answer with records for a name that there can not be")


# Security


def secure_data_is_secure(resolver: Resolver) -> None:
    """Or DANE never applies, and nobody notices."""
    for name, rdtype in (("mx.secure.test", "A"), ("secure.test", "MX"), ("_25._tcp.mx.secure.test", "TLSA")):
        require(_answer(resolver, name, rdtype).secure, f"{name} {rdtype}: validated data is called insecure")


def secure_denials_are_secure(resolver: Resolver) -> None:
    """Every response has a status, those without data too (RFC 7672 section 2.1.1)."""
    for name, rdtype in (
        ("missing.secure.test", "TLSA"),
        ("mx_2.secure.test", "AAAA"),
        ("to-missing.secure.test", "A"),
    ):
        require(_answer(resolver, name, rdtype).secure, f"{name} {rdtype}: a validated denial is called insecure")


def insecure_data_is_insecure(resolver: Resolver) -> None:
    """Who calls it secure lets anybody forge TLSA records (RFC 7672 section 2.1.1)."""
    for name, rdtype in (("host.insecure.test", "A"), ("insecure.test", "MX")):
        require(
            not _answer(resolver, name, rdtype).secure, f"{name} {rdtype}: data without signatures is called secure"
        )


def insecure_denials_are_insecure(resolver: Resolver) -> None:
    """Who calls them secure takes the word of an attacker that strips records."""
    for name, rdtype in (("missing.insecure.test", "TLSA"), ("host.insecure.test", "AAAA")):
        what = f"{name} {rdtype}: a denial without signatures is called secure"
        require(not _answer(resolver, name, rdtype).secure, what)


def a_chain_of_aliases_is_as_secure_as_its_weakest_link(resolver: Resolver) -> None:
    """Secure is said of the whole response, aliases and denial included (RFC 7672 section 2.1.3)."""
    for name, secure in (
        ("alias.secure.test", True),
        ("to-insecure.secure.test", False),
        ("to-insecure-missing.secure.test", False),
        ("to-secure.insecure.test", False),
    ):
        got = _answer(resolver, name, "A").secure
        require(got == secure, f"{name} A: secure is {got}, though its chain of aliases is {secure=}")


def an_alias_itself_is_as_secure_as_its_zone(resolver: Resolver) -> None:
    """The question for CNAME follows none: that is how the first link of a chain is judged (section 2.1.3 there)."""
    for name, secure in (("to-insecure.secure.test", True), ("to-secure.insecure.test", False)):
        got = _answer(resolver, name, "CNAME").secure
        expect(got, secure, f"{name} CNAME: secure")


def a_resolver_that_is_believed_says_so(resolver: Resolver) -> None:
    """Also where data is insecure: an insecure alias is asked about only then."""
    for name in ("mx.secure.test", "host.insecure.test", "missing.insecure.test"):
        require(
            _answer(resolver, name, "A").believed, f"{name} A: believed is False of a resolver that is to be believed"
        )


# Failures


def bogus_data_is_a_failure(resolver: Resolver) -> None:
    """Neither data nor a denial, behind aliases too: mail waits (RFC 7672 section 2.1.1)."""
    for name, rdtype in (
        ("host.bogus.test", "A"),
        ("_25._tcp.host.bogus.test", "TLSA"),
        ("host.bogus.test", "AAAA"),
        ("missing.bogus.test", "TLSA"),
        ("to-bogus.secure.test", "A"),
    ):
        _fails(resolver, name, rdtype, FailureKind.BOGUS)


def an_error_of_the_nameserver_is_a_failure(resolver: Resolver) -> None:
    """Of the kind that it says; behind aliases too; never an answer that has no records (RFC 7672 section 2.1.1)."""
    for name, rdtype, kind in (
        ("servfail.secure.test", "TLSA", FailureKind.SERVFAIL),
        ("to-servfail.secure.test", "A", FailureKind.SERVFAIL),
        ("refused.secure.test", "TLSA", FailureKind.REFUSED),
        ("notimp.secure.test", "TLSA", FailureKind.NOTIMP),
        ("indeterminate.secure.test", "TLSA", FailureKind.INDETERMINATE),
    ):
        _fails(resolver, name, rdtype, kind)


def silence_is_a_failure(resolver: Resolver) -> None:
    """After a time, and none of this system's own, which would say nothing of the domain."""
    _fails(resolver, "silent.secure.test", "TLSA", FailureKind.TIMEOUT, FailureKind.NETWORK)


def a_loop_of_aliases_is_a_failure(resolver: Resolver) -> None:
    """It has no end to look at, and no denial of anything. Some nameservers call it SERVFAIL."""
    _fails(resolver, "loop.secure.test", "A", FailureKind.LOOP, FailureKind.SERVFAIL)


# Aliases


def aliases_are_told_hop_by_hop(resolver: Resolver) -> None:
    """Each target in its order, the last of which owns the records or their denial (RFC 7672 section 2.2.2)."""
    for name, rdtype, aliases in (
        ("mx.secure.test", "A", ()),
        ("missing.secure.test", "A", ()),
        ("alias.secure.test", "A", ("second.secure.test", "third.other.test")),
        ("alias.secure.test", "TXT", ("second.secure.test", "third.other.test")),
        ("to-missing.secure.test", "A", ("missing.secure.test",)),
        ("third.below.secure.test", "A", ("third.other.test",)),
    ):
        expect(_answer(resolver, name, rdtype).aliases, aliases, f"{name} {rdtype}: the aliases")
    expect(_records(resolver, "alias.secure.test", "A"), ("192.0.2.4",), "the addresses of alias.secure.test")


def a_question_for_an_alias_follows_none(resolver: Resolver) -> None:
    """Its target is the record. Below a DNAME there is one too, the alias that the DNAME makes."""
    for name, rdtype, target in (
        ("alias.secure.test", "CNAME", "second.secure.test"),
        ("third.below.secure.test", "CNAME", "third.other.test"),
        ("below.secure.test", "DNAME", "other.test"),
    ):
        answer = _answer(resolver, name, rdtype)
        expect((answer.records, answer.aliases), ((target,), ()), f"{name} {rdtype}: the records and the aliases")
    answer = _answer(resolver, "mx.secure.test", "CNAME")
    expect(
        (answer.records, answer.aliases), ((), ()), "mx.secure.test CNAME, which is none: the records and the aliases"
    )


def a_dname_is_told(resolver: Resolver) -> None:
    """The owner of the one that makes the first alias: whoever asks how secure that is asks for the DNAME then."""
    for name, rdtype, dname in (
        ("third.below.secure.test", "A", "below.secure.test"),
        ("missing.below.secure.test", "A", "below.secure.test"),
        ("alias.secure.test", "A", None),
        ("mx.secure.test", "A", None),
    ):
        expect(_answer(resolver, name, rdtype).dname, dname, f"{name} {rdtype}: dname")


def an_alias_without_its_target_is_incomplete(resolver: Resolver) -> None:
    """It may come so, and then nothing is denied: the target has to be asked for (RFC 7672 section 2.1.3)."""
    answer = _answer(resolver, "alone.secure.test", "A")
    expect(answer.aliases, ("mx_2.secure.test",), "alone.secure.test A: the aliases")
    got = answer.records, answer.complete, answer.nxdomain
    is_whole, is_part = got == (("192.0.2.3",), True, False), got == ((), False, False)
    require(
        is_whole or is_part,
        "alone.secure.test A: the alias came without the data of its target; that is to be asked for, or complete is "
        f"to be False, but records, complete and nxdomain are {got!r:.200}",
    )


# Of a resolver that has to take an untrusted word


def what_is_not_believed_is_not_secure(resolver: Resolver) -> None:
    """Nor does the resolver claim to be believed; all else is as ever (RFC 7672 section 2.1.1)."""
    for name, rdtype in (("mx.secure.test", "A"), ("missing.secure.test", "TLSA"), ("alias.secure.test", "A")):
        answer = _answer(resolver, name, rdtype)
        require(not answer.secure, f"{name} {rdtype}: secure, by the word of somebody who is not believed")
        require(not answer.believed, f"{name} {rdtype}: believed is True of a resolver that is not to be believed")


# Of a resolver that is asked several questions at a time


def lookups_side_by_side_are_kept_apart(resolver: Resolver) -> None:
    """An asynchronous engine asks about all hosts at once, and threads may share a resolver."""
    wanted = {"mx_2": "192.0.2.3", "alias": "192.0.2.4", "brief": "192.0.2.7", "under_score": "192.0.2.10"}
    names = [f"{name}.secure.test" for name in wanted] * 8
    with ThreadPoolExecutor(len(wanted)) as pool:
        for name, result in zip(names, pool.map(lambda name: _ask(resolver, name, "A"), names), strict=True):
            expect(result.question, Lookup(name, RecordType.A), "the question in the result, of several at a time")
            records = result.records if isinstance(result, Answer) else result
            expect(
                records, (wanted[name.partition(".")[0]],), f"{name} A: the addresses, of several questions at a time"
            )


RESOLVER_CHECKS: tuple[Callable[[Resolver], None], ...] = (
    the_question_comes_back,
    records_have_their_form,
    a_null_mx_is_the_root,
    the_strings_of_a_txt_record_stay_apart,
    tlsa_records_are_sorted,
    a_tlsa_record_of_odd_length_is_a_record,
    an_answer_larger_than_a_datagram_is_whole,
    the_ttl_is_the_lowest,
    absence_is_an_answer,
    a_name_that_does_not_exist_is_told_from_one_without_data,
    no_search_list_applies,
    underscores_are_letters_like_others,
    a_name_that_can_not_be_asked_raises_nothing,
    secure_data_is_secure,
    secure_denials_are_secure,
    insecure_data_is_insecure,
    insecure_denials_are_insecure,
    a_chain_of_aliases_is_as_secure_as_its_weakest_link,
    an_alias_itself_is_as_secure_as_its_zone,
    a_resolver_that_is_believed_says_so,
    bogus_data_is_a_failure,
    an_error_of_the_nameserver_is_a_failure,
    silence_is_a_failure,
    a_loop_of_aliases_is_a_failure,
    aliases_are_told_hop_by_hop,
    a_question_for_an_alias_follows_none,
    a_dname_is_told,
    an_alias_without_its_target_is_incomplete,
)
"""The checks of a resolver that is to be believed."""

DISTRUST_CHECKS: tuple[Callable[[Resolver], None], ...] = (what_is_not_believed_is_not_secure,)
"""The checks of a resolver that is not to be believed."""

SHARED_CHECKS: tuple[Callable[[Resolver], None], ...] = (lookups_side_by_side_are_kept_apart,)
"""The checks of a resolver for asyncio, and of one that threads share."""
