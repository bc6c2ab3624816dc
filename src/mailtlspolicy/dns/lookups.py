"""One DNS lookup as RFC 7672 section 2.1.3 wants it, however the resolver answers aliases.

- An answer that holds a CNAME without the data of its target is completed by asking for the target.
- A chain with one insecure link is insecure from there to its end.
- A loop, a chain longer than `Config.max_alias_hops`, or a failure at any hop fails the lookup as a whole.
- A failure is never read as absence, and what the contract does not know raises `BrokenContract`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import evolve

from mailtlspolicy.dns.effects import Answer, FailureKind, Lookup, LookupFailure, Mx, RecordType
from mailtlspolicy.effects import BrokenContract, ask
from mailtlspolicy.names import canonical_address
from mailtlspolicy.tlsa import Tlsa

if TYPE_CHECKING:
    from mailtlspolicy.config import Config
    from mailtlspolicy.effects import Program

_RECORD_CLASSES = {RecordType.MX: Mx, RecordType.TLSA: Tlsa, RecordType.TXT: tuple}


def lookup(name: str, rdtype: RecordType, config: Config) -> Program[Answer | LookupFailure]:
    """Ask for the records of a name, following aliases to the end (RFC 7672 section 2.1.3).

    Returns an `Answer` to the question asked, its alias chain whole and its `secure` that of the whole chain, or a
    `LookupFailure`.
    """
    question = asked = Lookup(name, rdtype)
    secure = True
    aliases: tuple[str, ...] = ()
    ttls: list[int] = []
    dname: str | None = None
    while True:
        answer = yield from ask(asked)
        if isinstance(answer, LookupFailure):
            return LookupFailure(question, answer.kind, answer.detail)
        _check_contract(answer, asked)
        if answer.complete and not answer.aliases and not aliases:  # as most are: it is what was asked for
            return answer
        secure = secure and answer.secure
        dname = dname if aliases else answer.dname  # of the first alias, which the first answer has if there is one
        aliases += answer.aliases
        ttls.append(answer.ttl)
        if not {"", "."}.isdisjoint(answer.aliases):
            return LookupFailure(question, FailureKind.MALFORMED, "an alias of the root, which is no host")
        if len(aliases) > config.max_alias_hops or len({name, *aliases}) <= len(aliases):
            return LookupFailure(question, FailureKind.LOOP, f"{len(aliases)} aliases and no end")
        if answer.complete:
            return evolve(answer, question=question, secure=secure, aliases=aliases, ttl=min(ttls), dname=dname)
        asked = Lookup(answer.name, rdtype)


def lowest_ttl(*ttls: int | None) -> int | None:
    """The lowest of these TTLs, in seconds; None stands for a question that was not asked."""
    return min((ttl for ttl in ttls if ttl is not None), default=None)


def _check_contract(answer: Answer, asked: Lookup) -> None:
    """Refuse what an injected resolver has no business to return."""
    if answer.question != asked:
        raise _broken(asked, f"the answer to {answer.question}")
    if answer.secure and not answer.believed:
        raise _broken(asked, "an answer that is secure, of a resolver that is not believed")
    if not answer.complete and (answer.records or not answer.aliases):
        raise _broken(asked, "an incomplete answer that has records, or no alias to follow")
    if answer.dname is not None and not (answer.aliases and _lies_below(asked.name, answer.dname)):
        raise _broken(asked, f"a DNAME at {answer.dname!r:.80}, which makes no alias of it")
    kind = _RECORD_CLASSES.get(asked.rdtype, str)
    if not all(isinstance(record, kind) for record in answer.records):
        raise _broken(asked, f"something else than {kind.__name__} records")
    if asked.rdtype in {RecordType.A, RecordType.AAAA}:
        for record in answer.records:
            _check_address(str(record), asked)


def _lies_below(name: str, owner: str) -> bool:
    name, owner = (each.lower().removesuffix(".") for each in (name, owner))
    return not owner or name.endswith(f".{owner}")


def _check_address(text: str, asked: Lookup) -> None:
    try:
        address = canonical_address(text)
    except ValueError:
        raise _broken(asked, f"{text!r:.80}, which is no address") from None
    if (":" in address) != (asked.rdtype is RecordType.AAAA):
        raise _broken(asked, f"{text!r}, which is of the other family")


def _broken(asked: Lookup, why: str) -> BrokenContract:
    return BrokenContract(asked.performer, asked, why)
