"""RFC 8689: what a message is tagged with on receipt, and its copies and its notification with it."""

from __future__ import annotations

import time
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from mailtlspolicy import Config, Message, World
from mailtlspolicy.delivery import Notification, Tags, notification, read_tags
from mailtlspolicy.delivery.session import Reply

NO = b"TLS-Required: No\r\n"


def header(*fields: bytes) -> bytes:
    return b"From: a@sender.test\r\n" + b"".join(fields) + b"Subject: x\r\n\r\n"


def says_no(content: bytes) -> bool:
    """Whether a message is tagged by its header field."""
    tags = read_tags([], content)
    assert not tags.requiretls
    return tags.tls_optional


# --- the parameter


@pytest.mark.parametrize(
    "parameters",
    [
        ["REQUIRETLS"],
        ["requiretls"],  # RFC8689-2-c: ABNF strings have no case
        ["ReQuIrEtLs"],
        ["SIZE=1000", "REQUIRETLS", "BODY=8BITMIME"],
        ("RET=FULL", "REQUIRETLS"),
        iter(["REQUIRETLS"]),
    ],
)
def test_the_parameter_tags_the_message(parameters: Any) -> None:  # RFC8689-2-b, RFC8689-4.1-a
    assert read_tags(parameters, header()) == Tags(requiretls=True, tls_optional=False)


@pytest.mark.parametrize(
    "parameters",
    [
        ["REQUIRETLS="],  # RFC8689-2-c
        ["REQUIRETLS=1"],
        ["requiretls=YES"],
        ["REQUIRETLS", "REQUIRETLS"],
        ["REQUIRETLS", "requiretls"],
        ["REQUIRETLS", "REQUIRETLS=1"],
    ],
)
def test_the_parameter_takes_no_value_and_is_given_once(parameters: list[str]) -> None:  # RFC8689-2-b
    with pytest.raises(ValueError, match="REQUIRETLS"):
        read_tags(parameters, header())


@pytest.mark.parametrize(
    "parameters",
    [[], ["SIZE=1000"], ["REQUIRETLS2"], ["X-REQUIRETLS"], ["REQUIRE"], ["ENVID=REQUIRETLS"], [""], ["=REQUIRETLS"]],
)
def test_another_parameter_tags_nothing(parameters: list[str]) -> None:
    assert read_tags(parameters, header()) == Tags(requiretls=False, tls_optional=False)
    assert read_tags(parameters, header(NO)) == Tags(requiretls=False, tls_optional=True)


def test_one_text_is_not_a_sequence_of_parameters() -> None:
    for stray in ("REQUIRETLS", "SIZE=5 REQUIRETLS", ""):
        with pytest.raises(TypeError):
            read_tags(stray, header())


@pytest.mark.parametrize("field", [b"", NO, NO + NO, b"TLS-Required: Yes\r\n"])
def test_beside_the_parameter_the_header_field_counts_for_nothing(field: bytes) -> None:  # RFC8689-4.1-c
    assert read_tags(["REQUIRETLS"], header(field)) == Tags(requiretls=True, tls_optional=False)


# --- the header field


@pytest.mark.parametrize(
    "field",
    [
        b"TLS-Required: No\r\n",  # RFC8689-4.1-b
        b"TLS-Required:No\r\n",
        b"TLS-Required: no\r\n",
        b"TLS-Required: NO\r\n",
        b"tls-required: nO\r\n",
        b"TLS-REQUIRED:\tNo\r\n",
        b"TLS-Required: \t No\r\n",
        b"TLS-Required:\r\n No\r\n",  # folding white space
        b"TLS-Required: \r\n\tNo\r\n",
        b"TLS-Required: No\n",  # a message as it lies on a disk
        b"TLS-Required:\n No\n",
        b"TLS-Required: No\rComments: x\r\n",  # a bare CR will be a line end to the next server, too
        b"Comments: x\rTLS-Required: No\r\n",
    ],
)
def test_the_field_says_no(field: bytes) -> None:  # RFC8689-3-e
    assert says_no(header(field))
    assert says_no(field)  # without an end of the header section
    assert says_no(field + b"\r\nTLS-Required: Yes\r\n")  # which stands in the body


