"""Chains with their TLSA records, odd in every way that a path validator has to get right, made from a seed.

A case starts as a sound path, from a leaf to a root of its own small PKI. A few faults and oddities of `FAULTS` are put
in, the certificates are encoded, TLSA records are published for some of them, and the chain is presented: shuffled,
padded, with gaps. Case `index` of a seed is the same wherever and in whatever order it is made.

>>> make_case(7672, 1) == make_case(7672, 1)
True
"""

from __future__ import annotations

import functools
import hashlib
import random
from typing import TYPE_CHECKING, TypeVar

from attrs import frozen

from tests.differential import der
from tests.differential.certificates import (
    ANY_PURPOSE,
    BMP,
    CLIENT_AUTH,
    CODE_SIGNING,
    COMMON_NAME,
    COUNTRY,
    DAY,
    EMAIL,
    IA5,
    NETSCAPE_SGC,
    NOW,
    NUMERIC,
    ORGANIZATION,
    PRINTABLE,
    SERVER_AUTH,
    TELETEX,
    UNIVERSAL,
    UTF8,
    Spec,
    alternative_names,
    basic_constraints,
    directory_name,
    distinguished_name,
    dns_name,
    extended_key_usage,
    extension,
    ip_address,
    key_usage,
    mailbox,
    name_constraints,
    other_name,
    registered_id,
    uri,
)
from tests.differential.keys import key_pool

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import TypeAlias

    from tests.differential.keys import Key

    Record: TypeAlias = tuple[int, int, int, bytes]

T = TypeVar("T")


@frozen
class Case:
    """One question: the chain as DER, the TLSA records, the reference identifiers, the time.

    Attributes:
        index: where in the seed's series it stands.
        chain: leaf first.
        tlsa: (usage, selector, matching type, data).
        names: reference identifiers in canonical form.
        tags: what was done to it, for people.
    """

    index: int
    chain: tuple[bytes, ...]
    tlsa: tuple[Record, ...]
    names: tuple[str, ...]
    tags: tuple[str, ...]
    now: int = NOW


HOSTS = (
    "mx.example.com",
    "mx1.example.com",
    "example.com",
    "mx.sub.example.com",
    "mail.example.net",
    "mx_1.example.org",
    "xn--bcher-kva.example",
    "mx.xn--bcher-kva.example",
    "example",
)

ORGANIZATIONS = ("Test CA", "Prüf CA", "Other  CA", "Ångström")

KEY_KINDS = {"p256": 60, "ed25519": 20, "rsa1024": 8, "rsa2048": 6, "p384": 3, "rsa512": 0.2, "rsa768": 0.1}

FAULT_COUNTS = {0: 24, 1: 40, 2: 24, 3: 12}

MATCHING = {0: 22, 1: 50, 2: 28}


def make_case(seed: int, index: int, mangle: Callable[[bytes], bytes] | None = None) -> Case:
    """Make one case of a seed's series.

    Args:
        seed: the series.
        index: the case in it.
        mangle: what is done, before it is signed, to the TBSCertificate of some certificates; nothing where None.
    """
    return _Maker(random.Random(f"{seed}/{index}")).make(index, mangle)


def digest_data(matching_type: int, content: bytes) -> bytes:
    """The association data of a matching type; of an unknown one, its SHA3-256."""
    if matching_type == 0:
        return content
    return hashlib.new({1: "sha256", 2: "sha512"}.get(matching_type, "sha3_256"), content).digest()


@functools.cache
def _keys() -> dict[str, list[Key]]:
    return key_pool()


