"""All our resolvers go through the checks for resolvers, and each check finds the resolver that breaks its rule."""

from __future__ import annotations

import itertools
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import pytest
from attrs import evolve, frozen

from mailtlspolicy.adapters.dns import AsyncDnsResolver, DnsResolver
from mailtlspolicy.dns.effects import Answer, FailureKind, Lookup, LookupFailure, Mx, RecordType
from mailtlspolicy.testing.event_loop import EventLoopThread
from mailtlspolicy.testing.loopback import LoopbackNameserver
from mailtlspolicy.testing.resolvers import DISTRUST_CHECKS, RESOLVER_CHECKS, SEARCH, SHARED_CHECKS, WORLD, nameserver
from mailtlspolicy.world.world import World

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mailtlspolicy.engine import Resolver

Check = "Callable[[Resolver], None]"
STATIC = World.from_json(WORLD).resolver
PATIENCE = 20.0  # seconds; what has to end in silence gets by with less


@pytest.fixture(scope="module")
def server() -> Iterator[LoopbackNameserver]:
    with LoopbackNameserver(nameserver()) as server:
        yield server


@contextmanager
def static(_: str, **__: Any) -> Iterator[Resolver]:
    yield STATIC


@contextmanager
def blocking(address: str, **settings: Any) -> Iterator[Resolver]:
    yield DnsResolver(nameservers=[address], attempts=1, **settings)


@contextmanager
def asynchronous(address: str, **settings: Any) -> Iterator[Resolver]:
    with EventLoopThread() as loop:
        yield loop.synchronous(AsyncDnsResolver(nameservers=[address], attempts=1, **settings))


@pytest.mark.parametrize("kind", [static, blocking, asynchronous])
@pytest.mark.parametrize("check", RESOLVER_CHECKS)
def test_a_resolver_conforms(check: Callable[[Resolver], None], kind: Any, server: LoopbackNameserver) -> None:
    with kind(server.address, timeout=0.2 if check.__name__ == "silence_is_a_failure" else PATIENCE) as resolver:
        check(resolver)


@pytest.mark.parametrize("kind", [blocking, asynchronous])
@pytest.mark.parametrize("check", DISTRUST_CHECKS)
def test_a_resolver_that_may_not_believe_conforms(
    check: Callable[[Resolver], None], kind: Any, server: LoopbackNameserver
) -> None:
    with kind(server.address, timeout=PATIENCE, trust_ad=False) as resolver:
        check(resolver)


@pytest.mark.parametrize("kind", [static, blocking, asynchronous])
@pytest.mark.parametrize("check", SHARED_CHECKS)
def test_a_resolver_that_is_shared_conforms(
    check: Callable[[Resolver], None], kind: Any, server: LoopbackNameserver
) -> None:
    with kind(server.address, timeout=PATIENCE) as resolver:
        check(resolver)


# Resolvers that break one rule each


@frozen
class Broken:
    """The static resolver with its results spoilt."""

    spoil: Callable[[Any], Any]

    def lookup(self, question: Lookup) -> Any:
        return self.spoil(STATIC.lookup(question))


def answers(when: Callable[[Answer], Any], **changes: Any) -> Callable[[Any], Any]:
    """Changes what answers say, of which this holds; a function is given the answer."""

    def spoil(result: Any) -> Any:
        if not isinstance(result, Answer) or not when(result):
            return result
        given = {name: value(result) if callable(value) else value for name, value in changes.items()}
        return evolve(result, **given)

    return spoil


def failures(when: Callable[[LookupFailure], bool], become: Callable[[LookupFailure], Any]) -> Callable[[Any], Any]:
    return lambda result: become(result) if isinstance(result, LookupFailure) and when(result) else result


def of(*kinds: FailureKind) -> Callable[[LookupFailure], bool]:
    return lambda failure: failure.kind in kinds


def as_denial(failure: LookupFailure) -> Answer:
    return Answer(failure.question, secure=False)


def as_servfail(failure: LookupFailure) -> LookupFailure:
    return evolve(failure, kind=FailureKind.SERVFAIL)


def raised(failure: LookupFailure) -> Any:
    raise TimeoutError(failure.detail)


def asked(rdtype: str) -> Callable[[Answer], bool]:
    return lambda answer: answer.question.rdtype == rdtype


def named(*names: str) -> Callable[[Answer | LookupFailure], bool]:
    return lambda answer: answer.question.name.partition(".")[0] in names


def searches(result: Any) -> Any:
    if isinstance(result, Answer) and result.nxdomain and "test" not in result.question.name:
        found = STATIC.lookup(Lookup(f"{result.question.name}.{SEARCH}", result.question.rdtype))
        return evolve(found, question=result.question)
    return result


def refuses_long_names(result: Any) -> Any:
    if max(map(len, result.question.name.split("."))) > 63 or len(result.question.name) > 253:
        raise ValueError("no name")
    return result


def joins(answer: Answer) -> tuple[Any, ...]:
    return tuple(b"".join(record) for record in answer.records)  # type: ignore[arg-type]


