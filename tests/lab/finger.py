"""posttls-finger (Debian's postfix), the oracle: what Postfix makes of a next-hop, read from its output.

It always exits with status 0 and tells its verdict in a line "posttls-finger: Verified TLS connection established to
HOST[ADDRESS]:PORT". No such line means that no TLS session came about; another line may say why.
"""

from __future__ import annotations

import os
import re
import subprocess
from typing import TYPE_CHECKING

from attrs import frozen

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_SECONDS = 120
_LINE = re.compile(
    r"^posttls-finger: (Verified|Trusted|Untrusted|Anonymous) TLS connection established to ([^\[]+)\[", re.MULTILINE
)
_MATCH = re.compile(
    r"Matched DANE (EE|TA) (certificate|public key|public key verified certificate) at depth (\d+): (\d+ \d+ \d+) (\S+)"
)
_NAME = re.compile(r"matched peername: (\S+)")
_TLSA_FOUND = "DNSSEC-signed TLSA record"
_ALL_UNUSABLE = "all TLSA records unusable"

# Why no TLS session came about, in the words that our own results have for it; the first that is found.
_ENDINGS = (
    ("does not accept mail (nullMX)", "null-mx"),
    ("Destination address lookup failed", "lookup-failed"),
    ("TLSA lookup error", "tlsa-lookup-failed"),
    ("STARTTLS rejected", "starttls-refused"),
    ("SSL_connect error", "handshake-failed"),
    ("Failed to establish session", "connect-failed"),
)


@frozen
class Match:
    """The TLSA record that authenticated the peer, and the name that the certificate bears, where names counted."""

    mechanism: str
    depth: int
    parameters: str
    data: re.Pattern[str]
    name: str | None

    def names(self, reference_id: str | None) -> bool:
        """Whether the name is, or is a wildcard for, the reference identifier (None: no name was checked)."""
        if self.name is None or reference_id is None:
            return self.name is reference_id
        return self.name in {reference_id, f"*.{reference_id.partition('.')[2]}"}

    @classmethod
    def from_output(cls, output: str) -> Match | None:
        found = _MATCH.search(output)
        if found is None:
            return None
        kind, what, depth, parameters, data = found.groups()
        # long data are shown with their middle left out
        pattern = ".*".join(map(re.escape, data.lower().split("...")))
        name = _NAME.search(output) if kind == "TA" else None
        # OpenSSL counts up to the certificate that a bare key verified; we count the key
        beyond = what == "public key verified certificate"
        return cls(f"dane-{kind.lower()}", int(depth) + beyond, parameters, re.compile(pattern), name and name.group(1))


@frozen
class Finger:
    """What posttls-finger said.

    Attributes:
        word: `Verified`, `Trusted`, `Untrusted`, or None where no TLS session came about.
        host: the host that the session was with.
        match: the TLSA record that matched.
        output: all of it.
    """

    word: str | None
    host: str | None
    match: Match | None
    output: str

    @property
    def answer(self) -> str:
        """The verdict, in the words that our own results have for it."""
        if self.word is None:
            return next((answer for text, answer in _ENDINGS if text in self.output), "starttls-absent")
        # It does not act on a failure, and says Untrusted just as where there was nothing to authenticate.
        demanded = _TLSA_FOUND in self.output and _ALL_UNUSABLE not in self.output
        if self.word == "Untrusted" and demanded:
            return "not-authenticated"
        return self.word.lower()


def ask(next_hop: str, options: Sequence[str], environment: Mapping[str, str]) -> Finger:
    """Ask posttls-finger about a next-hop at level `dane`, or as the options say."""
    command = ["posttls-finger", "-c", "-l", "dane", "-L", "summary,verbose", "-t", "5", "-T", "5", *options, next_hop]
    done = subprocess.run(
        command,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_SECONDS,
        check=True,
    )
    line = _LINE.search(done.stdout)
    word, host = line.groups() if line else (None, None)
    return Finger(word, host, Match.from_output(done.stdout), done.stdout)
