"""The TXT record of RFC 8461 section 3.1: what holds of any octets."""

from __future__ import annotations

import pickle
import time
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailtlspolicy.sts import Reason, Refusal, Remark, RemarkKind, StsRecord, parse_record
from mailtlspolicy.sts.record import announcements
from tests.abnf import is_record

if TYPE_CHECKING:
    from collections.abc import Sequence

SECONDS = 2.0  # a guard against hanging: linear time needs a hundredth of it
SIZES = (64 * 1024, 512 * 1024)
EXAMPLES = settings(max_examples=200)

ALPHANUM = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
VALUE_OCTETS = "".join(chr(octet) for octet in range(0x21, 0x7F) if chr(octet) not in ";=")

ids = st.text(ALPHANUM, min_size=1, max_size=32)
extension_names = st.text(ALPHANUM, min_size=1, max_size=1).flatmap(
    lambda first: st.text(ALPHANUM + "_-.", max_size=31).map(lambda rest: first + rest)
)
extensions = st.builds("{}={}".format, extension_names, st.text(VALUE_OCTETS, min_size=1, max_size=40)).filter(
    lambda text: not text.startswith("id=")
)
delimiters = st.builds("{};{}".format, st.text(" \t", max_size=3), st.text(" \t", max_size=3))

FRAGMENTS = (
    *(b"v=STSv1", b"v=STSv1;", b"V=STSv1;", b"v=STSv2;", b";", b"; ", b" ;", b"\t", b" ", b"id=", b"id=1", b"id=a1;"),
    *(b"ID=1", b"id =1", b"id= 1", b"x=y", b"x=", b"=y", b"=", b"x", b"-x=y", b"_=", b"a.b-c_d=~!:<>", b"id=a-b"),
    *(b"x=y=z", b"i", b"d", b"a" * 31, b"a" * 32, b"a" * 33, b"id=" + b"a" * 32, b"id=" + b"a" * 33),
    *(b"\0", b"\n", b"\r\n", b"\x7f", b"\xc3\xa4", b"\xff", b'"', b"\\"),
)
junk = st.lists(st.sampled_from(FRAGMENTS), max_size=8).map(b"".join)


@st.composite
def records(draw: st.DrawFn) -> tuple[str, str]:
    """A valid record and its id."""
    policy_id = draw(ids)
    fields = [*draw(st.lists(extensions, max_size=3)), f"id={policy_id}"]
    later = st.one_of(extensions, st.builds("id={}".format, st.text(VALUE_OCTETS, min_size=1, max_size=40)))
    fields += draw(st.lists(later, max_size=3))
    text = "v=STSv1" + "".join(draw(delimiters) + field for field in fields)
    return text + draw(st.just("") | delimiters), policy_id


@st.composite
def nearly_valid(draw: st.DrawFn) -> bytes:
    """A valid record with one to three of its octets changed, or fragments behind the version."""
    if draw(st.booleans()):
        return draw(st.sampled_from((b"v=STSv1", b"v=STSv1;", b"v=STSv1; id=1", b"v=STSv1 ;id=1;", b""))) + draw(junk)
    text = bytearray(draw(records())[0].encode())
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(text)))
        text[at : at + draw(st.integers(0, 2))] = draw(st.sampled_from(FRAGMENTS) | st.binary(min_size=1, max_size=1))
    return bytes(text)


def split(text: bytes, places: Sequence[int]) -> list[bytes]:
    cuts = [0, *sorted(place % (len(text) + 1) for place in places), len(text)]
    return [text[start:end] for start, end in pairwise(cuts)]


def read(text: bytes | str) -> StsRecord:
    record = parse_record([text])
    assert isinstance(record, StsRecord), record
    return record


