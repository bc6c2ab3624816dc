"""Policy domains that publish, and stores that hold, whatever they like, and what must hold all the same."""

from __future__ import annotations

import json
import pickle
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from attrs import evolve

from mailtlspolicy.delivery import Message
from mailtlspolicy.sts import Entry, Mode, Policy, Refusal, StsFailure, StsRecord, parse_policy, parse_record
from mailtlspolicy.sts.cache import MAX_FAILED, merge
from mailtlspolicy.sts.effects import StoreFailure
from mailtlspolicy.sts.policy import MAX_MAX_AGE
from mailtlspolicy.sts.record import announcements
from mailtlspolicy.sts.refresh import next_refresh
from mailtlspolicy.sts.stores import MAX_ENTRY_OCTETS, decode_entry, encode_entry
from mailtlspolicy.tlsrpt import TlsrptRecord
from mailtlspolicy.tlsrpt import parse_record as parse_tlsrpt_record
from mailtlspolicy.tlsrpt.record import MAX_DESTINATIONS
from tests.abnf import is_policy, is_record, is_tlsrpt_record
from tests.authority import NOW
from tests.fuzz.mutation import mutated

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

LARGE = 65_536  # octets: a TXT record can have that many, and a policy may
COMPARED = 300  # octets: the grammar in `tests.abnf` is slow

RECORDS = (
    b"v=STSv1; id=20160831085700Z;",
    b"v=STSv1;id=1",
    b"v=STSv1 \t; a=b ; id=aA0zZ9; id=2; x.y-z_0=~!:<>\t;",
    b"v=STSv1; " + b"n" * 32 + b"=v; id=" + b"i" * 32,
)
RECORD_WORDS = (
    *(b"v=STSv1", b"v=STSv1;", b";", b"; ", b" ;\t", b" ", b"\t", b"=", b"id=", b"id=1", b"ID=1", b"id", b"v="),
    *(b"x=y", b"x=", b"=y", b"_x=y", b"a" * 32, b"a" * 33, b"id=a-b", b"\0", b"\x7f", b"\xc3\xa4", b'"', b"\n"),
)
TLSRPT_RECORDS = (
    b"v=TLSRPTv1;rua=mailto:reports@example.com",
    b"v=TLSRPTv1; rua=https://u@[2001:db8::1]:8443/a%3Bb?c=d#e \t, mailto:a%40b@c.test?subject=x; x-1=y ;\t",
    b"v=TLSRPTv1;" + b"n" * 32 + b"=v; rua=urn:a:b; rua=MAILTO:b%C3%BCcher@b%C3%BCcher.test",
)
TLSRPT_WORDS = (
    *(b"v=TLSRPTv1;", b"v=TLSRPTv1", b";", b" ; ", b",", b" ,\t", b"rua=", b"RUA=x", b"rua=x:", b"x=y", b"x=", b"!"),
    *(
        b"mailto:",
        b"https://",
        b"https:",
        b"//",
        b"@",
        b"a@b.test",
        b"%2C",
        b"%",
        b"%0D%0A",
        b"[",
        b"]",
        b"::1",
        b"[v1.a]",
    ),
    *(b"?", b"#", b"/", b":", b":99999", b"x" * 64, b"a." * 130, b"\0", b"\xc3\xa4", b'"', b"\n", b"1.2.3.4"),
)
POLICIES = (
    b"version: STSv1\nmode: enforce\nmx: mail.example.com\nmx: *.example.net\nmax_age: 604800\n",
    b"version:STSv1\r\nmode:\tnone \r\nmax_age: 9999999999",
    b"x: \xc3\xa4 \xe2\x82\xac \xf0\x9f\x93\xa7\nmax_age: 1\nmx: A.b-c.D\nmode: testing\t\nversion: STSv1\nmode: x\n",
    b"mode: enforce\n"
    + b"n" * 32
    + b": v\nmx: 192.0.2.1\nmx: a.a\nmx: a.A\nversion: STSv1\nversion: STSv2\nmax_age: 0\n",
)
POLICY_WORDS = (
    *(b"version: STSv1", b"version:", b"mode: enforce", b"mode: testing", b"mode:none", b"mode:", b"Mode: x"),
    *(b"mx: a.test", b"mx: *.test", b"mx:", b"*.", b"mx: -", b"max_age: 1", b"max_age: 12345678901", b"max_age:"),
    *(b"\n", b"\n", b"\r\n", b"\r", b" ", b"\t", b":", b": ", b".", b"-", b"x: y", b"x:y z", b"_: x", b"a" * 33),
    *(b"\0", b"\x7f", b"\xc3\xa4", b"\xc0\x80", b"\xed\xa0\x80", b"\xf0\x9f\x93\xa7", b"\xf4\x90\x80\x80", b"\xe2\x82"),
)
HOSTS = (
    "mail.example.com",
    "a.example.net",
    "example.net",
    "192.0.2.1",
    "a",
    "",
    ".",
    "*.example.net",
    "\ud800",
    "ä.b",
)

