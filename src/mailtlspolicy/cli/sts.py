"""`sts`: what a domain publishes for MTA-STS, and what is cached of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mailtlspolicy.cli import NO, OK
from mailtlspolicy.cli._shared import engine_of, print_answer
from mailtlspolicy.cli._texts import escaped
from mailtlspolicy.sts.effects import StoreFailure

if TYPE_CHECKING:
    from argparse import Namespace

    from mailtlspolicy.sts.cache import Entry
    from mailtlspolicy.sts.examine import Examination


def run(arguments: Namespace) -> int:
    """Print the record, the policy and the cache; NO where a sender discovers no policy."""
    found = engine_of(arguments).examine_sts(arguments.domain)
    print_answer(arguments, found.to_json(), examination_text(found))
    return OK if found.passed else NO


def examination_text(found: Examination) -> str:
    """What a policy domain publishes for MTA-STS, with the remarks of a linter, and what is cached of it."""
    lines = [f"record: {found.found.detail}"]
    lines += (f"  {escaped(text.decode('ascii', 'backslashreplace'))}" for text in found.found.announced)
    if found.found.record is not None:
        lines += (f"  remark: {remark}" for remark in found.found.record.warnings)
    lines.append(f"policy: {found.fetched.detail}")
    if found.fetched.body is not None:
        lines += (f"  {line}" for line in _printable(found.fetched.body))
    if found.fetched.policy is not None:
        lines += (f"  remark: {remark}" for remark in found.fetched.policy.warnings)
    lines += _cached_lines(found.cached)
    lines.append("a sender discovers this policy" if found.passed else "a sender discovers no policy")
    return "\n".join(lines)


def _cached_lines(cached: Entry | StoreFailure | None) -> list[str]:
    if cached is None:
        return ["cached: nothing"]
    if isinstance(cached, StoreFailure):
        return [f"cached: the policy store failed: {cached.detail}"]
    lines = [f"cached: failed at {failed.at} for id {failed.id}: {failed.failure}" for failed in cached.failed]
    if cached.policy is not None:
        fact = f"mode {cached.policy.mode}, id {cached.id}, fetched {cached.fetched}, until {cached.expires}"
        lines.insert(0, f"cached: {fact}")
    return lines


def _printable(body: bytes) -> list[str]:
    """The lines of a body."""
    text = body.decode("utf-8", "backslashreplace").replace("\r\n", "\n").removesuffix("\n")
    return [escaped(line) for line in text.split("\n")]