class _Maker:
    """The state of one case in the making."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.tags: list[str] = []
        self.names: tuple[str, ...] = ()
        self.path: list[Spec] = []
        self.extras: list[Spec] = []
        self.attributes: dict[int, list[tuple[str, str]]] = {}

    # -- choices ---------------------------------------------------------------------------------------------------

    def weighted(self, table: Mapping[T, float]) -> T:
        return self.rng.choices(list(table), list(table.values()))[0]

    def chance(self, probability: float) -> bool:
        return self.rng.random() < probability

    def key(self, *, avoid: Sequence[Key] = ()) -> Key:
        while True:
            key = self.rng.choice(_keys()[self.weighted(KEY_KINDS)])
            if key not in avoid:
                return key

    def authority(self) -> Spec:
        """Some CA of the path, or the leaf where there is none."""
        return self.rng.choice(self.path[1:] or self.path)

    def anyone(self) -> Spec:
        return self.rng.choice(self.path)

    # -- the sound path --------------------------------------------------------------------------------------------

    def make(self, index: int, mangle: Callable[[bytes], bytes] | None) -> Case:
        self.names = tuple(self.rng.sample(HOSTS[:-1], self.weighted({1: 55, 2: 35, 3: 10})))
        self.path = self.sound_path(self.weighted({1: 5, 2: 32, 3: 34, 4: 18, 5: 11}))
        for _ in range(self.weighted(FAULT_COUNTS)):
            name, (fault, _) = self.rng.choices(list(FAULTS.items()), [weight for _, weight in FAULTS.values()])[0]
            self.tags.append(name)
            fault(self)
        for spec in self.path if mangle else ():
            spec.mangle = mangle if self.chance(0.25) else None
        tlsa = self.publish()
        return Case(index, self.present(tlsa), tuple(tlsa), self.names, tuple(self.tags))

    def sound_path(self, length: int) -> list[Spec]:
        """A leaf and its issuers up to the root, leaf first."""
        keys: list[Key] = []
        for _ in range(length):
            keys.append(self.key(avoid=keys))
        above: Spec | None = None
        path: list[Spec] = []
        for height in range(length - 1):
            subject = self.authority_name(height)
            spec = Spec(subject, keys[height], above, serial=self.rng.randrange(1, 1 << 62))
            spec.extensions.update(self.authority_extensions(len_below=length - 2 - height))
            self.common(spec, above)
            path.insert(0, spec)
            above = spec
        leaf = Spec(b"", keys[-1], above, serial=self.rng.randrange(1, 1 << 62))
        self.name_leaf(leaf)
        if self.chance(0.6):
            leaf.extensions["ku"] = key_usage(0, 2) if self.chance(0.6) else key_usage(self.rng.choice((0, 2, 4)))
        if self.chance(0.6):
            leaf.extensions["eku"] = extended_key_usage(SERVER_AUTH, *([CLIENT_AUTH] if self.chance(0.4) else []))
        if self.chance(0.4):
            leaf.extensions["bc"] = basic_constraints(ca=False, critical=self.chance(0.5))
        self.common(leaf, above)
        return [leaf, *path]

    def authority_name(self, height: int) -> bytes:
        attributes = [(ORGANIZATION, self.rng.choice(ORGANIZATIONS)), (COMMON_NAME, f"CA {height}")]
        if self.chance(0.2):
            attributes.insert(0, (COUNTRY, "DE"))
        if self.chance(0.05):
            attributes.append((EMAIL, "ca@example.com"))
        self.attributes[height] = attributes
        return distinguished_name(attributes, PRINTABLE if self.chance(0.3) and attributes[0][1].isascii() else UTF8)

    def authority_extensions(self, len_below: int) -> dict[str, bytes]:
        limit = len_below + self.rng.randrange(2) if self.chance(0.25) else None
        extensions = {"bc": basic_constraints(ca=True, path_length=limit, critical=self.chance(0.9))}
        if self.chance(0.75):
            extensions["ku"] = key_usage(5, 6)
        if self.chance(0.1):
            extensions["eku"] = extended_key_usage(SERVER_AUTH)
        return extensions

    def common(self, spec: Spec, above: Spec | None) -> None:
        """Key identifiers and dates, as most CAs do them."""
        if self.chance(0.75):
            spec.extensions["ski"] = extension("ski", der.octet_string(spec.key.identifier))
        if above is not None and self.chance(0.75):
            spec.aki = self.weighted({("key",): 8, ("serial",): 1, ("key", "serial"): 1})
        if above is None and self.chance(0.3):
            spec.aki = ("key",)
        if self.chance(0.1):
            spec.digest = self.rng.choice(("sha384", "sha512", "pss"))
        if self.chance(0.1):
            spec.not_before, spec.not_after = NOW - 20_000 * DAY, NOW + 20_000 * DAY

    def name_leaf(self, leaf: Spec) -> None:
        """Give the leaf names of which, mostly, one is a reference identifier."""
        right = self.presented(self.rng.choice(self.names)) if self.chance(0.88) else None
        wrong = [
            self.rng.choice(DECOYS) if self.chance(0.95) else "bücher.example"
            for _ in range(self.weighted({0: 60, 1: 25, 2: 15}))
        ]
        names = wrong + ([] if right is None else [right])
        self.rng.shuffle(names)
        attributes = [(ORGANIZATION, self.rng.choice(ORGANIZATIONS))] if self.chance(0.5) else []
        if self.chance(0.8):
            if names:
                leaf.extensions["san"] = alternative_names([*map(dns_name, names), *self.other_names()])
            if self.chance(0.6):
                attributes.append((COMMON_NAME, self.rng.choice((*DECOYS[:3], *self.names, *names))))
        else:  # CN only: libssl and RFC 6125 section 6.4.4
            self.tags.append("cn-only")
            if self.chance(0.3) and (others := self.other_names()):
                leaf.extensions["san"] = alternative_names(others)
            attributes += [(COMMON_NAME, name) for name in names] or [(COMMON_NAME, "mx.example.com")]
        if self.chance(0.04):
            attributes.append((EMAIL, self.rng.choice(("a@example.com", "b@sub.example.com", "no mailbox"))))
        tag = self.weighted({UTF8: 80, PRINTABLE: 10, TELETEX: 3, BMP: 3, UNIVERSAL: 1, IA5: 3})
        if tag == PRINTABLE and any(PRINTABLE_LACKS & set(text) for _, text in attributes) and self.chance(0.8):
            tag = UTF8
        leaf.subject = distinguished_name(attributes, tag)

    def presented(self, host: str) -> str:
        """A presented identifier that matches a host, mostly."""
        first, _, rest = host.partition(".")
        return self.weighted(
            {
                host: 70,
                host.upper(): 6,
                f"*.{rest}": 16,
                f"{host}.": 2,
                f"{first[0]}*.{rest}": 2,
                f"*.{rest}".upper(): 1,
                f"*.*.{rest.partition('.')[2]}": 1,
                f"{host}\0.evil.example": 1,
                f" {host}": 0.5,
                f".{rest}": 0.5,
            }
        )

    def other_names(self) -> list[bytes]:
        if not self.chance(0.2):
            return []
        names = [self.rng.choice(OTHER_NAMES) for _ in range(self.rng.randrange(1, 3))]
        return [*names, ip_address(b"\1\2\3")] if self.chance(0.03) else names

    # -- what is published and presented ---------------------------------------------------------------------------

    def publish(self) -> list[Record]:
        """One to four TLSA records, of which, mostly, one matches something."""
        anchors = self.path[1:]
        records: list[Record] = []
        if anchors and self.chance(0.88):
            records.append(self.record(2, self.rng.choice(anchors)))
        elif self.chance(0.6):
            records.append(self.record(2, self.path[0]))
        if self.chance(0.09):
            records.append(self.record(3, self.path[0]))
        others = self.weighted({0: 55, 1: 25, 2: 15, 3: 5}) or (0 if records else 1)
        records.extend(self.other_record() for _ in range(others))
        self.rng.shuffle(records)
        return records[:4]

    def record(self, usage: int, spec: Spec, matching_type: int | None = None) -> Record:
        selector = self.rng.randrange(2)
        content = spec.key.spki if selector else spec.der()
        if matching_type is None:
            matching_type = self.weighted(MATCHING)
        return usage, selector, matching_type, digest_data(matching_type, content)

    def other_record(self) -> Record:
        """A record that is stale, unusable, or about something else."""
        usage, selector, matching_type, data = self.record(
            self.weighted({2: 55, 3: 25, 1: 8, 0: 8, 7: 2, 255: 2}), self.rng.choice([*self.path, *self.extras])
        )
        what = self.weighted({"stale": 35, "right": 25, "short": 10, "long": 5, "mtype": 10, "selector": 5, "full": 10})
        self.tags.append(f"tlsa-{what}")
        if what == "stale" and matching_type:
            data = self.rng.randbytes(len(data))
        elif what == "stale":
            data = self.key().spki if selector else self.stranger().der()
        elif what == "short":
            data = data[: self.rng.choice((0, 1, len(data) - 1))]
        elif what == "long":
            data += b"\0"
        elif what == "mtype":
            matching_type = self.rng.choice((3, 4, 17, 254, 255))
        elif what == "selector":
            selector = self.rng.choice((2, 3, 255))
        elif what == "full":
            matching_type, data = 0, self.rng.choice((b"", b"\x30\x00", self.rng.randbytes(40), data))
        return usage, selector, matching_type, data

    def present(self, tlsa: Sequence[Record]) -> tuple[bytes, ...]:
        """The chain, leaf first: mostly complete and in order."""
        leaf, *above = [spec.der() for spec in self.path]
        others = [spec.der() for spec in self.extras]
        published = {record[3] for record in tlsa}
        if above and self.chance(0.18):
            above.pop()
            self.tags.append("no-root")
        if above and self.chance(0.07):
            above.pop(self.rng.randrange(len(above)))
            self.tags.append("gap")
        if self.chance(0.5):
            above = [octets for octets in above if octets not in published]
        if self.chance(0.1):
            others.append(self.stranger().der())
            self.tags.append("stranger")
        if self.chance(0.08):
            others += self.rng.choices([leaf, *above], k=self.rng.randrange(1, 4))
            self.tags.append("duplicates")
        if self.chance(0.03):
            others.append(self.rng.choice((b"", b"\x30", self.rng.randbytes(30), leaf[:-1], leaf + b"\0")))
            self.tags.append("garbage")
        tail = above + others
        if others or self.chance(0.15):
            self.rng.shuffle(tail)
        return leaf, *tail

    def stranger(self) -> Spec:
        """A certificate that may bear a name of this PKI, but is not of it."""
        spec = Spec(self.authority_name(self.rng.randrange(4)), self.key(), serial=self.rng.randrange(1, 1000))
        spec.extensions.update(self.authority_extensions(3))
        return spec


PRINTABLE_LACKS = frozenset("*@_&;ü\0")  # as far as the generator uses them (X.680 section 41.4)

DECOYS = (
    "mail.elsewhere.example",
    "CA",
    "mx2.example.com",
    "*.com",
    "*",
    "*.example",
    "*.elsewhere.example",
    "192.0.2.1",
    "m*.example.com",
    "*x.example.com",
    "mx.*.com",
    "sub.*.example.com",
    "*.*.com",
    "xn--*.example",
    "",
    ".",
    "..example.com",
    "mx..example.com",
    "-mx.example.com",
    "mx.example.com-",
    "mx@example.com",
    "*.xn--bcher-kva.example",
    "a" * 64 + ".example.com",
    "example.com:25",
)

OTHER_NAMES = (
    ip_address(bytes((192, 0, 2, 1))),
    ip_address(bytes(15) + b"\1"),
    mailbox("postmaster@example.com"),
    mailbox("postmaster@sub.example.com"),
    mailbox("postmaster"),
    uri("https://mx.example.com/"),
    uri("smtp://mx.sub.example.com:25/x"),
    uri("urn:x"),
    other_name("_smtp.mx.example.com"),
    directory_name(distinguished_name([(ORGANIZATION, "Test CA"), (COMMON_NAME, "mx")])),
    registered_id("1.2.3.4"),
)


# -- faults and oddities: each is put into a path that is not encoded yet ---------------------------------------------


def _dates(maker: _Maker) -> None:
    spec, rng = maker.anyone(), maker.rng
    choice = rng.randrange(8)
    if choice < 3:
        spec.not_before, spec.not_after = NOW - 90 * DAY, NOW - rng.choice((1, 2, DAY, 80 * DAY))
    elif choice < 5:
        spec.not_before = NOW + rng.choice((1, DAY))
    elif choice == 5:
        spec.not_after = NOW + 1
    elif choice == 6 and all(other.not_after != NOW for other in maker.path):
        spec.not_before = NOW
    elif all(other.not_before != NOW for other in maker.path):  # so that a second earlier all the others are valid
        spec.not_after = NOW


def _odd_dates(maker: _Maker) -> None:
    early, late = NOW - DAY, NOW + DAY
    maker.anyone().times = maker.rng.choice(
        (
            der.sequence(der.time(early, generalized=True), der.time(late, generalized=True)),
            der.sequence(der.tlv(0x17, b"2501010000Z"), der.tlv(0x17, b"2701010000Z")),
            der.sequence(der.tlv(0x17, b"250101000000+0000"), der.tlv(0x17, b"270101000000+0000")),
            der.sequence(der.tlv(0x18, b"19000101000000Z"), der.tlv(0x18, b"99991231235959Z")),
            der.sequence(der.tlv(0x17, b"251301000000Z"), der.tlv(0x17, b"270101000000Z")),
            der.sequence(der.tlv(0x17, b"250101000000Z"), der.tlv(0x18, b"20270101000000.5Z")),
            der.sequence(der.time(late), der.time(early)),
            der.sequence(der.tlv(0x18, b"00000101000000Z"), der.tlv(0x18, b"99991231235959Z")),
        )
    )


def _bad_signature(maker: _Maker) -> None:
    maker.anyone().surgery = "flip"


def _wrong_signer(maker: _Maker) -> None:
    maker.anyone().signer = maker.key()


def _weak_digest(maker: _Maker) -> None:
    rng, spec = maker.rng, maker.anyone()
    spec.digest = rng.choice(("sha1", "sha1", "md5"))
    issuer = spec.issuer or spec
    if rng.random() < 0.6 and not issuer.key.kind.startswith("rsa"):
        issuer.key = rng.choice(_keys()["rsa1024"])
        _refresh(issuer)


def _weak_key(maker: _Maker) -> None:
    spec = maker.anyone()
    spec.key = maker.rng.choice([*_keys()["rsa512"], *_keys()["rsa768"]])
    _refresh(spec)


def _refresh(spec: Spec) -> None:
    """Keep the subject key identifier in step with the key."""
    if "ski" in spec.extensions:
        spec.extensions["ski"] = extension("ski", der.octet_string(spec.key.identifier))


def _odd_key(maker: _Maker) -> None:
    """A leaf with a key that is of no known kind, spelt out, or nonsense."""
    spec = maker.path[0]
    if spec.issuer is None:
        return
    rsa = _keys()["rsa2048"][0].spki
    curve = bytes.fromhex("06082a8648ce3d030107")
    point = _keys()["p256"][0].spki[-65:]
    ec_public_key = der.oid("1.2.840.10045.2.1")
    prime = 2**256 - 2**224 + 2**192 + 2**96 - 1
    explicit = der.sequence(
        der.integer(1),
        der.sequence(der.oid("1.2.840.10045.1.1"), der.integer(prime)),
        der.sequence(
            der.octet_string((prime - 3).to_bytes(32, "big")),
            der.octet_string(bytes.fromhex("5ac635d8aa3a93e7b3ebbd55769886bc651d06b0cc53b0f63bce3c3e27d2604b")),
        ),
        der.octet_string(
            bytes.fromhex(
                "046b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296"
                "4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5"
            )
        ),
        der.integer(0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551),
        der.integer(1),
    )
    spki = maker.rng.choice(
        (
            der.sequence(der.sequence(der.oid("1.2.3.4.5")), der.bit_string(b"key")),
            der.sequence(der.sequence(der.oid("1.2.840.113549.1.1.10")), rsa[rsa.index(b"\x03\x82") :]),
            der.sequence(der.sequence(der.oid("1.2.840.113549.1.1.1")), rsa[rsa.index(b"\x03\x82") :]),
            der.sequence(der.sequence(ec_public_key, curve), der.bit_string(point[:33])),
            der.sequence(der.sequence(ec_public_key, curve), der.bit_string(b"\4" + bytes(64))),
            der.sequence(der.sequence(ec_public_key, explicit), der.bit_string(point)),
            der.sequence(der.sequence(der.oid("1.3.101.112")), der.bit_string(b"short")),
        )
    )
    spec.key = type(spec.key)("odd/0", spki, spec.key.private)


def _algorithm_mismatch(maker: _Maker) -> None:
    spec = maker.anyone()
    other = "sha512" if spec.digest != "sha512" else "sha256"
    if maker.chance(0.5):
        spec.outer_digest = other
    else:
        spec.inner_digest = other


def _mangled_parameters(maker: _Maker) -> None:
    """The signature is right, but its AlgorithmIdentifier is not, the same in both places."""
    rng, spec = maker.rng, maker.anyone()
    issuer = spec.issuer or spec
    if rng.random() < 0.4 and not issuer.key.kind.startswith("rsa"):
        issuer.key = rng.choice(_keys()["rsa1024"])
        _refresh(issuer)
    if issuer.key.kind in {"rsa1024", "rsa2048"} and rng.random() < 0.7:
        spec.digest = "pss"
    algorithm = (spec.signer or issuer.key).algorithm(spec.digest)
    choice = rng.randrange(4)
    if choice < 2:  # one bit, beyond the length octets
        spec.algorithm = der.flip(algorithm, rng.randrange(2, len(algorithm)), 1 << rng.randrange(8))
    elif choice == 2:  # parameters where there are none, none where there are some
        spec.algorithm = (
            der.sequence(algorithm[2:-2]) if algorithm.endswith(der.NULL) else der.sequence(algorithm[2:], der.NULL)
        )
    else:
        spec.algorithm = rng.choice(
            (
                der.sequence(der.oid("1.2.840.113549.1.1.10")),  # PSS with its defaults, SHA-1
                der.sequence(der.oid("1.2.840.113549.1.1.10"), der.NULL),
                der.sequence(der.oid("1.2.840.113549.1.1.10"), der.sequence()),
                der.sequence(der.oid("1.2.840.113549.1.1.1"), der.NULL),
                der.sequence(der.oid("1.2.3.4")),
                der.sequence(der.oid("1.3.101.113")),
            )
        )


def _basic_constraints(maker: _Maker) -> None:
    spec = maker.authority()
    choice = maker.rng.randrange(6)
    if choice < 2:
        spec.extensions.pop("bc", None)
        if maker.chance(0.5):
            spec.extensions["ku"] = key_usage(5, 6)
    elif choice == 2:
        spec.extensions["bc"] = basic_constraints(ca=False, critical=maker.chance(0.5))
    elif choice == 3:
        spec.extensions["bc"] = basic_constraints(ca=False, path_length=0)
    elif choice == 4:
        spec.extensions["bc"] = extension("bc", der.sequence(b"\x01\x01\x01"), critical=True)
    else:
        spec.extensions["bc"] = extension("bc", maker.rng.randbytes(4), critical=True)


def _path_length(maker: _Maker) -> None:
    maker.authority().extensions["bc"] = basic_constraints(
        ca=True, path_length=maker.rng.choice((0, 0, 0, 1, 1, 2, -1))
    )


def _key_usage(maker: _Maker) -> None:
    spec = maker.anyone()
    bits = maker.rng.choice(((), (0,), (0, 2), (1,), (3,), (4,), (5,), (6,), (5, 6), (7,), (8,)))
    spec.extensions["ku"] = key_usage(*bits)


def _extended_key_usage(maker: _Maker) -> None:
    purposes = maker.rng.choice(
        (
            (CLIENT_AUTH,),
            (ANY_PURPOSE,),
            (ANY_PURPOSE, CLIENT_AUTH),
            (SERVER_AUTH, ANY_PURPOSE),
            (CLIENT_AUTH, SERVER_AUTH),
            (CODE_SIGNING,),
            (NETSCAPE_SGC,),
            ("1.3.6.1.4.1.55555.2",),
            (),
        )
    )
    maker.anyone().extensions["eku"] = extended_key_usage(*purposes, critical=maker.chance(0.3))


def _authority_key_identifier(maker: _Maker) -> None:
    maker.anyone().aki = maker.rng.choice(
        (
            ("wrong-key",),
            ("wrong-serial",),
            ("wrong-issuer",),
            ("key", "wrong-serial"),
            ("wrong-key", "serial"),
            ("key", "serial"),
            (),
        )
    )


def _subject_key_identifier(maker: _Maker) -> None:
    spec = maker.authority()
    choice = maker.rng.randrange(4)
    if choice == 0:
        spec.extensions.pop("ski", None)
    elif choice == 1:
        spec.extensions["ski"] = extension("ski", der.octet_string(b""))
    elif choice == 2:
        spec.extensions["ski"] = extension("ski", der.octet_string(maker.rng.randbytes(20)))
    else:
        spec.extensions["ski"] = extension("ski", der.octet_string(spec.key.identifier), critical=True)


def _name_constraints(maker: _Maker) -> None:
    rng = maker.rng
    subject = distinguished_name([(ORGANIZATION, rng.choice(ORGANIZATIONS))], rng.choice((UTF8, TELETEX, BMP)))
    host = rng.choice(maker.names)
    dns = (
        host,
        f".{host}",
        host.partition(".")[2],
        f".{host.partition('.')[2]}",
        "example",
        "elsewhere.example",
        "",
        host.upper(),
        "bücher.example",
    )
    bases = {
        "dns": [dns_name(name) for name in dns],
        "ip": [
            ip_address(bytes.fromhex(text))
            for text in (
                "c0000200ffffff00",
                "0a000000ff000000",
                "0000000000000000",
                "c0000201",
                "20010db8" + "00" * 12 + "ffffffff" + "00" * 12,
                "00" * 32,
            )
        ],
        "directory": [
            directory_name(name)
            for name in (subject, maker.path[0].subject, distinguished_name([]), distinguished_name([(COUNTRY, "DE")]))
        ],
        "mailbox": [
            mailbox(name)
            for name in (
                "example.com",
                ".example.com",
                "postmaster@example.com",
                "ca@example.com",
                "sub.example.com",
                "",
            )
        ],
        "uri": [uri(name) for name in ("example.com", ".example.com", "mx.example.com", "")],
        "other": [other_name("example.com"), registered_id("1.2.3.4"), der.explicit(3, b"")],
    }
    kinds = [
        maker.weighted({"dns": 60, "directory": 16, "ip": 10, "mailbox": 6, "uri": 4, "other": 4})
        for _ in range(rng.randrange(1, 4))
    ]
    chosen = [rng.choice(bases[kind]) for kind in kinds]
    cut = rng.randrange(len(chosen) + 1)
    extra = (
        rng.choice((der.implicit(0, b"\0"), der.implicit(0, b"\1"), der.implicit(1, b"\5")))
        if maker.chance(0.04)
        else b""
    )
    spec = maker.anyone() if maker.chance(0.05) else maker.authority()
    spec.extensions["nc"] = name_constraints(chosen[:cut], chosen[cut:], extra=extra)
    if maker.chance(0.15):
        maker.path[0].extensions.pop("san", None)
    elif maker.chance(0.25):
        names = [dns_name(maker.rng.choice(maker.names)), *(rng.choice(OTHER_NAMES) for _ in range(rng.randrange(3)))]
        maker.path[0].extensions["san"] = alternative_names(names)


def _critical_extension(maker: _Maker) -> None:
    spec, rng = maker.anyone(), maker.rng
    policy = der.sequence(der.sequence(der.oid("2.5.29.32.0")))
    name, value, critical = rng.choice(
        (
            ("unknown", der.NULL, True),
            ("unknown", der.NULL, True),
            ("unknown", der.NULL, False),
            ("policies", policy, True),
            ("policies", policy, False),
            ("policies", b"\5", False),
            ("mappings", der.sequence(der.sequence(der.oid("1.2.3"), der.oid("1.2.4"))), True),
            ("policy-constraints", der.sequence(der.implicit(0, b"\0")), True),
            ("policy-constraints", der.sequence(), True),
            ("inhibit-any", der.integer(0), True),
            ("inhibit-any", der.integer(-1), True),
            ("crldp", der.sequence(der.sequence(der.explicit(0, der.explicit(0, uri("http://crl.example/"))))), True),
            ("crldp", b"\1", False),
            ("nscerttype", der.named_bits(rng.choice(((0,), (1,), (5,), (0, 1, 5)))), False),
            ("proxy", der.sequence(der.sequence(der.oid("1.3.6.1.5.5.7.21.1"))), rng.random() < 0.5),
        )
    )
    spec.extensions[name] = extension(name, value, critical=critical)


def _odd_extension(maker: _Maker) -> None:
    """A known extension twice, with a value that does not parse, or critical where it should not be."""
    spec, rng = maker.anyone(), maker.rng
    name = rng.choice(("san", "eku", "ku", "ski", "nc", "bc", "unknown"))
    choice = rng.randrange(4)
    if choice == 0 and name in spec.extensions:
        spec.extensions[f"{name} again"] = spec.extensions[name]
    elif choice == 1 and name in spec.extensions:
        spec.extensions[name] += spec.extensions[name]
    elif choice == 2:
        spec.extensions[name] = extension(
            name, rng.choice((b"", b"\x30\x00", b"\x05\x00", b"\x30\x03\x02\x01")), critical=False
        )
    else:
        spec.extensions["aki "] = extension(
            "aki", rng.choice((b"\x30\x00", der.NULL, b"\x30\x05\x80\x03abc")), critical=rng.random() < 0.4
        )
        spec.aki = ()


def _version(maker: _Maker) -> None:
    spec = maker.path[-1] if maker.chance(0.4) else maker.anyone()
    spec.version = maker.rng.choice((0, 0, 0, 1, 2, 3, -1))
    if maker.chance(0.75):
        spec.extensions.clear()
        spec.aki = ()


def _issuer_spelling(maker: _Maker) -> None:
    """The issuer's name in another spelling, or another name altogether."""
    spec, rng = maker.anyone(), maker.rng
    at = maker.path.index(spec) + 1
    height = len(maker.path) - 1 - at
    if height not in maker.attributes:
        return
    attributes = maker.attributes[height]
    choice = rng.randrange(6)
    if choice == 0:
        attributes = [(kind, text.upper()) for kind, text in attributes]
    elif choice == 1:
        attributes = [(kind, f"  {text.replace(' ', '   ')} ") for kind, text in attributes]
    elif choice == 2:
        attributes = list(reversed(attributes))
    tags: tuple[int, ...] = (UTF8, TELETEX, BMP, UNIVERSAL)
    if rng.random() < 0.1:
        tags = (NUMERIC,)
    elif rng.random() < 0.1 or all(text.isascii() for _, text in attributes):
        tags = (*tags, PRINTABLE, IA5)
    spec.issuer_name = distinguished_name(attributes, rng.choice(tags))


