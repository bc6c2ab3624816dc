"""The policy file of RFC 8461 section 3.2, and the match of section 4.1: what holds of any octets and names."""

from __future__ import annotations

import json
import pickle
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailtlspolicy.names import canonical
from mailtlspolicy.sts import Mode, Policy, Reason, Refusal, RemarkKind, parse_policy
from mailtlspolicy.sts.policy import MAX_MAX_AGE
from tests.abnf import is_policy

SECONDS = 2.0  # a guard against hanging: linear time needs a tenth of it
SIZES = (64 * 1024, 512 * 1024)
EXAMPLES = settings(max_examples=200)

ALPHANUM = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
KNOWN = ("version:", "mode:", "max_age:", "mx:")

blanks = st.text(" \t", max_size=2)
ends = st.sampled_from(["\n", "\r\n"])
modes = st.sampled_from(["enforce", "testing", "none"])
ages = st.integers(0, 9_999_999_999).map(str) | st.sampled_from(
    ["0", "00", "0604800", "604799", "31557600", "31557601"]
)
labels = st.sampled_from(["a", "b", "A", "mx1", "x-y", "xn--4ca", "0", "c"])
hosts = st.lists(labels, min_size=1, max_size=4).map(".".join)
patterns = st.builds("{}{}".format, st.sampled_from(["", "", "*."]), hosts)
words = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=30).map(
    lambda text: text.strip(" ")
)
extension_names = st.text(ALPHANUM, min_size=1, max_size=1).flatmap(
    lambda first: st.text(ALPHANUM + "_-.", max_size=31).map(lambda rest: first + rest)
)
extensions = st.builds("{}:{}{}".format, extension_names, blanks, words.filter(bool)).filter(
    lambda line: not line.startswith(KNOWN)
)

FRAGMENTS = (
    *(
        b"version: STSv1",
        b"version:STSv1",
        b"version: STSv2",
        b"mode: enforce",
        b"mode:none",
        b"mode: testing",
        b"mode:",
    ),
    *(
        b"mx: *.a.test",
        b"mx: a.test",
        b"mx:",
        b"mx: a.",
        b"mx: .a",
        b"mx: *",
        b"mx: *.*.a",
        b"mx: a_b",
        b"mx: -a",
        b"mx: a-",
    ),
    *(b"max_age: 1", b"max_age: 9999999999", b"max_age: 12345678901", b"max_age: -1", b"max_age: 1 2", b"max_age:"),
    *(
        b"\n",
        b"\n",
        b"\r\n",
        b"\r",
        b"\r\r\n",
        b"\n\n",
        b" ",
        b"\t",
        b":",
        b": ",
        b" :",
        b"x: y",
        b"x:",
        b"x: y z",
        b"x:y\tz",
    ),
    *(b"Mode: x", b"_x: y", b"x y: z", b"a" * 32 + b": x", b"a" * 33 + b": x", b"\0", b"\x7f", b"\xef\xbb\xbf"),
    *(
        b"\xc3\xa4",
        b"\xc0\x80",
        b"\xe0\x80\x80",
        b"\xed\xa0\x80",
        b"\xf0\x9f\x93\xa7",
        b"\xf4\x90\x80\x80",
        b"\xc3",
        b"\x80",
    ),
    *(b"\xe2\x82\xac", b"\xe2\x82", b"\xf0\x9f\x93", b"\xff", b"#", b"-", b"."),
)
JUNK = st.lists(st.sampled_from(FRAGMENTS), max_size=12).map(b"".join)


@st.composite
def policies(draw: st.DrawFn) -> bytes:
    """A valid policy: required fields in any order among others, later duplicates, ends of both kinds."""
    mode = draw(modes)
    fields = ["version:{}STSv1", f"mode:{{}}{mode}", f"max_age:{{}}{draw(ages)}"]
    fields += [f"mx:{{}}{pattern}" for pattern in draw(st.lists(patterns, min_size=mode != "none", max_size=4))]
    lines = [field.format(draw(blanks)) for field in draw(st.permutations(fields))]
    for extension in draw(st.lists(extensions, max_size=3)):
        lines.insert(draw(st.integers(0, len(lines))), extension)
    lines += draw(st.lists(st.sampled_from(["version: STSv2", "mode: x", "mode:none", "max_age: never"]), max_size=2))
    text = "".join(line + draw(blanks) + draw(ends) for line in lines)
    return (text.rstrip("\r\n") if draw(st.booleans()) else text).encode()


