"""One lookup, however the resolver answers aliases (RFC 7672 section 2.1.3)."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve

from mailtlspolicy import Config, Tlsa, drive
from mailtlspolicy.dns.effects import Answer, FailureKind, Lookup, LookupFailure, Mx, RecordType
from mailtlspolicy.dns.lookups import lookup

A = RecordType.A
DEFAULT = Config()


def question(name: str) -> Lookup:
    return Lookup(name, A)


def hop(name: str, target: str, *, secure: bool = True, ttl: int = 300) -> Answer:
    """A CNAME without the data of its target."""
    return Answer(question(name), secure, aliases=(target,), complete=False, ttl=ttl)


def run(answers: list[Any], config: Config = DEFAULT, name: str = "a.example") -> tuple[Any, list[str]]:
    """What the lookup of a name returns over these answers, and the names it asked for."""
    by_question = {answer.question: answer for answer in answers}
    asked: list[str] = []

    def perform(effect: Any) -> Any:
        asked.append(effect.name)
        return by_question[effect]

    return drive(lookup(name, A, config), perform), asked


def test_an_alias_without_its_targets_data_is_followed_by_asking_for_the_target() -> None:  # RFC7672-2.1.3-c
    end = Answer(question("c.example"), secure=True, records=("192.0.2.1",), ttl=60)
    got, asked = run([hop("a.example", "b.example"), hop("b.example", "c.example", ttl=30), end])
    assert asked == ["a.example", "b.example", "c.example"]
    assert got == Answer(
        question("a.example"), secure=True, records=("192.0.2.1",), aliases=("b.example", "c.example"), ttl=30
    )
    assert got.name == "c.example"


@pytest.mark.parametrize("insecure", [0, 1, 2])
def test_one_insecure_link_makes_the_rest_of_the_chain_insecure(insecure: int) -> None:  # RFC7672-2.1.3-f
    chain = [
        hop("a.example", "b.example", secure=insecure != 0),
        hop("b.example", "c.example", secure=insecure != 1),
        Answer(question("c.example"), secure=insecure != 2, records=("192.0.2.1",)),
    ]
    got, _ = run(chain)
    assert got.records == ("192.0.2.1",)
    assert not got.secure


@pytest.mark.parametrize("nxdomain", [False, True])
def test_a_denial_at_the_end_of_a_chain_is_an_answer(*, nxdomain: bool) -> None:  # RFC7672-2.1.1-k
    got, _ = run([hop("a.example", "b.example"), Answer(question("b.example"), secure=True, nxdomain=nxdomain)])
    assert (got.records, got.nxdomain, got.name) == ((), nxdomain, "b.example")


def test_an_error_at_any_hop_fails_the_question_that_was_asked() -> None:  # RFC7672-2.1.3-e
    failure = LookupFailure(question("b.example"), FailureKind.TIMEOUT, "no reply")
    got, _ = run([hop("a.example", "b.example"), failure])
    assert got == LookupFailure(question("a.example"), FailureKind.TIMEOUT, "no reply")


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize(("hops", "fails"), [(3, False), (4, True)])
def test_aliases_are_followed_up_to_the_limit_and_no_further(hops: int, *, fails: bool, whole: bool) -> None:
    """RFC7672-2.1.3-d: whether the resolver answers the whole chain or one link at a time."""
    names = [f"n{number}.example" for number in range(hops + 1)]
    chain: list[Answer]
    if whole:
        chain = [Answer(question(names[0]), secure=True, records=("192.0.2.1",), aliases=tuple(names[1:]))]
    else:
        chain = [hop(names[number], names[number + 1]) for number in range(hops)]
        chain.append(Answer(question(names[-1]), secure=True, records=("192.0.2.1",)))
    got, asked = run(chain, Config(max_alias_hops=3), names[0])
    if fails:
        assert got.kind is FailureKind.LOOP
        assert names[-1] not in asked
    else:
        assert got.records == ("192.0.2.1",)


@pytest.mark.parametrize("targets", [["a.example"], ["b.example", "a.example"], ["b.example", "b.example"]])
def test_a_loop_is_a_failure_found_when_a_name_comes_again(targets: list[str]) -> None:
    names = ["a.example", *targets]
    got, asked = run([hop(names[number], names[number + 1]) for number in range(len(targets))])
    assert got.kind is FailureKind.LOOP
    assert len(asked) == len(targets)


def test_the_dname_of_the_first_alias_is_kept_and_no_later_one() -> None:
    first = evolve(hop("a.x.example", "a.b.test"), dname="x.example")
    second = evolve(hop("a.b.test", "a.c.test"), dname="b.test")
    end = Answer(question("a.c.test"), secure=True, records=("192.0.2.1",))
    got, _ = run([first, second, end], name="a.x.example")
    assert (got.dname, got.aliases, got.complete) == ("x.example", ("a.b.test", "a.c.test"), True)
    got, _ = run([second, end], name="a.b.test")
    assert got.dname == "b.test"
    got, _ = run([hop("a.example", "a.b.test"), second, end])
    assert got.dname is None
    got, _ = run([evolve(end, aliases=("a.d.test",), dname="c.test")], name="a.c.test")
    assert got.dname == "c.test"


@pytest.mark.parametrize("believed", [True, False])
def test_whether_the_resolver_is_believed_is_kept(*, believed: bool) -> None:
    answers = [evolve(hop("a.example", "b.example", secure=False), believed=believed)]
    answers.append(Answer(question("b.example"), secure=False, believed=believed))
    got, _ = run(answers)
    assert got.believed is believed


@pytest.mark.parametrize(
    ("rdtype", "result"),
    [
        (A, None),
        (A, Answer(question("a.example"), secure=True, believed=False)),
        (A, Answer(question("a.example"), secure=True, dname="example")),
        (A, Answer(question("a.example"), secure=True, aliases=("b.test",), dname="a.example")),
        (A, Answer(question("a.example"), secure=True, aliases=("b.test",), dname="ample")),
        (RecordType.DNAME, Answer(Lookup("a.example", RecordType.DNAME), secure=True, records=(Mx(1, "a"),))),
        (A, ("192.0.2.1",)),
        (A, Answer(question("other.example"), secure=True)),
        (A, Answer(Lookup("a.example", RecordType.AAAA), secure=True)),
        (A, Answer(question("a.example"), secure=True, records=(Mx(10, "mx.example"),))),
        (A, Answer(question("a.example"), secure=True, records=("192.0.2.1",), aliases=("b.example",), complete=False)),
        (A, Answer(question("a.example"), secure=True, complete=False)),
        (A, Answer(question("a.example"), secure=True, records=("mx.example",))),
        (A, Answer(question("a.example"), secure=True, records=("2001:db8::1",))),
        (RecordType.AAAA, Answer(Lookup("a.example", RecordType.AAAA), secure=True, records=("192.0.2.1",))),
        (RecordType.MX, Answer(Lookup("a.example", RecordType.MX), secure=True, records=("10 mx.example",))),
        (RecordType.TLSA, Answer(Lookup("a.example", RecordType.TLSA), secure=True, records=("3 1 1 ab",))),
        (RecordType.CNAME, Answer(Lookup("a.example", RecordType.CNAME), secure=True, records=(Tlsa(3, 1, 1, b""),))),
    ],
)
def test_a_result_outside_the_contract_is_a_type_error_and_never_read_as_absence(rdtype: Any, result: Any) -> None:
    with pytest.raises(TypeError):
        drive(lookup("a.example", rdtype, Config()), lambda _: result)
