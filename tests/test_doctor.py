"""Validating, not validating, inconsistent and broken resolvers are told apart, and each of several nameservers."""

from __future__ import annotations

from itertools import cycle
from typing import Any

import pytest

from mailtlspolicy import World, drive
from mailtlspolicy.dns.doctor import ROUNDS, Diagnosis, Examined, Validation, examine, put_together
from mailtlspolicy.dns.effects import Answer, FailureKind, LookupFailure

# What a resolver says of a name: an answer with the AD bit, without, that there is no such name, or a failure.
AD, PLAIN, GONE = "ad", "plain", "gone"
FAILS, BOGUS, SILENT = FailureKind.SERVFAIL, FailureKind.BOGUS, FailureKind.TIMEOUT

NAMES = ("signed.test", "plain.test", "bogus.test", "other.test")


def diagnose(*rounds: tuple[str, ...], asked: list[str] | None = None) -> Diagnosis:
    """The diagnosis of a resolver that behaves like this, one round after the other and over again.

    A round is what it says of the signed, the unsigned and the bogus names.
    """
    said = {name: cycle([words[index] for words in rounds]) for index, name in enumerate(NAMES[: len(rounds[0])])}

    def perform(effect: Any) -> Answer | LookupFailure:
        if asked is not None:
            asked.append(effect.name)
        word = next(said[effect.name])
        if isinstance(word, FailureKind):
            return LookupFailure(effect, word)
        return Answer(effect, secure=word == AD, records=() if word == GONE else ("192.0.2.1",), nxdomain=word == GONE)

    return drive(examine("Signed.Test.", NAMES[2 : len(rounds[0])], "plain.test"), perform)


@pytest.mark.parametrize(
    ("said", "want", "words"),
    [
        ((AD, PLAIN, BOGUS, FAILS), Validation.VALIDATING, "signed.test is secure, plain.test is not, and"),
        ((AD, PLAIN, FAILS), Validation.VALIDATING, "bogus.test is refused"),
        ((AD, GONE, BOGUS, BOGUS), Validation.VALIDATING, "bogus.test and other.test are refused"),
        # a stub that sets the bit whatever it hears
        ((AD, AD, AD, AD), Validation.INCONSISTENT, "plain.test, which is not signed, is called secure"),
        ((AD, AD, BOGUS, BOGUS), Validation.INCONSISTENT, "plain.test, which is not signed, is called secure"),
        # bogus data is answered; a negative trust anchor for one of two
        ((AD, PLAIN, PLAIN, PLAIN), Validation.INCONSISTENT, "bogus.test and other.test are answered as well"),
        ((AD, PLAIN, BOGUS, PLAIN), Validation.INCONSISTENT, "other.test is answered as well"),
        ((AD, PLAIN, AD, BOGUS), Validation.INCONSISTENT, "bogus.test is answered as well"),
        # the AD bit is taken away
        ((PLAIN, PLAIN, BOGUS, BOGUS), Validation.NOT_VALIDATING, "the AD bit is missing for signed.test"),
        ((PLAIN, PLAIN, PLAIN, PLAIN), Validation.NOT_VALIDATING, "bogus.test and other.test are answered"),
        ((PLAIN, PLAIN, BOGUS, PLAIN), Validation.NOT_VALIDATING, "other.test is answered"),
        # signatures are taken away before a resolver that validates
        ((BOGUS, PLAIN, BOGUS, BOGUS), Validation.BROKEN, "something takes signatures away"),
        ((FAILS, PLAIN, FAILS, FAILS), Validation.BROKEN, "signed.test, which is signed, failed (servfail)"),
        ((FAILS, PLAIN, PLAIN, PLAIN), Validation.BROKEN, "signed.test, which is signed, failed (servfail)"),
        # names that tell nothing
        ((AD, PLAIN, BOGUS, GONE), Validation.VALIDATING, "bogus.test is refused"),
        ((AD, PLAIN, SILENT, BOGUS), Validation.VALIDATING, "other.test is refused"),
        (
            (AD, PLAIN, SILENT, GONE),
            Validation.BROKEN,
            "failed (timeout); the lookup of other.test found no",
        ),
        ((AD, SILENT, BOGUS, BOGUS), Validation.BROKEN, "plain.test, which is not signed, failed (timeout)"),
    ],
)
def test_what_a_resolver_says_of_some_names_tells_what_it_is(
    said: tuple[str, ...], want: Validation, words: str
) -> None:
    diagnosis = diagnose(said)
    assert diagnosis.validation is want
    assert words in diagnosis.detail
    assert Diagnosis.from_json(diagnosis.to_json()) == diagnosis


@pytest.mark.parametrize("other", [(PLAIN, PLAIN, PLAIN), (FAILS, FAILS, FAILS), (PLAIN, PLAIN, FAILS)])
@pytest.mark.parametrize("good_rounds", range(1, ROUNDS))
def test_two_resolvers_that_answer_in_turn_are_inconsistent(other: tuple[str, ...], good_rounds: int) -> None:
    rounds = [(AD, PLAIN, FAILS)] * good_rounds + [other] * (ROUNDS - good_rounds)
    diagnosis = diagnose(*rounds)
    assert diagnosis.validation is Validation.INCONSISTENT
    assert "again" in diagnosis.detail


