"""ABNF (RFC 5234) as functions, and three grammars of RFC 8461 and 8460 in it: an oracle that shares no code with us.

A rule takes a text and the places where it may begin, and gives all places where it may end. Nothing is searched for or
split, so that a rule reads as it stands in the RFC.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Set

Places: TypeAlias = "frozenset[int]"
Rule: TypeAlias = "Callable[[bytes, Set[int]], Places]"

NOWHERE: Places = frozenset()


def octets(*ranges: tuple[int, int]) -> Rule:
    """One octet out of these ranges."""

    def match(text: bytes, starts: Set[int]) -> Places:
        return frozenset(
            at + 1 for at in starts if at < len(text) and any(low <= text[at] <= high for low, high in ranges)
        )

    return match


def literal(word: bytes) -> Rule:
    """These octets."""

    def match(text: bytes, starts: Set[int]) -> Places:
        return frozenset(at + len(word) for at in starts if text.startswith(word, at))

    return match


def one_of(*rules: Rule) -> Rule:
    """Alternatives."""

    def match(text: bytes, starts: Set[int]) -> Places:
        return NOWHERE.union(*(rule(text, starts) for rule in rules))

    return match


def chain(*rules: Rule) -> Rule:
    """One after the other."""

    def match(text: bytes, starts: Set[int]) -> Places:
        places: Places = frozenset(starts)
        for rule in rules:
            places = rule(text, places)
        return places

    return match


def some(least: int, rule: Rule, most: int | None = None) -> Rule:
    """Repetition; the rule takes at least one octet."""

    def match(text: bytes, starts: Set[int]) -> Places:
        places: Places = frozenset(starts)
        ends, count = (places if least == 0 else NOWHERE), 0
        while places and count != most:
            places, count = rule(text, places), count + 1
            if count >= least:
                ends |= places
        return ends

    return match


def unless(words: Set[bytes], rule: Rule) -> Rule:
    """The rule where the text does not go on with one of these words."""

    def match(text: bytes, starts: Set[int]) -> Places:
        return rule(text, frozenset(at for at in starts if not any(text.startswith(word, at) for word in words)))

    return match


DIGIT = octets((0x30, 0x39))
ALPHANUM = octets((0x30, 0x39), (0x41, 0x5A), (0x61, 0x7A))
WSP = octets((0x20, 0x20), (0x09, 0x09))
EXT_NAME = chain(ALPHANUM, some(0, one_of(ALPHANUM, literal(b"_"), literal(b"-"), literal(b".")), 31))

# RFC 8461 section 3.1
FIELD_DELIM = chain(some(0, WSP), literal(b";"), some(0, WSP))
STS_ID = chain(literal(b"id="), some(1, ALPHANUM, 32))
EXTENSION = chain(EXT_NAME, literal(b"="), some(1, octets((0x21, 0x3A), (0x3C, 0x3C), (0x3E, 0x7E))))
RECORD = chain(
    literal(b"v=STSv1"),
    some(0, chain(FIELD_DELIM, unless({b"id="}, EXTENSION))),
    chain(FIELD_DELIM, STS_ID),  # the first field that begins with "id="
    some(0, chain(FIELD_DELIM, EXTENSION)),
    some(0, FIELD_DELIM, 1),
)

# RFC 3629 section 4
TAIL = octets((0x80, 0xBF))
UTF8_2 = chain(octets((0xC2, 0xDF)), TAIL)
UTF8_3 = one_of(
    chain(literal(b"\xe0"), octets((0xA0, 0xBF)), TAIL),
    chain(octets((0xE1, 0xEC)), TAIL, TAIL),
    chain(literal(b"\xed"), octets((0x80, 0x9F)), TAIL),
    chain(octets((0xEE, 0xEF)), TAIL, TAIL),
)
UTF8_4 = one_of(
    chain(literal(b"\xf0"), octets((0x90, 0xBF)), TAIL, TAIL),
    chain(octets((0xF1, 0xF3)), TAIL, TAIL, TAIL),
    chain(literal(b"\xf4"), octets((0x80, 0x8F)), TAIL, TAIL),
)

# RFC 5321 section 4.1.2, with Ldh-str = *( ALPHA / DIGIT / "-" ) Let-dig
SUB_DOMAIN = chain(ALPHANUM, some(0, chain(some(0, one_of(ALPHANUM, literal(b"-"))), ALPHANUM), 1))
DOMAIN = chain(SUB_DOMAIN, some(0, chain(literal(b"."), SUB_DOMAIN)))

# RFC 8461 section 3.2
POLICY_DELIM = chain(literal(b":"), some(0, WSP))
POLICY_TERM = one_of(literal(b"\n"), literal(b"\r\n"))
VCHAR = one_of(octets((0x21, 0x7E)), UTF8_2, UTF8_3, UTF8_4)
EXT_VALUE = chain(VCHAR, some(0, chain(some(0, one_of(literal(b" "), VCHAR)), VCHAR), 1))
POLICY_EXTENSION = chain(EXT_NAME, POLICY_DELIM, EXT_VALUE)
ONCE = {
    "version": chain(literal(b"version"), POLICY_DELIM, literal(b"STSv1")),
    "validating": chain(literal(b"mode"), POLICY_DELIM, one_of(literal(b"testing"), literal(b"enforce"))),
    "none": chain(literal(b"mode"), POLICY_DELIM, literal(b"none")),
    "max_age": chain(literal(b"max_age"), POLICY_DELIM, some(1, DIGIT, 10)),
}
POLICY_MX = chain(literal(b"mx"), POLICY_DELIM, some(0, literal(b"*."), 1), DOMAIN)
NAMES = {"version": b"version:", "validating": b"mode:", "none": b"mode:", "max_age": b"max_age:"}


# RFC 8460 section 3, and RFC 3986 appendix A


def _any_of(characters: bytes) -> Rule:
    return octets(*((character, character) for character in characters))


ALPHA = octets((0x41, 0x5A), (0x61, 0x7A))
HEXDIG = one_of(DIGIT, octets((0x41, 0x46), (0x61, 0x66)))
PCT = chain(literal(b"%"), HEXDIG, HEXDIG)
UNRESERVED = one_of(ALPHANUM, _any_of(b"-._~"))
SUB_DELIMS = _any_of(b"$&'()*+=")  # without "!", "," and ";", which have to be encoded
PCHAR = one_of(UNRESERVED, PCT, SUB_DELIMS, _any_of(b":@"))
SEGMENT, SEGMENT_NZ = some(0, PCHAR), some(1, PCHAR)
QUERY = some(0, one_of(PCHAR, _any_of(b"/?")))
PATH_ABEMPTY = some(0, chain(literal(b"/"), SEGMENT))
PATH_ROOTLESS = chain(SEGMENT_NZ, PATH_ABEMPTY)
PATH_ABSOLUTE = chain(literal(b"/"), some(0, PATH_ROOTLESS, 1))
DEC_OCTET = one_of(
    DIGIT,
    chain(octets((0x31, 0x39)), DIGIT),
    chain(literal(b"1"), DIGIT, DIGIT),
    chain(literal(b"2"), octets((0x30, 0x34)), DIGIT),
    chain(literal(b"25"), octets((0x30, 0x35))),
)
DOT, COLON = literal(b"."), literal(b":")
IPV4 = chain(DEC_OCTET, DOT, DEC_OCTET, DOT, DEC_OCTET, DOT, DEC_OCTET)
H16 = some(1, HEXDIG, 4)
LS32 = one_of(chain(H16, COLON, H16), IPV4)


def _groups(count: int) -> Rule:
    """This many of ( h16 ":" )."""
    return chain(*[chain(H16, COLON)] * count)


def _before(most: int) -> Rule:
    """[ *most( h16 ":" ) h16 ] "::"."""
    return chain(some(0, chain(some(0, chain(H16, COLON), most), H16), 1), literal(b"::"))


IPV6 = one_of(
    chain(_groups(6), LS32),
    chain(literal(b"::"), _groups(5), LS32),
    *(chain(_before(most), _groups(4 - most), LS32) for most in range(5)),
    chain(_before(5), H16),
    _before(6),
)
IPV_FUTURE = chain(_any_of(b"vV"), some(1, HEXDIG), DOT, some(1, one_of(UNRESERVED, SUB_DELIMS, COLON)))
REG_NAME = some(0, one_of(UNRESERVED, PCT, SUB_DELIMS))
HOST = one_of(chain(literal(b"["), one_of(IPV6, IPV_FUTURE), literal(b"]")), IPV4, REG_NAME)
USERINFO = chain(some(0, one_of(UNRESERVED, PCT, SUB_DELIMS, COLON)), literal(b"@"))
AUTHORITY = chain(some(0, USERINFO, 1), HOST, some(0, chain(COLON, some(0, DIGIT)), 1))
EMPTY: Rule = lambda _, starts: frozenset(starts)  # noqa: E731
HIER_PART = one_of(chain(literal(b"//"), AUTHORITY, PATH_ABEMPTY), PATH_ABSOLUTE, PATH_ROOTLESS, EMPTY)
URI = chain(
    ALPHA,
    some(0, one_of(ALPHANUM, _any_of(b"+-."))),
    COLON,
    HIER_PART,
    one_of(chain(literal(b"?"), QUERY), EMPTY),
    one_of(chain(literal(b"#"), QUERY), EMPTY),
)
COMMA = chain(some(0, WSP), literal(b","), some(0, WSP))
RUA = chain(literal(b"rua="), URI, some(0, chain(COMMA, URI)))
FIELD = one_of(RUA, unless({b"rua="}, EXTENSION))  # a field that begins with "rua=" passes for no extension
BEFORE_RUA = some(0, chain(FIELD_DELIM, FIELD))
TLSRPT_RECORD = chain(
    literal(b"v=TLSRPTv1"), BEFORE_RUA, FIELD_DELIM, RUA, some(0, chain(FIELD_DELIM, FIELD)), some(0, FIELD_DELIM, 1)
)


def is_record(text: bytes) -> bool:
    """Whether the text is a TXT record by the grammar and the reading of "id=" that the library documents."""
    return len(text) in RECORD(text, {0})


def is_policy(text: bytes) -> bool:
    """Whether the text is a policy by the grammar, what it requires, and the reading of known names."""
    # All ways to read the text so far: after a field and its blanks, what was met and where that ends.
    ways: set[tuple[frozenset[str], int]] = {(frozenset(), 0)}
    done: set[tuple[frozenset[str], int]] = set()
    while ways:
        met, start = ways.pop()
        for now, ends in _fields(text, start, met):
            places = some(0, WSP)(text, ends)
            done |= {(now, end) for end in places | POLICY_TERM(text, places)}
            ways |= {(now, end) for end in POLICY_TERM(text, places)} - {(met, start)}
    return any(end == len(text) and _is_complete(met) for met, end in done)


def _fields(text: bytes, start: int, met: frozenset[str]) -> list[tuple[frozenset[str], Places]]:
    spent = {NAMES[name] for name in met & NAMES.keys()}
    fields = [(met | {"mx"}, POLICY_MX(text, {start}))]
    fields += [(met | {name}, rule(text, {start})) for name, rule in ONCE.items() if NAMES[name] not in spent]
    known = {*NAMES.values(), b"mx:"} - spent
    return [*fields, (met, unless(known, POLICY_EXTENSION)(text, {start}))]


def _is_complete(met: frozenset[str]) -> bool:
    return met >= {"version", "max_age"} and ("none" in met or met >= {"validating", "mx"})


def is_tlsrpt_record(text: bytes) -> bool:
    """Whether a text is a record by the grammar of RFC 8460, and not discarded beforehand."""
    return text.startswith(b"v=TLSRPTv1;") and len(text) in TLSRPT_RECORD(text, {0})