@pytest.mark.parametrize(
    "field",
    [
        b"",
        b"TLS-Required: Yes\r\n",  # RFC8689-3-f
        b"TLS-Required: \r\n",
        b"TLS-Required:\r\n",
        b"TLS-Required: No; x\r\n",  # RFC8689-3-e
        b"TLS-Required: No (really)\r\n",
        b"TLS-Required: None\r\n",
        b"TLS-Required: Not\r\n",
        b"TLS-Required: No No\r\n",
        b"TLS-Required: N o\r\n",
        b"TLS-Required: No\r\n x\r\n",
        b"TLS-Required: x\r\n No\r\n",
        b'TLS-Required: "No"\r\n',
        b"TLS-Required: =?us-ascii?q?No?=\r\n",
        b"TLS-Required: No\x00\r\n",
        b"TLS-Required : No\r\n",
        b" TLS-Required: No\r\n",  # goes on the line before
        b"\tTLS-Required: No\r\n",
        b"X-TLS-Required: No\r\n",
        b"TLS-Required2: No\r\n",
        b"TLSRequired: No\r\n",
        b"TLS-Required No\r\n",
        b"Comments: x\x0bTLS-Required: No\r\n",
        b"Comments: x\x85TLS-Required: No\r\n",
        "Comments: x\u2028TLS-Required: No\r\n".encode(),
        "TLS-Required:\u00a0No\r\n".encode(),
        "TLS-Required: \u006e\u00ba\r\n".encode(),
    ],
)
def test_anything_else_says_nothing(field: bytes) -> None:
    assert not says_no(header(field))
    assert not says_no(field)


@pytest.mark.parametrize(
    "fields",
    [
        (NO, NO),
        (NO, b"tls-required: No\r\n"),
        (NO, b"TLS-Required: Yes\r\n"),
        (b"TLS-Required: Yes\r\n", NO),
        (NO, b"TLS-Required:\r\n"),
        (NO, b"Comments: x\r\n", NO),
    ],
)
def test_two_fields_are_malformed_and_say_nothing(fields: tuple[bytes, ...]) -> None:  # RFC8689-3-d
    assert not says_no(header(*fields))


@pytest.mark.parametrize(
    "body",
    [
        b"\r\n" + NO,
        b"From: a@sender.test\r\n\r\n" + NO,
        b"From: a@sender.test\n\n" + NO,
        b"From: a@sender.test\r\n\n" + NO,
        b"From: a@sender.test\r\nContent-Type: message/rfc822\r\n\r\nFrom: b@sender.test\r\n" + NO + b"\r\n",
    ],
)
def test_what_stands_in_the_body_says_nothing(body: bytes) -> None:
    assert not says_no(body)


def test_the_whole_message_may_be_given_or_its_header_section() -> None:  # RFC8689-4.3-c
    for end in (b"", b"\r\n", b"\r\n\r\n", b"\r\n\r\nbody\r\n"):
        assert says_no(b"From: a@sender.test\r\nTLS-Required: No" + end)


BLANKS = 1024 * 1024