def _odd_names(maker: _Maker) -> None:
    spec, rng = maker.anyone(), maker.rng
    choice = rng.randrange(5)
    if choice == 0:
        spec.subject = distinguished_name([])
    elif choice == 1:
        spec.subject = der.sequence(
            der.set_of(
                der.sequence(der.oid(COMMON_NAME), der.string(UTF8, rng.choice(maker.names))),
                der.sequence(der.oid(ORGANIZATION), der.string(UTF8, "Test CA")),
            )
        )
    elif choice == 2:
        spec.subject = distinguished_name([(COMMON_NAME, "CA"), (COUNTRY, "DEUTSCHLAND")], PRINTABLE)
    elif choice == 3:
        spec.subject = der.sequence(der.set_of(der.sequence(der.oid(COMMON_NAME), der.tlv(0x0C, b"\xff\xfe"))))
    else:
        spec.subject = der.sequence(der.set_of(der.sequence(der.oid(COMMON_NAME), der.integer(5))))


def _subject_is_issuers(maker: _Maker) -> None:
    """A CA takes the name of the CA above it, so it is self-issued and not self-signed."""
    if len(maker.path) > 2:
        at = maker.rng.randrange(0 if maker.chance(0.1) else 1, len(maker.path) - 1)
        maker.path[at].subject = maker.path[at + 1].subject