def without_short(answer: Answer) -> tuple[Any, ...]:
    return tuple(record for record in answer.records if len(record.data) == 32)  # type: ignore[union-attr]


def final_dots(answer: Answer) -> tuple[Any, ...]:
    return tuple(
        Mx(each.preference, each.exchange.rstrip(".") + ".") for each in answer.records if isinstance(each, Mx)
    )


def follows(result: Any) -> Any:
    if isinstance(result, Answer) and result.question.rdtype is RecordType.CNAME and result.records:
        found = STATIC.lookup(Lookup(result.question.name, RecordType.AAAA))
        return Answer(result.question, result.secure, (), getattr(found, "aliases", ()))
    return result


def has(answer: Answer) -> bool:
    return bool(answer.records)


def denies(answer: Answer) -> bool:
    return not answer.records


def direct(answer: Answer) -> bool:
    return not answer.aliases and answer.question.rdtype is not RecordType.CNAME


def in_insecure(answer: Answer) -> bool:
    return answer.question.name.endswith("insecure.test")


BROKEN: list[tuple[str, Callable[[Any], Any]]] = [
    (
        "the_question_comes_back",
        answers(lambda it: it.aliases, question=lambda it: Lookup(it.name, it.question.rdtype)),
    ),
    ("the_question_comes_back", failures(named("servfail"), lambda it: evolve(it, question=Lookup("", RecordType.A)))),
    ("records_have_their_form", answers(asked("AAAA"), records=lambda it: ("2001:DB8:0::1",) if it.records else ())),
    (
        "records_have_their_form",
        answers(lambda it: asked("MX")(it) and it.question.name == "secure.test", records=final_dots),
    ),
    ("a_null_mx_is_the_root", answers(named("null"), records=(Mx(0, ""),))),
    ("a_null_mx_is_the_root", answers(named("null"), records=())),
    ("the_strings_of_a_txt_record_stay_apart", answers(named("_mta-sts"), records=joins)),
    ("tlsa_records_are_sorted", answers(asked("TLSA"), records=lambda it: it.records[::-1])),
    ("a_tlsa_record_of_odd_length_is_a_record", answers(asked("TLSA"), records=without_short)),
    ("an_answer_larger_than_a_datagram_is_whole", answers(has, records=lambda it: it.records[:20])),
    ("the_ttl_is_the_lowest", answers(has, ttl=3600)),
    ("the_ttl_is_the_lowest", answers(denies, ttl=3600)),
    ("the_ttl_is_the_lowest", answers(has, ttl=0)),
    ("the_ttl_is_the_lowest", answers(lambda it: it.dname and has(it), ttl=900)),
    ("the_ttl_is_the_lowest", answers(lambda it: it.dname and denies(it), ttl=200)),
    ("absence_is_an_answer", answers(lambda it: denies(it) and len(it.aliases) == 1 and it.secure, complete=False)),
    ("a_name_that_does_not_exist_is_told_from_one_without_data", answers(denies, nxdomain=True)),
    ("a_name_that_does_not_exist_is_told_from_one_without_data", answers(denies, nxdomain=False)),
    ("no_search_list_applies", searches),
    ("underscores_are_letters_like_others", answers(lambda it: "under_score" in it.question.name, records=())),
    ("underscores_are_letters_like_others", answers(named("_smtp"), records=())),
    ("a_name_that_can_not_be_asked_raises_nothing", refuses_long_names),
    ("secure_data_is_secure", answers(lambda it: has(it) and direct(it), secure=False)),
    ("secure_denials_are_secure", answers(denies, secure=False)),
    ("insecure_data_is_insecure", answers(lambda it: has(it) and direct(it), secure=True)),
    ("insecure_denials_are_insecure", answers(lambda it: denies(it) and direct(it), secure=True)),
    (
        "a_chain_of_aliases_is_as_secure_as_its_weakest_link",
        answers(lambda it: it.aliases, secure=lambda it: not in_insecure(it)),
    ),
    (
        "a_chain_of_aliases_is_as_secure_as_its_weakest_link",
        answers(lambda it: it.aliases, secure=lambda it: "insecure" not in it.aliases[-1]),
    ),
    ("an_alias_itself_is_as_secure_as_its_zone", answers(asked("CNAME"), secure=True)),
    ("an_alias_itself_is_as_secure_as_its_zone", answers(asked("CNAME"), secure=False)),
    ("a_resolver_that_is_believed_says_so", answers(in_insecure, believed=False)),
    ("bogus_data_is_a_failure", failures(of(FailureKind.BOGUS), as_denial)),
    ("bogus_data_is_a_failure", failures(of(FailureKind.BOGUS), as_servfail)),
    ("an_error_of_the_nameserver_is_a_failure", failures(of(FailureKind.REFUSED), as_denial)),
    ("an_error_of_the_nameserver_is_a_failure", failures(of(FailureKind.INDETERMINATE), as_servfail)),
    ("an_error_of_the_nameserver_is_a_failure", failures(of(FailureKind.REFUSED), raised)),
    ("silence_is_a_failure", failures(of(FailureKind.TIMEOUT), raised)),
    ("silence_is_a_failure", failures(of(FailureKind.TIMEOUT), lambda it: evolve(it, kind=FailureKind.LOCAL))),
    ("a_loop_of_aliases_is_a_failure", failures(of(FailureKind.LOOP), as_denial)),
    ("aliases_are_told_hop_by_hop", answers(lambda it: len(it.aliases) > 1, aliases=lambda it: it.aliases[-1:])),
    ("aliases_are_told_hop_by_hop", answers(asked("TXT"), aliases=())),
    ("a_question_for_an_alias_follows_none", answers(asked("CNAME"), aliases=lambda it: it.records)),
    ("a_dname_is_told", answers(lambda it: it.dname, dname=None)),
    ("a_dname_is_told", answers(lambda it: it.aliases and not it.dname, dname="secure.test")),
    ("an_alias_without_its_target_is_incomplete", answers(named("alone"), records=())),
    ("an_alias_without_its_target_is_incomplete", answers(named("alone"), records=(), nxdomain=True, complete=False)),
]


