"""PKIX: whether a chain leads to a trusted root and bears the host's name (RFC 8461 section 4.2, RFC 5280).

* The path check is the verifier of `cryptography`, with its rules for extensions relaxed to those of RFC 5280: a CA has
  basicConstraints and may sign certificates, purposes allow serverAuth. What it does not relax, it asks of public CAs
  anyway: version 3, SHA-2, RSA keys of 2048 bits or more or common curves.
* What it leaves out is added, by the rules for DANE (`x509.constraints`): name constraints bind all names, a
  Common Name that authenticates too (RFC 5280 section 4.2.1.10, RFC 6125 section 6.4.4), and one that is not understood
  permits nothing of its type. What it refuses beyond them stays refused.
* Any certificate of the trust store is an anchor, self-signed or not.
* A certificate that is malformed, wherever its verifier would not look, is no part of any path.
* The leaf bears the reference identifier as a DNS-ID; a Common Name is not enough (RFC 8461 section 4.2), except for
  REQUIRETLS (RFC 8689 section 4.2.1). Names are compared as for DANE (`mailtlspolicy.identity`).
* The verifier tells one error for everything, so the reason is read from the leaf: its dates, then its name, then the
  path (RFC 8460 section 4.3).

>>> from datetime import datetime, timezone
>>> str(verify([], None, "mx.example", now=datetime.now(timezone.utc)).failure)
'no-certificate'
"""

from __future__ import annotations

import hashlib
from datetime import timezone
from typing import TYPE_CHECKING

from attrs import field, frozen
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import (
    Criticality,
    ExtensionPolicy,
    Policy,
    PolicyBuilder,
    Store,
    VerificationError,
)

from mailtlspolicy.config import Config
from mailtlspolicy.identity import dns_ids, first_match, presented_identifiers
from mailtlspolicy.verdict import Failure, Mechanism, Verdict
from mailtlspolicy.x509.certificates import MALFORMED, Certificate
from mailtlspolicy.x509.constraints import ConstrainedNames, names_are_permitted
from mailtlspolicy.x509.pem import certificate_blocks

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

_DEFAULT = Config()


def _octets(certificates: Iterable[bytes]) -> tuple[bytes, ...]:
    return tuple(certificates)


def _refusal(der: bytes) -> str | None:
    """Why the octets are no certificate; None where they are one."""
    try:
        Certificate(der)
    except ValueError as error:
        return str(error)
    return None


@frozen
class TrustStore:
    """The certificates that are trusted as anchors, as DER. Made of any iterable of `bytes`.

    Attributes:
        certificates: the anchors.
        left_out: what `from_pem` or `of_anchors` met and left out, being no certificate: for each one line for people,
            which one it is and why.

    Raises:
        ValueError: one of them is not a certificate.
    """

    certificates: tuple[bytes, ...] = field(default=(), converter=_octets)
    left_out: tuple[str, ...] = field(default=(), eq=False)
    _store: Store | None = field(init=False, eq=False, repr=False)

    @_store.default
    def _load(self) -> Store | None:
        certificates = [Certificate(certificate).parsed for certificate in self.certificates]
        return Store(certificates) if certificates else None

    @classmethod
    def of_anchors(cls, anchors: Iterable[tuple[str, bytes]], left_out: Iterable[str] = ()) -> TrustStore:
        """Make one of all anchors that are certificates, each with a name to tell it by; the others are left out.

        Args:
            anchors: the name of each, and its DER.
            left_out: lines on what was left out before.
        """
        names: dict[bytes, str] = {}
        for name, der in anchors:
            names.setdefault(der, name)
        refused = {der: why for der in names if (why := _refusal(der)) is not None}
        lines = (f"{names[der]} (SHA-256 {hashlib.sha256(der).hexdigest()}): {why}" for der, why in refused.items())
        return cls((der for der in names if der not in refused), (*left_out, *lines))

    @classmethod
    def from_pem(cls, pem: bytes) -> TrustStore:
        """Read one or more PEM certificates. One that is malformed costs none of the others, and is in `left_out`.

        Raises:
            ValueError: there is none, or all are malformed.
        """
        anchors, left_out = certificate_blocks(pem.decode("ascii", "replace"))
        store = cls.of_anchors(anchors, left_out)
        if not store.certificates:
            raise ValueError("; ".join(store.left_out) or "there is no PEM certificate")
        return store

    def __reduce__(self) -> tuple[type[TrustStore], tuple[tuple[bytes, ...], tuple[str, ...]]]:
        return TrustStore, (self.certificates, self.left_out)


