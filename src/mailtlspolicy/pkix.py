"""PKIX: whether a chain leads to a trusted root and bears the host's name (RFC 8461 section 4.2, RFC 5280).

* The path check is the verifier of `cryptography`, with its rules for extensions relaxed to those of RFC 5280: a CA has
  basicConstraints and may sign certificates, purposes allow serverAuth. What it does not relax, it asks of public CAs
  anyway: version 3, SHA-2, RSA keys of 2048 bits or more or common curves.
* Any certificate of the trust store is an anchor, self-signed or not.
* The leaf bears the reference identifier as a DNS-ID; a Common Name is not enough (RFC 8461 section 4.2), except for
  REQUIRETLS (RFC 8689 section 4.2.1). Names are compared as for DANE (`mailtlspolicy.identity`).
* The verifier tells one error for everything, so the reason is read from the leaf: its dates, then its name, then the
  path (RFC 8460 section 4.3).

>>> from datetime import datetime, timezone
>>> str(verify([], None, "mx.example", now=datetime.now(timezone.utc)).failure)
'no-certificate'
"""

from __future__ import annotations

from datetime import timezone
from typing import TYPE_CHECKING

from attrs import field, frozen
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import (
    Criticality,
    ExtensionPolicy,
    Policy,
    PolicyBuilder,
    Store,
    VerificationError,
)

from mailtlspolicy.certificates import MALFORMED, Certificate
from mailtlspolicy.config import Config
from mailtlspolicy.identity import dns_ids, first_match, presented_identifiers
from mailtlspolicy.pem import certificates_from_pem
from mailtlspolicy.verdict import Failure, Mechanism, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

_DEFAULT = Config()


def _octets(certificates: Iterable[bytes]) -> tuple[bytes, ...]:
    return tuple(certificates)


@frozen
class TrustStore:
    """The certificates that are trusted as anchors, as DER. Made of any iterable of `bytes`.

    Raises:
        ValueError: one of them is not a certificate.
    """

    certificates: tuple[bytes, ...] = field(default=(), converter=_octets)
    _store: Store | None = field(init=False, eq=False, repr=False)

    @_store.default
    def _load(self) -> Store | None:
        try:
            certificates = [x509.load_der_x509_certificate(certificate) for certificate in self.certificates]
        except MALFORMED as error:
            raise ValueError(f"not a certificate: {error}") from error
        return Store(certificates) if certificates else None

    @classmethod
    def from_pem(cls, pem: bytes) -> TrustStore:
        """Read one or more PEM certificates.

        Raises:
            ValueError: there is none, or one is malformed.
        """
        return cls(certificates_from_pem(pem.decode("ascii", "replace")))

    def __reduce__(self) -> tuple[type[TrustStore], tuple[tuple[bytes, ...]]]:
        return TrustStore, (self.certificates,)


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
    if now > leaf.parsed.not_valid_after_utc:
        return Verdict.failed(Failure.EXPIRED)
    if now < leaf.parsed.not_valid_before_utc:
        return Verdict.failed(Failure.NOT_YET_VALID)
    name = first_match(presented_identifiers(leaf) if cn_ids else dns_ids(leaf), [reference_id])
    if name is None:
        return Verdict.failed(Failure.NAME_MISMATCH)
    store = trust_store and trust_store._store
    if not store or not _is_trusted(leaf, [other.parsed for other in others if other is not None], store, now):
        return Verdict.failed(Failure.UNTRUSTED_ISSUER)
    return Verdict.passed(Mechanism.PKIX, name=name)


def _is_trusted(leaf: Certificate, others: list[x509.Certificate], store: Store, now: datetime) -> bool:
    # "Client" means without a name: names are compared here, where an underscore or a final dot does no harm.
    verifier = (
        PolicyBuilder()
        .store(store)
        .time(now.astimezone(timezone.utc).replace(tzinfo=None))
        .extension_policies(ca_policy=_CA, ee_policy=_LEAF)
        .build_client_verifier()
    )
    try:
        verifier.verify(leaf.parsed, others)
    except (VerificationError, *MALFORMED):
        return False
    return True


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
