"""Validating, not validating, inconsistent and broken resolvers are told apart."""

from __future__ import annotations

from itertools import cycle
from typing import Any

import pytest

from mailtlspolicy import drive
from mailtlspolicy.doctor import ROUNDS, Diagnosis, Validation, examine
from mailtlspolicy.effects import Answer, FailureKind, LookupFailure

# What the resolver says of the signed name and of the bogus one: an answer with the AD bit, without, or a failure.
AD, PLAIN, FAILS = "ad", "plain", "fails"


def diagnose(*rounds: tuple[str, str]) -> Diagnosis:
    """The diagnosis of a resolver that behaves like this, one round after the other and over again."""
    said = {"signed.test": cycle([signed for signed, _ in rounds]), "bogus.test": cycle([bogus for _, bogus in rounds])}

    def perform(effect: Any) -> Answer | LookupFailure:
        word = next(said[effect.name])
        if word == FAILS:
            return LookupFailure(effect, FailureKind.SERVFAIL)
        return Answer(effect, secure=word == AD, records=("192.0.2.1",))

    return drive(examine("Signed.Test.", "bogus.test"), perform)


@pytest.mark.parametrize(
    ("signed", "bogus", "want"),
    [
        (AD, FAILS, Validation.VALIDATING),
        (AD, PLAIN, Validation.INCONSISTENT),
        (AD, AD, Validation.INCONSISTENT),  # a stub that sets the bit whatever it hears
        (PLAIN, FAILS, Validation.NOT_VALIDATING),  # something strips the bit
        (PLAIN, PLAIN, Validation.NOT_VALIDATING),
        (FAILS, FAILS, Validation.BROKEN),
        (FAILS, PLAIN, Validation.BROKEN),
    ],
)
def test_what_a_resolver_says_of_two_names_tells_what_it_is(signed: str, bogus: str, want: Validation) -> None:
    diagnosis = diagnose((signed, bogus))
    assert diagnosis.validation is want
    assert "signed.test" in diagnosis.detail
    assert Diagnosis.from_json(diagnosis.to_json()) == diagnosis


@pytest.mark.parametrize("other", [(PLAIN, PLAIN), (FAILS, FAILS), (PLAIN, FAILS)])
@pytest.mark.parametrize("good_rounds", range(1, ROUNDS))
def test_two_resolvers_that_answer_in_turn_are_inconsistent(other: tuple[str, str], good_rounds: int) -> None:
    rounds = [(AD, FAILS)] * good_rounds + [other] * (ROUNDS - good_rounds)
    diagnosis = diagnose(*rounds)
    assert diagnosis.validation is Validation.INCONSISTENT
    assert "again" in diagnosis.detail


def test_a_name_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="address"):
        drive(examine("192.0.2.1"), lambda _: None)