@st.composite
def nearly_valid(draw: st.DrawFn) -> bytes:
    """A valid policy with one to three places changed, or lines and junk."""
    if draw(st.integers(0, 3)) == 0:
        return (
            b"version: STSv1\nmode: enforce\nmx: a.test\nmax_age: 1" + draw(st.sampled_from((b"", b"\n"))) + draw(JUNK)
        )
    text = bytearray(draw(policies()))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(text)))
        text[at : at + draw(st.integers(0, 2))] = draw(st.sampled_from(FRAGMENTS) | st.binary(min_size=1, max_size=1))
    return bytes(text)


def read(body: bytes | str) -> Policy:
    policy = parse_policy(body if isinstance(body, bytes) else body.encode())
    assert isinstance(policy, Policy), policy
    return policy


@given(st.binary(max_size=200) | JUNK | nearly_valid())
@EXAMPLES
def test_nothing_is_raised_on_any_octets(body: bytes) -> None:
    found = parse_policy(body)
    assert isinstance(found, (Policy, Refusal))
    if isinstance(found, Refusal):
        assert 0 <= found.offset <= len(body)
        assert found.offset == len(body) or found.offset == 0 or body[found.offset - 1 : found.offset] == b"\n"
    else:
        assert found.warnings == tuple(sorted(found.warnings, key=lambda remark: remark.offset))
        assert all(remark.offset == 0 or body[remark.offset - 1 : remark.offset] == b"\n" for remark in found.warnings)


@given(nearly_valid() | policies())
@settings(max_examples=400)
def test_what_is_valid_is_what_the_grammar_says(body: bytes) -> None:
    assert isinstance(parse_policy(body), Policy) == is_policy(body)


LINES = (
    b"x:%b",
    b"x: a%ba",
    b"x: a%b",
    b"%bx: a",
    b"x%bx: a",
    b"mx: a%ba",
    b"mx: a%b",
    b"mode:%bnone",
    b"%bmode: none",
)


@pytest.mark.parametrize("line", LINES)
def test_each_octet_is_allowed_where_the_grammar_allows_it(line: bytes) -> None:
    for end in (b"", b"\n", b"\r\n"):
        texts = [b"version: STSv1\nmode: none\nmax_age: 1\n" + line % bytes([octet]) + end for octet in range(256)]
        assert [text for text in texts if isinstance(parse_policy(text), Policy)] == list(filter(is_policy, texts))


def test_utf_8_is_what_python_decodes_strictly_but_for_control_characters() -> None:
    # every start octet with every second one, and the boundaries of the third and fourth
    tails = (b"", b"\x80", b"\xbf", b"\xc0", b"\x7f", b"\x80\x80", b"\xbf\xbf", b"\xbf\xc0", b"\x80\x80\x80")
    for first in range(0x80, 0x100):
        for second in (b"", *(bytes([octet]) for octet in (0x20, 0x7F, *range(0x80, 0x100)))):
            for tail in tails:
                value = b"a" + bytes([first]) + second + tail + b"a"
                try:
                    is_utf_8 = "\x7f" not in value.decode()
                except UnicodeDecodeError:
                    is_utf_8 = False
                body = b"version: STSv1\nmode: none\nmax_age: 1\nx: " + value
                assert isinstance(parse_policy(body), Policy) == is_utf_8, value


@pytest.mark.parametrize("length", range(35))
def test_each_length_is_allowed_where_the_grammar_allows_it(length: int) -> None:
    head = b"version: STSv1\nmode: none\n"
    for form in (b"max_age: 1\n%b: x", b"max_age: 1\nx: %b", b"max_age: 1\nmx: %b", b"max_age: %b"):
        body = head + form % (b"1" * length)
        assert isinstance(parse_policy(body), Policy) == is_policy(body)


@given(policies())
@EXAMPLES
def test_a_policy_is_its_own_text(body: bytes) -> None:
    policy = read(body)
    assert policy.text.encode() == body
    again = read(policy.text)
    assert (again, again.text, again.warnings) == (policy, policy.text, policy.warnings)
    assert hash(again) == hash(policy)
    data = json.loads(json.dumps(policy.to_json()))
    assert data == {
        "mode": str(policy.mode),
        "mx": list(policy.mx),
        "max_age": policy.max_age,
        "text": policy.text,
        "warnings": [{"kind": str(remark.kind), "offset": remark.offset} for remark in policy.warnings],
    }