WORDS = ("", "1", "x", "\ud800", "fetch-error", "2026-01-01T00:00:00+00:00", "0001-01-01T00:00:00+01:00", "9" * 400)


def records(random: Random) -> None:
    """TXT records: a record or a refusal, and what the grammar says."""
    text = _octets(random, RECORDS, RECORD_WORDS)
    cuts = sorted(random.choices(range(len(text) + 1), k=random.choice((0, 1, 5))))
    parts = [text[start:end] for start, end in zip((0, *cuts), (*cuts, len(text)), strict=True)]
    found = parse_record([text])
    assert parse_record(parts) == found, "the place of a split decides"
    assert len(announcements([parts, [b"v=spf1"]])) <= 1
    if isinstance(found, Refusal):
        _check_refusal(found, text)
    else:
        assert isinstance(found, StsRecord)
        assert announcements([parts]) == (parts,)
        assert 1 <= len(found.id) <= 32
        assert found.id.isalnum()
        again = parse_record([found.text])
        assert again == found
        assert isinstance(again, StsRecord)
        assert (again.text, again.warnings) == (found.text, found.warnings)
        assert pickle.loads(pickle.dumps(found)) == found
    if len(text) <= COMPARED:
        assert isinstance(found, StsRecord) == is_record(text)


def tlsrpt_records(random: Random) -> None:
    """TXT records that ask for reports: a record or a refusal, what the grammar says, mailboxes that can be used."""
    text = _octets(random, TLSRPT_RECORDS, TLSRPT_WORDS)
    found = parse_tlsrpt_record([text])
    assert parse_tlsrpt_record([text[:7], text[7:]]) == found, "the place of a split decides"
    if isinstance(found, Refusal):
        _check_refusal(found, text)
    else:
        assert isinstance(found, TlsrptRecord)
        assert parse_tlsrpt_record([found.text]) == found
        assert 1 <= len(found.rua) == len(set(found.rua))
        assert len(found.destinations) <= MAX_DESTINATIONS
        for to in found.destinations:
            assert to.uri in found.rua
            assert to.scheme == "https" or Message("", [to.target], b"")
        assert pickle.loads(pickle.dumps(found)) == found
        json.dumps(found.to_json())
    if len(text) <= COMPARED:
        assert isinstance(found, TlsrptRecord) == is_tlsrpt_record(text)


def policies(random: Random) -> None:
    """Policy files: a policy or a refusal, what the grammar says, and what the policy allows."""
    body = _octets(random, POLICIES, POLICY_WORDS)
    found = parse_policy(body)
    if isinstance(found, Refusal):
        _check_refusal(found, body)
    else:
        assert isinstance(found, Policy)
        assert found.text.encode() == body
        assert 0 <= found.max_age <= MAX_MAX_AGE
        assert found.mx or found.mode is Mode.NONE
        assert len(set(found.mx)) == len(found.mx)
        again = parse_policy(found.text.encode())
        assert again == found
        assert pickle.loads(pickle.dumps(found)) == found
        json.dumps(found.to_json())
        for host in HOSTS:
            assert not found.allows(host) or {host, f"*.{host.partition('.')[2]}"} & set(found.mx)
        _check_entry(Entry.of(None, found, NOW))
    if len(body) <= COMPARED:
        assert isinstance(found, Policy) == is_policy(body)


def entries(random: Random) -> None:
    """What a policy store holds: an entry, or a failure and one of three errors; an entry is its own JSON."""
    data = _json(random, 3)
    if random.random() < 0.8:
        data = _entry_json(random)
        for _ in range(random.choice((0, 1, 1, 2))):
            _change(random, data)
    octets = json.dumps(data).encode()
    if random.random() < 0.3:
        octets = mutated(random, octets)
    elif random.random() < 0.01:
        octets = random.choice((b"[", b'{"failed":', b'{"failed":[', b" ", b"9")) * random.randrange(200_000)
    entry = decode_entry(octets)
    if isinstance(entry, StoreFailure):
        assert entry.detail
        try:
            Entry.from_json(json.loads(octets))
        except (KeyError, TypeError, ValueError, RecursionError):
            return
        assert len(octets) > MAX_ENTRY_OCTETS
        return
    assert decode_entry(encode_entry(entry)) == entry
    _check_entry(entry)
    other = Entry.from_json(_entry_json(random))
    for stored, written in ((entry, other), (other, entry)):
        merged = merge(stored, written)
        assert merge(merged, written) == merged
        assert merged.policy is not None or (stored.policy is None and written.policy is None)
        assert merged.ended == written.ended
        assert dict(merged.unknown) == dict(stored.unknown) | dict(written.unknown)
        assert evolve(merged, used=NOW, checked=NOW, ended=None, unknown=()) in [
            evolve(one, used=NOW, checked=NOW, ended=None, unknown=()) for one in (stored, written)
        ]