def verify(
    chain: Sequence[bytes],
    trust_store: TrustStore | None,
    reference_id: str,
    *,
    now: datetime,
    config: Config = _DEFAULT,
    cn_ids: bool = False,
) -> Verdict:
    """Verify a presented chain by a trust store and the name of the host.

    Args:
        chain: the certificates presented, as DER, leaf first.
        trust_store: the anchors; without any, nothing is trusted.
        reference_id: the one name that the leaf must bear.
        now: the time of verification, aware of its zone.
        config: the limits of the chain.
        cn_ids: whether a leaf without any DNS-ID may bear the name as a CN-ID (RFC 8689 section 4.2.1, RFC 6125 section
            6.4.4).

    Returns:
        The verdict, of mechanism `pkix` and with the matched name; whatever the chain holds, a failure is a verdict.

    Raises:
        ValueError: `now` is a naive time.
    """
    if now.utcoffset() is None:
        raise ValueError("now is a time without a zone")
    if not chain:
        return Verdict.failed(Failure.NO_CERTIFICATE)
    if len(chain) > config.max_chain_certificates or sum(map(len, chain)) > config.max_chain_octets:
        return Verdict.failed(Failure.CHAIN_TOO_LONG)
    leaf, *others = map(Certificate.parse, chain)
    if leaf is None or leaf.extensions is None:
        return Verdict.failed(Failure.MALFORMED_CERTIFICATE)
    now = now.replace(microsecond=0)  # dates in certificates are whole seconds (RFC 5280 section 4.1.2.5)
    if now > leaf.not_after:
        return Verdict.failed(Failure.EXPIRED)
    if now < leaf.not_before:
        return Verdict.failed(Failure.NOT_YET_VALID)
    name = first_match(presented_identifiers(leaf) if cn_ids else dns_ids(leaf), [reference_id])
    if name is None:
        return Verdict.failed(Failure.NAME_MISMATCH)
    store = trust_store and trust_store._store
    pool = [other for other in others if other is not None and other.extensions is not None]
    if not store or not _is_trusted(leaf, pool, store, now, config):
        return Verdict.failed(Failure.UNTRUSTED_ISSUER)
    return Verdict.passed(Mechanism.PKIX, name=name)


def _is_trusted(leaf: Certificate, pool: list[Certificate], store: Store, now: datetime, config: Config) -> bool:
    presented = [certificate.parsed for certificate in pool]
    names = {certificate.parsed: ConstrainedNames(certificate) for certificate in (*pool, leaf)}
    comparisons = config.max_name_constraint_checks

    def charge(count: int) -> None:
        nonlocal comparisons
        comparisons -= count
        if comparisons < 0:
            raise ValueError("too many comparisons of names")

    def names_of(certificate: x509.Certificate) -> ConstrainedNames:
        if certificate not in names:  # an anchor
            names[certificate] = ConstrainedNames(Certificate(certificate.public_bytes(Encoding.DER)))
        return names[certificate]

    def constrain(_: Policy, issuer: x509.Certificate, constraints: x509.NameConstraints | None) -> None:
        # Asked of every issuer before a path goes through it, so that another one is tried
        if constraints is not None and not names_are_permitted([names[leaf.parsed], names_of(issuer)], charge):
            raise ValueError("the names of the leaf are not permitted")

    # "Client" means without a name: names are compared here, where an underscore or a final dot does no harm.
    verifier = (
        PolicyBuilder()
        .store(store)
        .time(now.astimezone(timezone.utc).replace(tzinfo=None))
        .extension_policies(
            ca_policy=_CA.may_be_present(x509.NameConstraints, Criticality.AGNOSTIC, constrain), ee_policy=_LEAF
        )
        .build_client_verifier()
    )
    try:
        path = verifier.verify(leaf.parsed, presented).chain
        # What is left are the names of issuers that are no alternative names
        return names_are_permitted([names_of(certificate) for certificate in path], charge)
    except (VerificationError, *MALFORMED):
        return False


def _may_certify(_: Policy, __: x509.Certificate, usage: x509.KeyUsage | None) -> None:
    if usage is not None and not usage.key_cert_sign:  # RFC 5280 section 6.1.4 n
        raise ValueError("the key may not sign certificates")


def _may_do_tls(_: Policy, __: x509.Certificate, usage: x509.KeyUsage | None) -> None:
    # RFC 5280 section 4.2.1.12: the key usages that go with serverAuth
    if usage is not None and not (usage.digital_signature or usage.key_encipherment or usage.key_agreement):
        raise ValueError("the key may not be used for TLS")


def _may_serve(_: Policy, __: x509.Certificate, purposes: x509.ExtendedKeyUsage | None) -> None:
    allowed = {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE}
    if purposes is not None and allowed.isdisjoint(purposes):
        raise ValueError("the purposes do not include serverAuth")


_CA = (
    ExtensionPolicy.permit_all()
    .require_present(x509.BasicConstraints, Criticality.AGNOSTIC, None)
    .may_be_present(x509.KeyUsage, Criticality.AGNOSTIC, _may_certify)
    .may_be_present(x509.ExtendedKeyUsage, Criticality.AGNOSTIC, _may_serve)
)
_LEAF = (
    ExtensionPolicy.permit_all()
    .may_be_present(x509.KeyUsage, Criticality.AGNOSTIC, _may_do_tls)
    .may_be_present(x509.ExtendedKeyUsage, Criticality.AGNOSTIC, _may_serve)
)