@pytest.mark.own_process
@pytest.mark.parametrize(
    "content",
    [
        b"TLS-Required:" + b" " * BLANKS + b"x\r\n",
        b"TLS-Required:" + b"\t " * (BLANKS // 2) + b"\r\n",
        b"TLS-Required: No" + b" " * BLANKS + b"x\r\n",
        b"TLS-Required:" + b"\r\n " * (BLANKS // 3) + b"x\r\n",
        b"TLS-Required:\r\n" * (BLANKS // 15),
        b"\r\n " * (BLANKS // 3),
        b"\r" * BLANKS,
        b"a" * BLANKS * 4,
    ],
    ids=lambda content: repr(content[:24]),
)
def test_a_hostile_header_costs_no_more_than_its_length(content: bytes) -> None:
    begin = time.process_time()
    assert not says_no(content)
    assert time.process_time() - begin < 2


def test_a_long_body_does_not_matter() -> None:
    assert says_no(header(NO) + b"x" * (4 * BLANKS))
    for length in (BLANKS - 1, BLANKS, BLANKS + 1):  # of a header section that is just looked at, or just not
        content = NO + b"Comments: ".ljust(length - len(NO), b"x")
        assert len(content) == length
        assert says_no(content) is (length <= BLANKS)


def test_a_header_section_without_end_says_nothing() -> None:
    """What is not looked at may say otherwise (RFC8689-3-d)."""
    filling = b"Comments: x\r\n" * 400_000
    assert not says_no(NO + filling + NO)
    assert not says_no(NO + filling + b"TLS-Required: Yes\r\n")


@given(
    st.lists(
        st.sampled_from([b"TLS-Required:", b" ", b"\t", b"No", b"no", b"\r\n", b"\n", b"\r", b"x", b":"]), max_size=12
    )
)
def test_the_field_is_read_as_by_its_grammar(parts: list[bytes]) -> None:
    """RFC8689-3-e, by another way: the lines are unfolded one by one (RFC 5322 section 2.2.3)."""
    content = b"".join(parts)
    fields: list[bytes] = []
    for line in content.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n"):
        if not line:
            break
        if line[:1] in {b" ", b"\t"} and fields:
            fields[-1] += line
        else:
            fields.append(line)
    values = [field[len("TLS-Required:") :] for field in fields if field.lower().startswith(b"tls-required:")]
    assert says_no(content) is (len(values) == 1 and values[0].strip(b" \t").lower() == b"no")


# --- notifications


@pytest.mark.parametrize("ret", [None, "FULL", "HDRS"])
def test_the_notification_of_a_tagged_message_returns_headers_only(ret: str | None) -> None:
    """RFC8689-5-c, RFC8689-5-d: whatever RET says."""
    sent = notification(requiretls=True, ret=ret)
    assert sent == Notification(requiretls=True, ret="HDRS")
    assert sent.to_json() == {"sender": "", "requiretls": True, "ret": "HDRS"}  # RFC8689-5-e


@pytest.mark.parametrize("ret", [None, "FULL", "HDRS"])
def test_the_notification_of_another_message_is_its_own_affair(ret: str | None) -> None:  # RFC8689-5-a
    assert notification(requiretls=False, ret=ret).to_json() == {"sender": "", "requiretls": False, "ret": ret}


# --- the keyword


@pytest.mark.parametrize(
    ("lines", "announced"),
    [
        (("mx", "REQUIRETLS"), True),
        (("mx", "requiretls", "SIZE"), True),
        (("mx", "REQUIRETLS x"), True),  # a parameter that a later version may define
        (("REQUIRETLS",), False),  # the first line greets
        (("mx", "REQUIRETLS2"), False),
        (("mx", "X-REQUIRETLS"), False),
        (("mx", "REQUIRETLS=1"), False),
        (("mx", "SIZE REQUIRETLS"), False),
    ],
)
def test_the_keyword_is_a_line_of_its_own(lines: tuple[str, ...], *, announced: bool) -> None:  # RFC8689-2-a
    assert ("REQUIRETLS" in Reply(250, lines).keywords) is announced


# --- what a tag means for several deliveries


TLSA = "3 1 1 " + "a1" * 32
WORLD = World.from_json(
    {
        "now": "2026-01-01T00:00:00Z",
        "zones": {
            "signed.test": {"records": ["@ MX 10 mx", "mx A 192.0.2.1", f"_25._tcp.mx TLSA {TLSA}"]},
            "plain.test": {"security": "insecure", "records": ["@ MX 10 mx", "mx A 192.0.2.2"]},
        },
        "servers": {"192.0.2.2": {"25": {}}},
    }
)


def test_every_copy_of_a_message_bears_its_tag() -> None:
    """RFC8689-4.1-e, RFC8689-6-a: aliases and lists send the same message elsewhere."""
    message = Message("a@sender.test", ["b@signed.test"], b"\r\n", requiretls=True)
    copies = [
        evolve(message, recipients=[f"{name}@{domain}"]) for domain in ("signed.test", "plain.test") for name in "cd"
    ]
    assert all(copy.requiretls for copy in copies)
    outcomes = [WORLD.engine(Config(sts="off")).deliver(copy) for copy in copies]
    assert all(outcome.plan.requiretls for outcome in outcomes)
    # RFC8689-6-b: a copy of its own fate each
    assert [(str(outcome.outcome), outcome.status) for outcome in outcomes] == [
        ("deferred", "4.4.1"),
        ("deferred", "4.4.1"),
        ("bounced", "5.7.10"),
        ("bounced", "5.7.10"),
    ]


def test_the_wish_is_given_by_the_caller_and_not_read_out_of_the_content() -> None:  # RFC8689-4.3-d
    message = Message("a@sender.test", ["b@plain.test"], header(NO))
    outcome = WORLD.engine(Config(sts="off")).deliver(message)
    assert (outcome.plan.requiretls, outcome.plan.tls_optional) == (False, False)
    tagged = evolve(message, **read_tags(["REQUIRETLS"], message.content).to_json())
    assert WORLD.engine(Config(sts="off")).deliver(tagged).outcome == "bounced"
