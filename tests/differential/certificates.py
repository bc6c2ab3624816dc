"""Certificates as descriptions that can be spoilt in any way before they are encoded.

A `Spec` names its issuer's `Spec`. Issuer name, authority key identifier and signature are taken from there when the
certificate is encoded, so that a change of a CA reaches everything below it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, field

from tests.differential import der

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from tests.differential.keys import Key

NOW = 1_767_225_600  # 2026-01-01T00:00:00Z, the time of every verification
DAY = 86_400

PRINTABLE, UTF8, TELETEX, BMP, UNIVERSAL, IA5 = 0x13, 0x0C, 0x14, 0x1E, 0x1C, 0x16
NUMERIC = 0x12  # not among the types that are compared as text

COUNTRY, ORGANIZATION, COMMON_NAME, EMAIL = "2.5.4.6", "2.5.4.10", "2.5.4.3", "1.2.840.113549.1.9.1"

SERVER_AUTH, CLIENT_AUTH = "1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.2"
ANY_PURPOSE, CODE_SIGNING, NETSCAPE_SGC = "2.5.29.37.0", "1.3.6.1.5.5.7.3.3", "2.16.840.1.113730.4.1"

EXTENSION_OIDS = {
    "ski": "2.5.29.14",
    "ku": "2.5.29.15",
    "san": "2.5.29.17",
    "bc": "2.5.29.19",
    "nc": "2.5.29.30",
    "crldp": "2.5.29.31",
    "policies": "2.5.29.32",
    "mappings": "2.5.29.33",
    "aki": "2.5.29.35",
    "policy-constraints": "2.5.29.36",
    "eku": "2.5.29.37",
    "inhibit-any": "2.5.29.54",
    "nscerttype": "2.16.840.1.113730.1.1",
    "proxy": "1.3.6.1.5.5.7.1.14",
    "unknown": "1.3.6.1.4.1.55555.1",
}


def distinguished_name(attributes: Iterable[tuple[str, str]], tag: int = UTF8) -> bytes:
    """A Name, one attribute in each RDN; country and mailbox keep the types that they must have."""
    types = {COUNTRY: PRINTABLE, EMAIL: IA5}
    return der.sequence(
        *(der.set_of(der.sequence(der.oid(kind), der.string(types.get(kind, tag), text))) for kind, text in attributes)
    )


def extension(name: str, value: bytes, *, critical: bool = False) -> bytes:
    """An Extension of the given short name."""
    return der.sequence(der.oid(EXTENSION_OIDS[name]), der.BOOLEAN_TRUE if critical else b"", der.octet_string(value))


def basic_constraints(*, ca: bool, path_length: int | None = None, critical: bool = True) -> bytes:
    """The basicConstraints extension."""
    limit = b"" if path_length is None else der.integer(path_length)
    return extension("bc", der.sequence(der.BOOLEAN_TRUE if ca else b"", limit), critical=critical)


def key_usage(*bits: int) -> bytes:
    """The keyUsage extension: digitalSignature 0, keyEncipherment 2, keyAgreement 4, keyCertSign 5, cRLSign 6."""
    return extension("ku", der.named_bits(bits), critical=True)


def extended_key_usage(*purposes: str, critical: bool = False) -> bytes:
    """The extendedKeyUsage extension."""
    return extension("eku", der.sequence(*map(der.oid, purposes)), critical=critical)


def alternative_names(names: Iterable[bytes], *, critical: bool = False) -> bytes:
    """The subjectAltName extension, from GeneralNames."""
    return extension("san", der.sequence(*names), critical=critical)


def mailbox(text: str) -> bytes:
    """A GeneralName of type rfc822Name."""
    return der.implicit(1, text.encode("latin-1"))


def dns_name(text: str) -> bytes:
    """A GeneralName of type dNSName."""
    return der.implicit(2, text.encode("latin-1"))


def directory_name(name: bytes) -> bytes:
    """A GeneralName of type directoryName."""
    return der.explicit(4, name)


def uri(text: str) -> bytes:
    """A GeneralName of type uniformResourceIdentifier."""
    return der.implicit(6, text.encode("latin-1"))


def ip_address(octets: bytes) -> bytes:
    """A GeneralName of type iPAddress; in name constraints the mask follows the address."""
    return der.implicit(7, octets)


def other_name(text: str, kind: str = "1.3.6.1.5.5.7.8.7") -> bytes:
    """A GeneralName of type otherName: by default an SRVName (RFC 4985)."""
    return der.explicit(0, der.oid(kind) + der.explicit(0, der.string(IA5, text)))


def registered_id(dotted: str) -> bytes:
    """A GeneralName of type registeredID."""
    return der.implicit(8, der.oid(dotted)[2:])


def name_constraints(permitted: Sequence[bytes] = (), excluded: Sequence[bytes] = (), *, extra: bytes = b"") -> bytes:
    """The nameConstraints extension; `extra` stands behind each base, for minimum and maximum."""
    parts = [
        der.explicit(number, b"".join(der.sequence(base, extra) for base in bases))
        for number, bases in enumerate((permitted, excluded))
        if bases
    ]
    return extension("nc", der.sequence(*parts), critical=True)


@define(eq=False)
class Spec:
    """A certificate to be made.

    Attributes:
        subject: the subject's Name as DER.
        key: the subject's key.
        issuer: whose name and key identifier it bears; itself where None.
        signer: the key that signs in place of the issuer's.
        issuer_name: the Name in the issuer field in place of the issuer's subject.
        version: the INTEGER of the version field; 0 (v1) leaves the field out.
        extensions: encoded extensions by short name.
        aki: what the authorityKeyIdentifier holds: any of "key", "serial", "wrong-key", "wrong-serial", "wrong-issuer".
        digest: the signature's digest.
        inner_digest: the digest claimed by the signature field inside, where it is another.
        outer_digest: the digest claimed by the signatureAlgorithm outside, where it is another.
        algorithm: the AlgorithmIdentifier claimed in both places, whatever the signature is.
        mangle: changes the TBSCertificate before it is signed.
        surgery: octets are changed at last: "flip" (a bit of the signature), "trail", "truncate", "indefinite".
    """

    subject: bytes
    key: Key
    issuer: Spec | None = None
    signer: Key | None = None
    issuer_name: bytes | None = None
    version: int = 2
    serial: int = 1
    not_before: int = NOW - 90 * DAY
    not_after: int = NOW + 90 * DAY
    times: bytes | None = None
    extensions: dict[str, bytes] = field(factory=dict)
    aki: tuple[str, ...] = ()
    digest: str = "sha256"
    inner_digest: str | None = None
    outer_digest: str | None = None
    algorithm: bytes | None = None
    mangle: Callable[[bytes], bytes] | None = None
    surgery: str | None = None
    encoded: bytes | None = None

    def der(self) -> bytes:
        """The certificate, made once."""
        if self.encoded is None:
            self.encoded = self._encode()
        return self.encoded

    def _encode(self) -> bytes:
        issuer = self.issuer or self
        signer = self.signer or issuer.key
        extensions = list(self.extensions.values())
        if self.aki:
            extensions.append(self._authority_key_identifier(issuer))
        algorithm = self.algorithm or signer.algorithm(self.inner_digest or self.digest)
        tbs = der.sequence(
            der.explicit(0, der.integer(self.version)) if self.version else b"",
            der.integer(self.serial),
            algorithm,
            issuer.subject if self.issuer_name is None else self.issuer_name,
            self.times or der.sequence(der.time(self.not_before), der.time(self.not_after)),
            self.subject,
            self.key.spki,
            der.explicit(3, der.sequence(*extensions)) if extensions else b"",
        )
        if self.mangle is not None:
            tbs = self.mangle(tbs)
        _, signature = signer.signature(tbs, self.digest)
        if self.surgery == "flip":
            signature = der.flip(signature, len(signature) // 2)
        outer = self.algorithm or signer.algorithm(self.outer_digest or self.digest)
        return self._after_surgery(der.sequence(tbs, outer, der.bit_string(signature)))

    def _after_surgery(self, octets: bytes) -> bytes:
        if self.surgery == "trail":
            return octets + b"\0"
        if self.surgery == "truncate":
            return octets[:-3]
        if self.surgery == "indefinite":
            return b"\x30\x80" + octets[4:] + b"\0\0"
        return octets

    def _authority_key_identifier(self, issuer: Spec) -> bytes:
        parts = []
        above = issuer.issuer or issuer
        for kind in self.aki:
            if kind == "key":
                parts.append(der.implicit(0, issuer.key.identifier))
            elif kind == "wrong-key":
                parts.append(der.implicit(0, b"wrong" + issuer.key.identifier[5:]))
            elif kind == "wrong-issuer":
                parts.append(der.explicit(1, directory_name(distinguished_name([(COMMON_NAME, "Nobody")]))))
                parts.append(der.implicit(2, der.integer(issuer.serial)[2:]))
            else:
                serial = issuer.serial + (kind == "wrong-serial")
                name = above.subject if issuer.issuer_name is None else issuer.issuer_name
                parts.append(der.explicit(1, directory_name(name)))
                parts.append(der.implicit(2, der.integer(serial)[2:]))
        return extension("aki", der.sequence(*parts))
