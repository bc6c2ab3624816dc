"""`match`: a certificate chain beside TLSA records, as DANE judges it."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING

from mailtlspolicy import dane
from mailtlspolicy.cli import NO, OK
from mailtlspolicy.cli._shared import print_answer
from mailtlspolicy.cli._texts import verdict_text
from mailtlspolicy.tlsa import Tlsa, TlsaRRset
from mailtlspolicy.x509.pem import certificates_from_pem

if TYPE_CHECKING:
    from argparse import Namespace


def run(arguments: Namespace) -> int:
    """Print the verdict; NO where it is not satisfied."""
    records = TlsaRRset(map(Tlsa.parse, arguments.tlsa))
    chain = certificates_from_pem(arguments.chain.read_text("ascii", errors="replace"))
    now = arguments.at or datetime.now(timezone.utc)
    verdict = dane.verify(chain, records, arguments.name, now=now)
    print_answer(arguments, verdict.to_json(), verdict_text(verdict))
    return OK if verdict.satisfied else NO