@given(st.lists(st.binary(max_size=255), max_size=5) | st.lists(junk, max_size=3))
@EXAMPLES
def test_nothing_is_raised_on_any_octets(strings: list[bytes]) -> None:
    found, length = parse_record(strings), len(b"".join(strings))
    assert isinstance(found, (StsRecord, Refusal))
    if isinstance(found, Refusal):
        assert 0 <= found.offset <= length
        assert found.to_json() == {"refused": str(found.reason), "offset": found.offset}
        assert str(found) == f"{found.reason} at octet {found.offset}"
    else:
        assert all(7 <= remark.offset < length for remark in found.warnings)
        assert list(found.warnings) == sorted(found.warnings, key=lambda remark: remark.offset)


@given(nearly_valid() | records().map(lambda made: made[0].encode()))
@settings(max_examples=400)
def test_what_is_valid_is_what_the_grammar_says(text: bytes) -> None:
    assert isinstance(parse_record([text]), StsRecord) == is_record(text)


@pytest.mark.parametrize(
    "form", [b"v=STSv1; id=a%b", b"v=STSv1; id=1; x=%b", b"v=STSv1; id=1; %bx=y", b"v=STSv1;id=1%b"]
)
def test_each_octet_is_allowed_where_the_grammar_allows_it(form: bytes) -> None:
    texts = [form % bytes([octet]) for octet in range(256)]
    assert [text for text in texts if isinstance(parse_record([text]), StsRecord)] == list(filter(is_record, texts))


@pytest.mark.parametrize("length", range(35))
def test_each_length_is_allowed_where_the_grammar_allows_it(length: int) -> None:
    for form in (b"v=STSv1; id=%b", b"v=STSv1; id=1; %b=x", b"v=STSv1; id=1; x=%b", b"v=STSv1; id=1; id=%b"):
        text = form % (b"a" * length)
        assert isinstance(parse_record([text]), StsRecord) == is_record(text)


@given(records())
@EXAMPLES
def test_a_record_has_the_first_id_and_its_own_text(made: tuple[str, str]) -> None:
    text, policy_id = made
    record = read(text)
    assert record.id == policy_id
    assert record.text == text
    assert record.to_json() == {
        "id": policy_id,
        "text": text,
        "warnings": [{"kind": str(remark.kind), "offset": remark.offset} for remark in record.warnings],
    }
    again = read(record.text)
    assert (again, again.text, again.warnings) == (record, record.text, record.warnings)


@given(records() | nearly_valid().map(lambda text: (text, "")), st.lists(st.integers(0, 400), max_size=6))
@EXAMPLES
def test_where_a_record_is_split_into_strings_changes_nothing(made: tuple[str | bytes, str], places: list[int]) -> None:
    text = made[0].encode() if isinstance(made[0], str) else made[0]
    whole, parts = parse_record([text]), split(text, places)
    assert parse_record(parts) == whole
    assert parse_record(iter(tuple(parts))) == whole
    if text.isascii():
        assert parse_record([part.decode("ascii") for part in parts]) == whole


@given(ids, st.lists(extensions, min_size=1, max_size=5), st.integers(0, 5), st.randoms(use_true_random=False))
@EXAMPLES
def test_unknown_fields_and_the_order_of_fields_have_no_influence(
    policy_id: str, others: list[str], place: int, random: Any
) -> None:
    alone = read(f"v=STSv1;id={policy_id}")
    random.shuffle(others)
    fields = [*others[:place], f"id={policy_id}", *others[place:]]
    record = read("v=STSv1; " + "; ".join(fields) + ";")
    assert record == alone
    assert hash(record) == hash(alone)
    assert len(record.warnings) == len(others)


def test_a_str_stands_for_its_utf_8_octets() -> None:
    assert parse_record(["v=STSv1; id=1; x=ä"]) == parse_record(["v=STSv1; id=1; x=ä".encode()])
    assert parse_record(["v=STSv1; id=1; x=ä"]) == Refusal(Reason.FIELD_INVALID, 15)
    assert parse_record(["v=STSv1; ä=ä; -", "id=1"]) == Refusal(Reason.FIELD_INVALID, 9)
    assert parse_record(["v=STSv1; x=1; ", b"id=", "1"]) == read("v=STSv1;id=1")
    assert parse_record(["v=STSv1; id=\ud800"]) == Refusal(Reason.ID_INVALID, 9)