def _constrained_self_issued(maker: _Maker) -> None:
    """A self-issued CA below constraints that would refuse it, but do not apply to it (RFC 5280 section 6.1.3)."""
    if len(maker.path) < 3:
        return
    at = maker.rng.randrange(1, len(maker.path) - 1)
    below, above = maker.path[at], maker.path[at + 1]
    below.subject, below.aki = above.subject, ("key",)
    above.extensions["ski"] = extension("ski", der.octet_string(above.key.identifier))
    if maker.chance(0.6):
        above.extensions["nc"] = name_constraints(excluded=[directory_name(above.subject)])
    if maker.chance(0.6):
        above.extensions["bc"] = basic_constraints(ca=True, path_length=max(0, at - maker.rng.choice((1, 1, 2))))


def _rollover(maker: _Maker) -> None:
    """The old root certifies the new one's key under the same name (RFC 4210 section 4.4)."""
    root = maker.path[-1]
    old = Spec(root.subject, maker.key(avoid=[root.key]), serial=maker.rng.randrange(1, 1 << 30))
    old.extensions.update(root.extensions)
    _refresh(old)
    link = Spec(root.subject, root.key, old, serial=maker.rng.randrange(1, 1 << 30), aki=root.aki)
    link.extensions.update(root.extensions)
    maker.extras += [old, link]
    if maker.chance(0.6):
        maker.path[-1:] = [link, old]
        maker.extras = [root]