# what must hold


def _check_refusal(refusal: Refusal, text: bytes) -> None:
    assert 0 <= refusal.offset <= len(text)
    assert str(refusal)
    json.dumps(refusal.to_json())


def _check_entry(entry: Entry) -> None:
    data = json.loads(json.dumps(entry.to_json()))
    assert Entry.from_json(data) == entry
    assert Entry.from_json(data).to_json() == data
    assert pickle.loads(pickle.dumps(entry)) == entry
    assert len(entry.failed) <= MAX_FAILED
    entry.spares_fetch("1", NOW)
    entry.back_off("1", NOW)
    for after in (
        entry.with_failure("1", NOW, StsFailure.FETCH_ERROR),
        entry.with_failure(None, NOW, StsFailure.FETCH_ERROR),
    ):
        assert after.policy == entry.policy
        assert len(after.failed) <= MAX_FAILED
    if entry.policy is not None:
        assert next_refresh("example", entry) >= (entry.fetched or NOW)
        assert entry.with_policy("1", entry.policy, NOW).policy_in_force(NOW) is entry.policy


# what is made


def _octets(random: Random, seeds: Sequence[bytes], words: Sequence[bytes]) -> bytes:
    """A valid text damaged, words of the grammar in any order, or one of them repeated many times."""
    choice = random.random()
    if choice < 0.1:
        return random.choice(seeds)
    if choice < 0.55:
        return mutated(random, random.choice(seeds))
    text = b"".join(random.choices(words, k=random.randrange(12)))
    if choice < 0.85:
        return random.choice((b"", *seeds)) + text
    if choice < 0.9:
        word = text or b" "
        return random.choice(seeds) + word * (random.randrange(LARGE) // len(word)) + random.choice(words)
    return random.randbytes(random.randrange(80))


def _entry_json(random: Random) -> dict[str, Any]:
    """The JSON of an entry."""
    entry = Entry(checked=_time(random), used=_time(random))
    if random.random() < 0.7:
        policy = parse_policy(random.choice(POLICIES))
        assert isinstance(policy, Policy)
        entry = Entry.of(random.choice((None, "1", "2")), policy, _time(random))
    for _ in range(random.choice((1, 1, 2, 10))):
        entry = entry.with_failure(random.choice((None, "1", "2", "3")), _time(random), random.choice([*StsFailure]))
    data: dict[str, Any] = json.loads(json.dumps(entry.to_json()))
    return data


def _time(random: Random) -> datetime:
    if random.random() < 0.1:
        return random.choice((datetime.min.replace(tzinfo=timezone.utc), datetime.max.replace(tzinfo=timezone.utc)))
    return NOW + timedelta(seconds=random.choice((0, 1, -1, 300, 301, -299, 10**7, random.uniform(-1e9, 1e9))))


def _change(random: Random, data: dict[str, Any]) -> None:
    """Another value, or none, in one place of the object or of a failed fetch in it."""
    failed = data.get("failed")
    place = data
    if isinstance(failed, list) and failed and isinstance(failed[0], dict) and random.random() < 0.4:
        place = random.choice(failed)
    if not isinstance(place, dict) or not place:
        return
    key = random.choice(sorted(place))
    if random.random() < 0.2:
        del place[key]
    else:
        place[key] = _json(random, 2)


def _json(random: Random, depth: int) -> Any:
    """Any JSON value, and those that Python's reader takes beside."""
    choice = random.randrange(9 if depth else 7)
    if choice < 3:
        return random.choice(WORDS)
    if choice == 3:
        return random.choice(POLICIES).decode()
    if choice < 7:
        return random.choice((None, True, False, 0, -1, 1, 2**70, 0.5, float("nan"), float("inf")))
    inner = [_json(random, depth - 1) for _ in range(random.randrange(4))]
    keys = random.choices(("id", "fetched", "policy", "checked", "used", "failed", "failures", "at", "failure"), k=3)
    return inner if choice == 7 else dict(zip(keys, inner, strict=False))