@pytest.mark.parametrize("strings", [b"v=STSv1; id=1;", "v=STSv1; id=1;", bytearray(b"v=STSv1; id=1;")])
def test_one_string_is_not_the_strings_of_a_record(strings: Any) -> None:
    with pytest.raises(TypeError):
        parse_record(strings)


@pytest.mark.parametrize("strings", [None, 1, [1], [None], [["v=STSv1; id=1;"]], [b"v=STSv1;", 0]])
def test_what_is_no_strings_at_all_is_a_type_error(strings: Any) -> None:
    with pytest.raises(TypeError):
        parse_record(strings)


def test_a_record_is_its_id() -> None:
    first, second = read("v=STSv1; id=1; x=y"), read("v=STSv1;id=1")
    assert first == second
    assert {first, second} == {first}
    assert first != read("v=STSv1; id=2; x=y")
    assert read("v=STSv1;id=a") != read("v=STSv1;id=A")
    restored = pickle.loads(pickle.dumps(first))
    assert (restored, restored.text, restored.warnings) == (first, first.text, first.warnings)
    with pytest.raises(AttributeError):
        first.id = "2"  # type: ignore[misc]
    refusal = parse_record([b""])
    assert pickle.loads(pickle.dumps(refusal)) == refusal
    assert hash(refusal) == hash(Refusal(Reason.VERSION_INVALID, 0))
    remark = first.warnings[0]
    assert remark == Remark(RemarkKind.UNKNOWN_FIELD, 15)
    assert str(remark) == "unknown-field at octet 15"


@given(st.lists(st.lists(junk, max_size=3), max_size=5))
@EXAMPLES
def test_the_records_that_count_are_those_that_begin_with_the_version(strings: list[list[bytes]]) -> None:
    found = announcements(tuple(record) for record in strings)
    for record in map(tuple, strings):
        head, semicolon, _ = b"".join(record).partition(b";")
        assert (record in found) == (bool(semicolon) and head.rstrip(b" \t") == b"v=STSv1")
    assert [list(record) for record in found] == [record for record in strings if tuple(record) in found]


@pytest.mark.own_process
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("head", "body", "tail"),
    [
        (b"", b" ", b""),
        (b"", b"v=STSv1;", b""),
        (b"v=STSv1", b" ", b""),
        (b"v=STSv1", b" ", b";id=1"),
        (b"v=STSv1", b"\t ", b"x"),
        (b"v=STSv1;", b" ", b""),
        (b"v=STSv1;", b" ", b"\0"),
        (b"v=STSv1;id=1", b" ", b"\0"),
        (b"v=STSv1;id=1", b" ;", b""),
        (b"v=STSv1;", b";", b""),
        (b"v=STSv1;id=", b"a", b""),
        (b"v=STSv1;", b"id=", b""),
        (b"v=STSv1;", b"a", b""),
        (b"v=STSv1;", b"a.", b"=b"),
        (b"v=STSv1;x=", b"a", b"="),
        (b"v=STSv1;id=1;x=", b"a", b" b"),
        (b"v=STSv1;id=1;", b"a=b;", b""),
        (b"v=STSv1;id=1;", b"a=b \t;\t ", b"="),
        (b"v=STSv1;id=1;", b"id=b;", b"\xff"),
        (b"v=STSv1;id=1;", b"a=b    ", b";"),
    ],
)
def test_time_does_not_explode(head: bytes, body: bytes, tail: bytes, size: int) -> None:
    text = head + body * (size // len(body)) + tail
    start = time.process_time()
    parse_record([text])
    parse_record([text[at : at + 255] for at in range(0, len(text), 255)])
    announcements([(text,)])
    assert time.process_time() - start < SECONDS