def _cross_signed(maker: _Maker) -> None:
    """A CA of the path has a second certificate from another root, sound or not."""
    if len(maker.path) < 2:
        return
    at = maker.rng.randrange(1, len(maker.path))
    original = maker.path[at]
    other = maker.stranger()
    if maker.chance(0.5):
        other.not_after = NOW - DAY
    cross = Spec(original.subject, original.key, other, serial=maker.rng.randrange(1, 1 << 30))
    cross.extensions.update(original.extensions)
    if maker.chance(0.3):
        cross.not_after = maker.rng.choice((NOW - DAY, NOW + 900 * DAY))
    if maker.chance(0.3):
        cross.extensions["bc"] = basic_constraints(ca=maker.chance(0.5), path_length=0)
    maker.extras += [other, cross] if maker.chance(0.7) else [cross]
    if maker.chance(0.4):
        maker.extras += maker.path[at:]
        maker.path[at:] = [cross, other]


def _twin(maker: _Maker) -> None:
    """A stranger with the name of a CA, and sometimes with its key identifier."""
    original = maker.authority()
    twin = Spec(original.subject, maker.key(avoid=[original.key]), serial=maker.rng.choice((original.serial, 7)))
    twin.extensions.update(original.extensions)
    if maker.chance(0.5):
        _refresh(twin)
    maker.extras.append(twin)


