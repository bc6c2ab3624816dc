"""Certification paths: from a leaf through a pool of certificates to a trust anchor (RFC 5280 section 6.1).

* The pool is what a server sent behind its leaf: in any order, with duplicates, strangers and cross-signed variants.
  One valid path is enough (RFC 6698 appendix B.2), and which one is found does not depend on the order.
* An issuer has the issuer name of what it signed, and does not contradict its authority key identifier. No certificate
  stands twice in a path (RFC 5280 section 6.1). A path ends at the first certificate that is an anchor; what is above
  does not matter. Where a bare key is an anchor, a path also ends at a topmost certificate, one that nobody in the pool
  has signed, if the key has (RFC 7671 section 5.2.3).
* Every signature holds (section 6.1.3 a.1). Every certificate is within its dates (a.2), the anchor too; but not where
  its key alone is trusted, of which dates say nothing (RFC 7671 section 5.2.1, RFC 5280 section 6.1.1 d).
* Every issuer is a CA: basicConstraints with cA (section 6.1.4 k), keyUsage, if present, with keyCertSign (n), and not
  more intermediates below it than it allows (l, m). The anchor alone may lack basicConstraints, if it has that keyUsage
  or is a self-issued version 1 certificate.
* Names of every certificate, self-issued intermediates excepted, keep to the name constraints of every certificate
  above, the anchor's included (sections 6.1.3 b and c, 6.1.4 g; RFC 7671 section 5.2.1).
* An extendedKeyUsage, on the leaf or on an issuer, lists serverAuth; a keyUsage of the leaf is one that TLS can use.
* No critical extension is unknown (section 6.1.4 o). Any certificate policy will do, but where a CA requires one there
  has to be one (section 6.1.5 g); policy mappings are not followed. Revocation is not checked (RFC 7672 section 4).
* Signatures with MD5 and SHA-1, RSA keys below `Config.min_rsa_bits` and curves spelt out instead of named (RFC 5480
  section 2.1.1) are refused, except for the signature on the anchor itself, which nobody relies on.

Where RFC 5280 leaves a choice this is what OpenSSL does at security level 1. Unlike OpenSSL it tries every path, checks
the dates of an anchor unless its key alone is trusted, whether or not it is self-signed, requires policies where a CA
does, takes a certificate below a bare key for an intermediate, and a wildcard for what it can stand for.

>>> str(foremost({Failure.BAD_SIGNATURE, Failure.NAME_MISMATCH, Failure.EXPIRED}))
'expired'
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attrs import frozen
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, padding, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, SignatureAlgorithmOID

from mailtlspolicy.verdict import Failure
from mailtlspolicy.x509.certificates import MALFORMED, Certificate, load_key
from mailtlspolicy.x509.constraints import ConstrainedNames, names_are_permitted

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from datetime import datetime

    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

    from mailtlspolicy.config import Config

# Where several reasons hold, the first is told: dates, then names, then the rest (RFC 8460 section 4.3).
PRECEDENCE = (
    Failure.EXPIRED,
    Failure.NOT_YET_VALID,
    Failure.NAME_MISMATCH,
    Failure.TOO_MUCH_WORK,
    Failure.MALFORMED_CERTIFICATE,
    Failure.UNHANDLED_CRITICAL_EXTENSION,
    Failure.NOT_A_CA,
    Failure.PATH_LENGTH,
    Failure.BAD_PURPOSE,
    Failure.NAME_CONSTRAINTS,
    Failure.WEAK_ALGORITHM,
    Failure.BAD_SIGNATURE,
    Failure.UNTRUSTED_ISSUER,
)

# The extensions that may be critical: those processed here and those that ask nothing of a path without policies and
# revocation.
_KNOWN_EXTENSIONS = frozenset(
    {
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.KEY_USAGE,
        ExtensionOID.EXTENDED_KEY_USAGE,
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
        ExtensionOID.NAME_CONSTRAINTS,
        ExtensionOID.AUTHORITY_KEY_IDENTIFIER,
        ExtensionOID.SUBJECT_KEY_IDENTIFIER,
        ExtensionOID.CERTIFICATE_POLICIES,
        ExtensionOID.POLICY_MAPPINGS,
        ExtensionOID.POLICY_CONSTRAINTS,
        ExtensionOID.INHIBIT_ANY_POLICY,
        ExtensionOID.CRL_DISTRIBUTION_POINTS,
    }
)

_EDWARDS: dict[x509.ObjectIdentifier, type[ed25519.Ed25519PublicKey | ed448.Ed448PublicKey]] = {
    SignatureAlgorithmOID.ED25519: ed25519.Ed25519PublicKey,
    SignatureAlgorithmOID.ED448: ed448.Ed448PublicKey,
}

# The object identifier id-ecPublicKey, followed by a SEQUENCE where the name of a curve should be (RFC 5480 2.1.1).
_EXPLICIT_CURVE = bytes.fromhex("06072a8648ce3d0201 30")

_ANY_POLICY = x509.ObjectIdentifier("2.5.29.32.0")  # RFC 5280 section 4.2.1.4


@frozen
class Path:
    """A valid certification path.

    Attributes:
        certificates: from the leaf to the topmost certificate, which is the anchor unless a bare key is.
        key: the SubjectPublicKeyInfo that signed the topmost certificate, where a bare key is the anchor.
    """

    certificates: tuple[Certificate, ...]
    key: bytes | None = None


@frozen
class NoPath:
    """There is no valid path.

    Attributes:
        failure: the foremost reason.
        linked: whether the leaf leads to an anchor at all, by the names of the issuers or by a bare key's signature.
    """

    failure: Failure
    linked: bool


def find_path(
    leaf: Certificate,
    pool: Collection[Certificate],
    anchors: Collection[Certificate],
    keys: Collection[bytes] = (),
    *,
    by_key: Collection[Certificate] = (),
    now: datetime,
    config: Config,
) -> Path | NoPath:
    """Find a valid path from the leaf to one of the anchors.

    Args:
        leaf: the certificate of the server; never an anchor.
        pool: certificates that may stand between the leaf and an anchor.
        anchors: trust anchors with a certificate, from the pool or not.
        keys: trust anchors that are bare keys, as DER SubjectPublicKeyInfo.
        by_key: those of `anchors` that are trusted for their key, so whatever their dates.
        now: the time for which all other certificates have to be valid.
        config: the weakest RSA key accepted, and the limits of the work to be done.
    """
    return _Search(leaf, pool, anchors, keys, by_key, now, config).run()


def foremost(failures: Collection[Failure]) -> Failure:
    """The reason to tell where several hold: dates, then names, then the rest."""
    return min(failures, key=PRECEDENCE.index)


class _TooMuchWorkError(Exception):
    """A limit of the configuration is reached; never leaves this module."""


class _Work:
    """What may still be done in one verification."""

    def __init__(self, config: Config) -> None:
        self._signatures = config.max_signatures
        self._comparisons = config.max_name_constraint_checks

    def signature(self) -> None:
        self._signatures -= 1
        if self._signatures < 0:
            raise _TooMuchWorkError

    def comparisons(self, count: int) -> None:
        self._comparisons -= count
        if self._comparisons < 0:
            raise _TooMuchWorkError


class _Search:
    """One depth-first search, from the leaf upwards.

    Every link tried costs a signature, a second time too, so `Config.max_signatures` bounds the search as a whole.
    """

    def __init__(
        self,
        leaf: Certificate,
        pool: Collection[Certificate],
        anchors: Collection[Certificate],
        keys: Collection[bytes],
        by_key: Collection[Certificate],
        now: datetime,
        config: Config,
    ) -> None:
        self.leaf = leaf
        self.anchors = frozenset(anchors) - {leaf}
        issuers = self.anchors | frozenset(pool) - {leaf}
        self.issuers = sorted(issuers, key=lambda issuer: (issuer not in self.anchors, issuer.der))
        self.keys = {key: load_key(key) for key in sorted(keys)}
        self.by_key = self.anchors & frozenset(by_key)
        self.now = now.replace(microsecond=0)  # dates in certificates are whole seconds (RFC 5280 section 4.1.2.5)
        self.config = config
        self.work = _Work(config)
        self.names: dict[Certificate, ConstrainedNames] = {}
        self.names_below_anchors = self._names_below_anchors()
        self.failed: set[Failure] = set()  # of paths whose signatures hold
        self.broken: set[Failure] = set()  # of paths that lead to an anchor by name, but not by signature

    def run(self) -> Path | NoPath:
        try:
            path = self._extend((self.leaf,))
        except _TooMuchWorkError:
            return NoPath(Failure.TOO_MUCH_WORK, linked=True)
        if path is not None:
            return path
        failures = self.failed or self.broken
        if failures:
            return NoPath(foremost(failures), linked=True)
        failures = {*self._own_failures((self.leaf,), 0, is_anchor=False), Failure.UNTRUSTED_ISSUER}
        return NoPath(foremost(failures), linked=False)

    def _names_below_anchors(self) -> set[Any]:
        """The issuer names from which issuers lead, name by name, to a certificate that is an anchor."""
        names = {anchor.subject for anchor in self.anchors}
        while True:
            more = {issuer.subject for issuer in self.issuers if issuer.issuer in names} - names
            if not more:
                return names
            names |= more

    def _leads_to_anchor(self, issuer: Certificate) -> bool:
        return issuer in self.anchors or issuer.issuer in self.names_below_anchors

    def _extend(self, path: tuple[Certificate, ...]) -> Path | None:
        child = path[-1]
        if child in self.anchors:
            return self._judge(path, None)
        is_topmost = True
        for issuer in self.issuers:
            if issuer in path or not _may_issue(issuer, child) or not (self.keys or self._leads_to_anchor(issuer)):
                continue
            self.work.signature()
            why = _signature_failure(child, issuer.key)
            if why is None:
                is_topmost = False
                found = self._extend((*path, issuer))
                if found is not None:
                    return found
            elif self._leads_to_anchor(issuer):
                self.broken |= {*self._failures((*path, issuer), None), why}
        for der, key in self.keys.items() if is_topmost else ():
            self.work.signature()
            if _signature_failure(child, key) is None:
                found = self._judge(path, der)
                if found is not None:
                    return found
        return None

    def _judge(self, path: tuple[Certificate, ...], key: bytes | None) -> Path | None:
        failures = self._failures(path, key)
        self.failed |= failures
        return None if failures else Path(path, key)

    def _failures(self, path: tuple[Certificate, ...], key: bytes | None) -> set[Failure]:
        """Everything that is wrong with a path, but for its signatures."""
        below_anchor = path[:-1] if key is None else path
        failures: set[Failure] = set()
        for depth in range(len(path)):
            failures.update(self._own_failures(path, depth, is_anchor=depth == len(below_anchor)))
        # Nobody relies on the signature on an anchor.
        if any(map(_is_weakly_signed, below_anchor)) or (key is not None and self._is_weak(self.keys[key])):
            failures.add(Failure.WEAK_ALGORITHM)
        if not _policies_are_valid(below_anchor):
            failures.add(Failure.UNHANDLED_CRITICAL_EXTENSION)
        if not names_are_permitted([self._names_of(certificate) for certificate in path], self.work.comparisons):
            failures.add(Failure.NAME_CONSTRAINTS)
        return failures

    def _names_of(self, certificate: Certificate) -> ConstrainedNames:
        if certificate not in self.names:
            self.names[certificate] = ConstrainedNames(certificate)
        return self.names[certificate]

    def _own_failures(self, path: Sequence[Certificate], depth: int, *, is_anchor: bool) -> Iterator[Failure]:
        """What is wrong with one certificate at its place in a path."""
        certificate = path[depth]
        if certificate not in self.by_key:  # where a path ends, as at every anchor
            if self.now > certificate.not_after:
                yield Failure.EXPIRED
            if self.now < certificate.not_before:
                yield Failure.NOT_YET_VALID
        if self._is_weak(certificate.key) or _EXPLICIT_CURVE in certificate.skeleton.key[:32]:
            yield Failure.WEAK_ALGORITHM
        if certificate.extensions is None:
            yield Failure.MALFORMED_CERTIFICATE
            return
        if any(extension.critical and extension.oid not in _KNOWN_EXTENSIONS for extension in certificate.extensions):
            yield Failure.UNHANDLED_CRITICAL_EXTENSION
        purposes = certificate.extension(x509.ExtendedKeyUsage)
        if purposes is not None and ExtendedKeyUsageOID.SERVER_AUTH not in purposes:
            yield Failure.BAD_PURPOSE
        usage = certificate.extension(x509.KeyUsage)
        if depth == 0:
            # RFC 5280 section 4.2.1.12: the key usages that go with serverAuth
            if usage is not None and not (usage.digital_signature or usage.key_encipherment or usage.key_agreement):
                yield Failure.BAD_PURPOSE
            return
        constraints = certificate.extension(x509.BasicConstraints)
        if usage is not None and not usage.key_cert_sign:
            yield Failure.NOT_A_CA
        elif constraints is None:
            is_old_root = certificate.is_version_1 and certificate.self_issued
            if not (is_anchor and (usage is not None or is_old_root)):
                yield Failure.NOT_A_CA
        elif not constraints.ca:
            yield Failure.NOT_A_CA
        elif constraints.path_length is not None:
            below = sum(not intermediate.self_issued for intermediate in path[1:depth])
            if below > constraints.path_length:
                yield Failure.PATH_LENGTH

    def _is_weak(self, key: PublicKeyTypes | None) -> bool:
        """Whether a key is below the strength that is asked for, or of no known strength at all."""
        if isinstance(key, rsa.RSAPublicKey | dsa.DSAPublicKey):
            return key.key_size < self.config.min_rsa_bits
        return key is None


def _may_issue(issuer: Certificate, child: Certificate) -> bool:
    """Whether names and key identifiers allow that one certificate issued the other (RFC 5280 section 4.2.1.1)."""
    if issuer.subject != child.issuer:
        return False
    authority = child.authority
    identifier = issuer.extension(x509.SubjectKeyIdentifier)
    if authority.key is not None and identifier is not None and authority.key != identifier.digest:
        return False
    if authority.serial is not None and authority.serial != issuer.serial:
        return False
    return authority.issuer is None or authority.issuer == issuer.issuer


def _signature_failure(certificate: Certificate, key: PublicKeyTypes | None) -> Failure | None:
    """Why a certificate is not signed by a key: None where the signature holds, and only there (RFC 5280 6.1.3 a.1).

    A signature whose algorithm, parameters or key are not supported can not be checked, so it does not hold.
    """
    parts, algorithm = certificate.skeleton, certificate.signature_algorithm
    if parts.algorithm != parts.tbs_algorithm or parts.signature[:1] != b"\0":  # RFC 5280 section 4.1.1
        return Failure.BAD_SIGNATURE
    if algorithm is None:
        return Failure.WEAK_ALGORITHM
    signature = parts.signature[1:]
    _, parameters, digest = algorithm
    edwards = _EDWARDS.get(algorithm.oid)
    try:
        if isinstance(key, rsa.RSAPublicKey) and isinstance(parameters, padding.PKCS1v15 | padding.PSS) and digest:
            key.verify(signature, parts.tbs, parameters, digest)
        elif isinstance(key, ec.EllipticCurvePublicKey) and isinstance(parameters, ec.ECDSA):
            key.verify(signature, parts.tbs, parameters)
        elif isinstance(key, dsa.DSAPublicKey) and parameters is None and digest:
            key.verify(signature, parts.tbs, digest)
        elif edwards is not None and isinstance(key, edwards):
            key.verify(signature, parts.tbs)
        else:
            return Failure.WEAK_ALGORITHM if key is None else Failure.BAD_SIGNATURE
    except InvalidSignature:
        return Failure.BAD_SIGNATURE
    except MALFORMED:
        return Failure.WEAK_ALGORITHM
    return None


def _is_weakly_signed(certificate: Certificate) -> bool:
    algorithm = certificate.signature_algorithm
    return algorithm is None or isinstance(algorithm.digest, hashes.MD5 | hashes.SHA1)


def _policies_are_valid(certificates: Sequence[Certificate]) -> bool:
    """Whether there is a certificate policy where one is required, any policy being acceptable to the client.

    RFC 5280 sections 6.1.3 d to f, 6.1.4 h to j and 6.1.5, for the certificates below an anchor, leaf first.
    """
    if all(certificate.extension(x509.PolicyConstraints) is None for certificate in certificates):
        return True  # nobody requires one
    valid = {_ANY_POLICY}
    explicit_policy = inhibit_any_policy = len(certificates) + 1
    for depth in reversed(range(len(certificates))):
        certificate = certificates[depth]
        is_counted = depth == 0 or not certificate.self_issued
        stated = certificate.policies
        if inhibit_any_policy == 0 and is_counted:
            stated -= {_ANY_POLICY}
        valid = {*(stated if _ANY_POLICY in valid else stated & valid), *(valid if _ANY_POLICY in stated else ())}
        if not (explicit_policy or valid):
            return False
        if is_counted:
            explicit_policy, inhibit_any_policy = max(explicit_policy - 1, 0), max(inhibit_any_policy - 1, 0)
        constraints = certificate.extension(x509.PolicyConstraints)
        if constraints is not None and constraints.require_explicit_policy is not None:
            explicit_policy = min(explicit_policy, constraints.require_explicit_policy)
        inhibition = certificate.extension(x509.InhibitAnyPolicy)
        if inhibition is not None:
            inhibit_any_policy = min(inhibit_any_policy, inhibition.skip_certs)
        if any(extension.oid == ExtensionOID.POLICY_MAPPINGS for extension in certificate.extensions or ()):
            valid = set()  # mappings are not followed, so none of the policies is known to hold below
    return bool(explicit_policy or valid)
