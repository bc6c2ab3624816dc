"""`doctor`: whether a resolver validates and may be believed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mailtlspolicy.adapters.dns import DnsResolver
from mailtlspolicy.cli import NO, OK
from mailtlspolicy.cli._shared import print_answer, resolver_of
from mailtlspolicy.dns import doctor
from mailtlspolicy.drivers import drive

if TYPE_CHECKING:
    from argparse import Namespace


def run(arguments: Namespace) -> int:
    """Print what each nameserver does; NO where one does not validate, or where none may be believed."""
    resolver = resolver_of(arguments)
    found: dict[str, doctor.Diagnosis] = {}
    for nameserver in map(str, resolver.nameservers):
        # trust_ad: to see the bit, whether or not it is to be believed
        alone = DnsResolver(nameservers=[nameserver], timeout=resolver.timeout, trust_ad=True)
        program = doctor.examine(
            arguments.signed_name, arguments.bogus_names or doctor.BOGUS_NAMES, arguments.unsigned_name
        )
        found[nameserver] = drive(program, alone.lookup)
    diagnosis = doctor.put_together(found)
    trusted = resolver.trusted
    lines = [f"{diagnosis.validation}: {diagnosis.detail}"]
    if len(diagnosis.nameservers) > 1:
        lines += (f"  {each.nameserver}: {each.validation}: {each.detail}" for each in diagnosis.nameservers)
    belief = "is believed: loopback, or --trust-ad" if trusted else "is not believed: not on loopback, no --trust-ad"
    text = "\n".join([*lines, f"its word {belief}"])
    print_answer(arguments, diagnosis.to_json() | {"trusted": trusted}, text)
    return OK if trusted and diagnosis.validation is doctor.Validation.VALIDATING else NO