def _renewed(maker: _Maker) -> None:
    """The same CA with the same key under new dates."""
    original = maker.authority()
    renewed = Spec(original.subject, original.key, original.issuer, serial=maker.rng.choice((original.serial, 9)))
    renewed.extensions.update(original.extensions)
    renewed.aki = original.aki
    renewed.not_after = NOW + maker.rng.choice((-DAY, 400 * DAY))
    maker.extras.append(renewed)


def _loop(maker: _Maker) -> None:
    """The topmost CA is certified by one below it, and no root is there."""
    if len(maker.path) > 2:
        root, below = maker.path[-1], maker.path[maker.rng.randrange(1, len(maker.path) - 1)]
        root.issuer_name, root.signer = below.subject, below.key
        root.aki = ()


def _serial(maker: _Maker) -> None:
    spec = maker.anyone()
    spec.serial = maker.rng.choice((0, -1, -(2**70), 2**158, 2**200, 2**400))
    for below in maker.path:  # such a serial number has no place in a short-form authority key identifier
        if below.issuer is spec or below is spec:
            below.aki = ()


def _surgery(maker: _Maker) -> None:
    maker.anyone().surgery = maker.rng.choice(("trail", "truncate", "indefinite"))


def _self_signed_leaf(maker: _Maker) -> None:
    leaf = maker.path[0]
    leaf.issuer = None
    leaf.aki = ()
    if maker.chance(0.5):
        leaf.extensions["bc"] = basic_constraints(ca=True)