def failing(checks: Any, resolver: Any) -> list[str]:
    """The names of the checks that a resolver fails, each with a sentence."""
    return [check.__name__ for check in checks if fails(check, resolver)]


def fails(check: Callable[[Any], None], part: Any) -> bool:
    try:
        check(part)
    except AssertionError as error:
        return bool(str(error))
    return False


@pytest.mark.parametrize(("name", "spoil"), BROKEN)
def test_a_check_finds_the_resolver_that_breaks_its_rule(name: str, spoil: Callable[[Any], Any]) -> None:
    assert failing(RESOLVER_CHECKS, Broken(spoil)) == [name]


@pytest.mark.parametrize("field", ["secure", "believed"])
def test_a_resolver_that_believes_what_it_may_not_is_found(field: str) -> None:
    humble = answers(lambda _: True, secure=False, believed=False)
    assert failing(DISTRUST_CHECKS, Broken(humble)) == []
    spoil = answers(named("mx"), **{field: True})
    assert failing(DISTRUST_CHECKS, Broken(lambda result: spoil(humble(result)))) == [
        "what_is_not_believed_is_not_secure"
    ]


class Mixing:
    """Answers the first question as if it were the second, which it waits for where there are threads to ask it."""

    def __init__(self, *, shared: bool) -> None:
        self.shared = shared
        self.numbers = itertools.count()
        self.another = threading.Event()

    def lookup(self, question: Lookup) -> Any:
        number = next(self.numbers)
        if number == 1:
            self.second = question
            self.another.set()
        elif number == 0 and self.shared:
            assert self.another.wait(PATIENCE)
            question = self.second
        return STATIC.lookup(question)


def test_a_resolver_that_mixes_up_questions_is_found() -> None:
    assert failing(RESOLVER_CHECKS, Mixing(shared=False)) == []
    assert failing(SHARED_CHECKS, Mixing(shared=True)) == ["lookups_side_by_side_are_kept_apart"]


def test_no_check_is_without_a_resolver_that_fails_it() -> None:
    assert {check.__name__ for check in RESOLVER_CHECKS} == {name for name, _ in BROKEN}


# The nameserver of the suite


def sent(query: dns.message.Message, **how: bool) -> dns.message.Message:
    reply = nameserver().reply(query.to_wire(), **how)
    assert reply is not None
    read = dns.message.from_wire(reply)
    assert read.id == query.id
    assert read.question == query.question
    return read


def test_the_nameserver_says_ad_to_who_wants_to_know() -> None:
    query = dns.message.make_query("mx.secure.test", "A")
    assert not sent(query).flags & dns.flags.AD
    query.flags |= dns.flags.AD
    assert sent(query).flags & dns.flags.AD
    assert sent(dns.message.make_query("mx.secure.test", "A", want_dnssec=True)).flags & dns.flags.AD


def test_the_nameserver_gives_bogus_data_only_where_checking_is_disabled() -> None:
    query = dns.message.make_query("host.bogus.test", "A", use_edns=0)
    refused = sent(query)
    assert (refused.rcode(), refused.answer) == (dns.rcode.SERVFAIL, [])
    assert [int(option.otype) for option in refused.options] == [dns.edns.OptionType.EDE]
    assert sent(dns.message.make_query("host.bogus.test", "A")).options == ()
    query.flags |= dns.flags.CD | dns.flags.AD
    given = sent(query)
    assert [str(rrset) for rrset in given.answer] == ["host.bogus.test. 3600 IN A 192.0.2.6"]
    assert not given.flags & dns.flags.AD


@pytest.mark.parametrize("size", [None, 1232])
def test_the_nameserver_truncates_what_is_too_long(size: int | None) -> None:
    query = dns.message.make_query("_25._tcp.many.secure.test", "TLSA", payload=size)
    assert sent(query).flags & dns.flags.TC
    assert sent(query).answer == []
    assert len(sent(query, stream=True).answer[0]) == 60


@pytest.mark.parametrize("query", [b"", b"x" * 40, dns.message.make_query("silent.secure.test", "A", id=1).to_wire()])
def test_the_nameserver_can_be_silent(query: bytes) -> None:
    assert nameserver().reply(query) is None