def test_the_loss_of_the_bit_in_a_cache_shows_in_the_order_in_which_it_was_seen() -> None:
    diagnosis = diagnose((AD, PLAIN, BOGUS), (PLAIN, PLAIN, BOGUS))
    assert diagnosis.validation is Validation.INCONSISTENT
    first, second = diagnosis.detail.split("; then again: ")
    assert "signed.test is secure" in first
    assert "a forwarder or its cache" in second


def test_a_nameserver_that_keeps_silent_is_asked_once() -> None:
    asked: list[str] = []
    assert diagnose((SILENT, SILENT, SILENT), asked=asked).validation is Validation.BROKEN
    assert asked == ["signed.test"]


def test_the_doctor_examines_a_world() -> None:
    world = World.from_json(
        {
            "zones": {
                "signed.example": {"records": ["@ A 192.0.2.1"]},
                "plain.example": {"security": "insecure", "records": ["@ A 192.0.2.1"]},
                "bogus.example": {"security": "bogus", "records": ["@ A 192.0.2.1"]},
            }
        }
    )
    lookup: Any = world.resolver.lookup
    names = ("signed.example", "bogus.example", "plain.example")
    assert drive(examine(*names), lookup).validation is Validation.VALIDATING
    unsigned = ("signed.example", "bogus.example", "signed.example")
    assert drive(examine(*unsigned), lookup).validation is Validation.INCONSISTENT


@pytest.mark.parametrize("names", [("192.0.2.1",), ("a.test", "192.0.2.1"), ("a.test", "b.test", "192.0.2.1")])
def test_a_name_that_is_none_is_refused(names: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="address"):
        drive(examine(*names), lambda _: None)


def test_no_bogus_name_is_refused() -> None:
    with pytest.raises(ValueError, match="bogus"):
        drive(examine("a.test", ()), lambda _: None)


# --- several nameservers


def found(validation: Validation) -> Diagnosis:
    return Diagnosis(validation, f"it is {validation}")


def test_a_nameserver_that_does_not_validate_is_told_beside_one_that_does() -> None:
    diagnosis = put_together({"127.0.0.1:53": found(Validation.VALIDATING), "[::1]:53": found(Validation.BROKEN)})
    assert diagnosis.validation is Validation.BROKEN
    assert diagnosis.detail == "127.0.0.1:53 is validating, [::1]:53 is broken: whichever answers decides"
    assert diagnosis.nameservers == (
        Examined("127.0.0.1:53", Validation.VALIDATING, "it is validating"),
        Examined("[::1]:53", Validation.BROKEN, "it is broken"),
    )
    assert Diagnosis.from_json(diagnosis.to_json()) == diagnosis


def test_nameservers_that_agree_are_what_each_is() -> None:
    same = put_together({"127.0.0.1:53": found(Validation.VALIDATING), "[::1]:53": found(Validation.VALIDATING)})
    assert (same.validation, same.detail) == (
        Validation.VALIDATING,
        "127.0.0.1:53 is validating, [::1]:53 is validating",
    )
    alone = put_together({"127.0.0.1:53": found(Validation.VALIDATING)})
    assert (alone.validation, alone.detail) == (Validation.VALIDATING, "it is validating")


@pytest.mark.parametrize("better", range(len(Validation)))
@pytest.mark.parametrize("worse", range(len(Validation)))
def test_the_worst_counts_wherever_it_stands(better: int, worse: int) -> None:
    # A bit that is set wrongly is worse than one that is missing, and that worse than no answer.
    order = [Validation.VALIDATING, Validation.BROKEN, Validation.NOT_VALIDATING, Validation.INCONSISTENT]
    diagnosis = put_together({"127.0.0.1": found(order[better]), "127.0.0.2": found(order[worse])})
    assert diagnosis.validation is order[max(better, worse)]


@pytest.mark.parametrize("nameserver", ["127.0.0.53", "127.0.0.53:53"])
def test_the_stub_of_systemd_resolved_is_named_and_never_validating(nameserver: str) -> None:
    diagnosis = put_together({nameserver: found(Validation.VALIDATING)})
    assert diagnosis.validation is Validation.INCONSISTENT
    assert "systemd-resolved" in diagnosis.detail
    assert "it is validating" in diagnosis.detail
    diagnosis = put_together({nameserver: found(Validation.NOT_VALIDATING)})
    assert diagnosis.validation is Validation.NOT_VALIDATING
    assert "systemd-resolved" in diagnosis.detail


def test_another_server_at_the_address_of_systemd_resolved_is_not_it() -> None:
    diagnosis = put_together({"127.0.0.53:5353": found(Validation.VALIDATING)})
    assert diagnosis.validation is Validation.VALIDATING


def test_a_resolver_without_nameservers_is_none() -> None:
    with pytest.raises(ValueError, match="nameserver"):
        put_together({})


def test_a_diagnosis_that_was_written_before_nameservers_were_told_is_read() -> None:
    data = {key: value for key, value in found(Validation.BROKEN).to_json().items() if key != "nameservers"}
    assert Diagnosis.from_json(data) == found(Validation.BROKEN)