def _leaf_is_ca(maker: _Maker) -> None:
    maker.path[0].extensions["bc"] = basic_constraints(ca=True, path_length=maker.rng.choice((None, 0)))


FAULTS: dict[str, tuple[Callable[[_Maker], None], float]] = {
    "dates": (_dates, 8),
    "odd-dates": (_odd_dates, 2),
    "bad-signature": (_bad_signature, 4),
    "wrong-signer": (_wrong_signer, 2),
    "weak-digest": (_weak_digest, 5),
    "weak-key": (_weak_key, 3),
    "odd-key": (_odd_key, 2),
    "mangled-parameters": (_mangled_parameters, 4),
    "algorithm-mismatch": (_algorithm_mismatch, 2),
    "basic-constraints": (_basic_constraints, 6),
    "path-length": (_path_length, 5),
    "key-usage": (_key_usage, 6),
    "extended-key-usage": (_extended_key_usage, 6),
    "aki": (_authority_key_identifier, 5),
    "ski": (_subject_key_identifier, 3),
    "name-constraints": (_name_constraints, 14),
    "critical-extension": (_critical_extension, 6),
    "odd-extension": (_odd_extension, 4),
    "version": (_version, 5),
    "issuer-spelling": (_issuer_spelling, 8),
    "odd-names": (_odd_names, 3),
    "subject-is-issuers": (_subject_is_issuers, 3),
    "constrained-self-issued": (_constrained_self_issued, 3),
    "rollover": (_rollover, 4),
    "cross-signed": (_cross_signed, 6),
    "twin": (_twin, 5),
    "renewed": (_renewed, 5),
    "loop": (_loop, 2),
    "serial": (_serial, 2),
    "surgery": (_surgery, 1),
    "self-signed-leaf": (_self_signed_leaf, 2),
    "leaf-is-ca": (_leaf_is_ca, 1),
}
