"""Seeded mutation of octets and of DER."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING

from attrs import define, field

from tests.differential.der import tlv

if TYPE_CHECKING:
    from random import Random

MOST_DEEP = 12
TAGS = (
    0x01,
    0x02,
    0x03,
    0x04,
    0x05,
    0x06,
    0x0C,
    0x13,
    0x14,
    0x16,
    0x17,
    0x18,
    0x1E,
    0x30,
    0x31,
    0x80,
    0x82,
    0xA0,
    0xA3,
)
VALUES = (
    b"",
    b"\0",
    b"\xff",
    b"\x30\x80",
    b"\0" * 9,
    b"\xff" * 21,
    b"990101000000Z",
    b"*.example.com",
    b"a\0b",
    b"\xc3\xbc",
)


def mutated(random: Random, octets: bytes) -> bytes:
    """The octets with one to three changes that know nothing of their structure."""
    data = bytearray(octets)
    for _ in range(random.choice((1, 1, 2, 3))):
        start = random.randrange(len(data) + 1)
        end = min(len(data), start + random.choice((1, 1, 2, 8, 60)))
        choice = random.randrange(6)
        if choice == 0 and start < len(data):
            data[start] ^= 1 << random.randrange(8)
        elif choice == 1 and start < len(data):
            data[start] = random.randrange(256)
        elif choice == 2:
            del data[start:end]
        elif choice == 3:
            data[start:start] = data[start:end]
        elif choice == 4:
            data[start:end] = random.randbytes(end - start)
        else:
            del data[start:]
    return bytes(data)


def mutated_der(random: Random, octets: bytes) -> bytes:
    """DER with one or two elements changed; the lengths around them are put right, mostly."""
    tree = _parse(octets, 0)
    if len(tree) != 1:
        return mutated(random, octets)
    for _ in range(random.choice((1, 1, 2))):
        nodes = list(tree[0].below())
        if not nodes:
            break
        parent, at = random.choice(nodes)
        _change(random, parent.children, at, [other.children[place] for other, place in nodes])
    changed = tree[0].encoded()
    return mutated(random, changed) if random.random() < 0.05 else changed


@define
class _Node:
    """One element: its tag, and either its children or its value."""

    tag: int
    value: bytes = b""
    children: list[_Node] = field(factory=list)
    prefix: bytes = b""

    def below(self) -> list[tuple[_Node, int]]:
        """Every element below this one, as its parent and its place there."""
        found = []
        for at, child in enumerate(self.children):
            found.append((self, at))
            found += child.below()
        return found

    def encoded(self) -> bytes:
        return tlv(self.tag, self.prefix, self.value, *(child.encoded() for child in self.children))


def _change(random: Random, siblings: list[_Node], at: int, others: list[_Node]) -> None:
    node = siblings[at]
    choice = random.randrange(8)
    if choice == 0:
        del siblings[at]
    elif choice == 1:
        siblings.insert(at, deepcopy(node))
    elif choice == 2:
        random.shuffle(siblings)
    elif choice == 3:
        siblings[at] = deepcopy(random.choice(others))  # an ancestor may be among them
    elif choice == 4:
        siblings[at] = _Node(random.choice(TAGS), node.value, list(node.children), node.prefix)
    elif choice == 5:
        siblings[at] = _Node(node.tag, random.choice(VALUES))
    else:
        siblings[at] = _Node(node.tag, mutated(random, node.encoded()[2:]))


def _parse(octets: bytes, depth: int) -> list[_Node]:
    """The elements of which the octets consist, or nothing if they do not."""
    nodes = []
    at = 0
    while at < len(octets):
        length = octets[at + 1] if at + 1 < len(octets) else 0xFF
        start = at + 2
        if length >= 0x80:
            count = length & 0x7F
            length = int.from_bytes(octets[start : start + count], "big")
            start += count
            if not 1 <= count <= 3:
                return []
        if start + length > len(octets):
            return []
        nodes.append(_node(octets[at], octets[start : start + length], depth))
        at = start + length
    return nodes


def _node(tag: int, value: bytes, depth: int) -> _Node:
    if depth < MOST_DEEP:
        if tag & 0x20:
            return _Node(tag, children=_parse(value, depth + 1)) if _parse(value, depth + 1) else _Node(tag, value)
        if tag == 0x04 and value[:1] in {b"\x30", b"\x03", b"\x04"} and (inner := _parse(value, depth + 1)):
            return _Node(tag, children=inner)
        if tag == 0x03 and value[:2] == b"\0\x30" and (inner := _parse(value[1:], depth + 1)):
            return _Node(tag, children=inner, prefix=b"\0")
    return _Node(tag, value)