@given(policies())
@EXAMPLES
def test_what_a_policy_says_can_be_read_line_by_line(body: bytes) -> None:
    pairs = [line.partition(":")[::2] for line in body.decode().replace("\r\n", "\n").split("\n")]
    policy, values = read(body), [(name, value.strip(" \t")) for name, value in pairs]
    first = dict(reversed(values))
    assert policy.mode == first["mode"]
    assert policy.max_age == min(int(first["max_age"]), MAX_MAX_AGE)
    assert list(policy.mx) == list(dict.fromkeys(value.lower() for name, value in values if name == "mx"))


@given(policies(), ends)
@EXAMPLES
def test_the_kind_of_line_end_and_the_last_one_have_no_influence(body: bytes, end: str) -> None:
    lines = body.decode().replace("\r\n", "\n").removesuffix("\n").split("\n")
    assert read(end.join(lines)) == read(end.join(lines) + end) == read(body)


@given(policies(), extensions, st.integers(0, 9), blanks)
@EXAMPLES
def test_unknown_fields_have_no_influence(body: bytes, extension: str, place: int, blank: str) -> None:
    lines = body.decode().replace("\r\n", "\n").removesuffix("\n").split("\n")
    lines.insert(place, extension + blank)
    policy, longer = read(body), read("\n".join(lines))
    assert longer == policy
    kinds = [remark.kind for remark in longer.warnings if remark.kind is RemarkKind.UNKNOWN_FIELD]
    assert len(kinds) == 1 + [remark.kind for remark in policy.warnings].count(RemarkKind.UNKNOWN_FIELD)


@given(modes, ages, st.lists(patterns, min_size=1, max_size=3, unique=True), st.permutations(range(4)))
@EXAMPLES
def test_the_order_of_fields_has_no_influence(mode: str, age: str, mx: list[str], order: list[int]) -> None:
    listed = "\n".join(f"mx: {pattern}" for pattern in mx)
    lines = ["version: STSv1", f"mode: {mode}", f"max_age: {age}", listed]
    assert read("\n".join(lines[place] for place in order)) == read("\n".join(lines))


HEAD = "version: STSv1\nmode: enforce\nmax_age: 604800\n"


@given(st.lists(patterns, min_size=1, max_size=4), hosts, st.sampled_from(["", "."]))
@EXAMPLES
def test_a_host_is_allowed_by_its_name_or_by_one_label_below_a_wildcard(mx: list[str], host: str, dot: str) -> None:
    policy = read(HEAD + "\n".join(f"mx: {pattern}" for pattern in mx))
    asked, listed = host.lower().split("."), [pattern.lower().split(".") for pattern in mx]
    try:
        canonical(host)
        is_name = True
    except ValueError:
        is_name = False
    below = ["*", *asked[1:]]
    expected = is_name and (asked in listed or (len(asked) > 1 and below in listed))
    assert policy.allows(host + dot) == policy.allows((host + dot).upper()) == expected


@given(st.text(max_size=20) | st.text("a.*-_0\x00ä@[]:", max_size=8))
@EXAMPLES
def test_what_is_no_host_name_matches_nothing(name: str) -> None:
    policy = read(HEAD + "mx: *.a\nmx: a\nmx: *.0\nmx: 0.0.0.0\nmx: *.0.0.0")
    try:
        expected = canonical(name) == "a" or (canonical(name).endswith(".a") and canonical(name).count(".") == 1)
    except ValueError:
        expected = False
    assert policy.allows(name) == expected


@pytest.mark.parametrize("name", [None, 1, b"a.test", ["a.test"]])
def test_what_is_no_text_is_no_host_to_ask_about(name: Any) -> None:
    with pytest.raises(TypeError):
        read(HEAD + "mx: a.test").allows(name)


@pytest.mark.own_process
def test_a_list_as_long_as_a_policy_may_be_is_matched_in_no_time() -> None:
    names = [f"{number:x}a" for number in range(4096, 11_300)]
    policy = read(HEAD + "".join(f"mx:{name}\n" for name in names))
    assert len(policy.text) < 65_536 + len(HEAD)
    start = time.process_time()
    assert all(map(policy.allows, names[-500:]))
    assert not any(policy.allows(f"x.{name}") for name in names[:500])
    assert time.process_time() - start < SECONDS


def test_a_policy_is_what_it_demands() -> None:
    first = read("version: STSv1\nmode: enforce\nmx: A.test\nmx: a.test\nmax_age: 1")
    second = read("x: y\r\nmax_age: 01\r\nmx: a.test\r\nmode: enforce \r\nversion: STSv1\r\n")
    assert first == second
    assert {first, second} == {first}
    assert first.text != second.text
    others = (
        "mode: testing\nmx: a.test\nmax_age: 1",
        "mode: enforce\nmx: b.test\nmax_age: 1",
        "mode: enforce\nmx: a.test\nmax_age: 2",
    )
    assert all(read(f"version: STSv1\n{other}") != first for other in others)
    assert read("version: STSv1\nmode: enforce\nmx: *.a.test\nmax_age: 1") != first
    assert (
        repr(first)
        == "Policy(mode=<Mode.ENFORCE: 'enforce'>, mx=('a.test',), max_age=1, warnings=" + repr(first.warnings) + ")"
    )
    restored = pickle.loads(pickle.dumps(first))
    assert (restored, restored.text, restored.warnings) == (first, first.text, first.warnings)
    assert restored.allows("A.TEST.")
    assert not restored.allows("b.test")
    with pytest.raises(AttributeError):
        first.mode = Mode.NONE  # type: ignore[misc]


def test_a_refusal_is_a_value() -> None:
    refusal = parse_policy(b"")
    assert refusal == Refusal(Reason.EMPTY, 0) != Refusal(Reason.EMPTY, 1)
    assert pickle.loads(pickle.dumps(refusal)) == refusal
    assert str(refusal) == "empty at octet 0"


@pytest.mark.parametrize("body", ["", None, 0, "version: STSv1\nmode: none\nmax_age: 1\n", 1, [b"version: STSv1"]])
def test_what_is_no_octets_is_a_type_error(body: Any) -> None:
    with pytest.raises(TypeError):
        parse_policy(body)


@pytest.mark.own_process
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("head", "body", "tail"),
    [
        (b"", b"\n", b""),
        (b"", b"\r", b"\n"),
        (b"", b" ", b""),
        (b"", b" ", b"\n"),
        (b"", b"a", b": x"),
        (b"", b"a.", b": x"),
        (b"", b":", b""),
        (b"x:", b" ", b""),
        (b"x:", b" \t", b"\0"),
        (b"x: a", b" ", b"\0"),
        (b"x: a", b" \t", b"a"),
        (b"x: ", b"a ", b"\0"),
        (b"x: ", b"a  ", b"\t\0"),
        (b"x: ", "ä".encode(), b"\xc3"),
        (b"x: ", "€ ".encode(), b"\xe2\x82"),
        (b"x: ", "📧".encode(), b"\t\xf0"),
        (b"mx: ", b"a", b"!"),
        (b"mx: a", b"-", b""),
        (b"mx: ", b"a-", b"!"),
        (b"mx: ", b"a.", b""),
        (b"mx: ", b"a-a.", b"-"),
        (b"mx: ", b"*.", b"a"),
        (b"mx: *.", b"1.", b"1"),
        (b"max_age: ", b"1", b""),
        (b"mode: ", b"none", b""),
        (b"", b"x: y\n", b""),
        (b"", b"x:y\r\n", b"\r"),
        (HEAD.encode(), b"mx: a.a\n", b""),
        (HEAD.encode(), b"mode: enforce\n", b""),
        (HEAD.encode(), b"max_age: 1\nversion: STSv1\n", b"mx: a"),
    ],
)
def test_time_does_not_explode(head: bytes, body: bytes, tail: bytes, size: int) -> None:
    text = head + body * (size // len(body)) + tail
    start = time.process_time()
    parse_policy(text)
    assert time.process_time() - start < SECONDS


@pytest.mark.own_process
def test_many_different_patterns_take_linear_time() -> None:
    body = HEAD + "".join(f"mx: {number}.test\n" for number in range(32 * 1024))
    start = time.process_time()
    assert len(read(body).mx) == 32 * 1024
    assert time.process_time() - start < SECONDS
