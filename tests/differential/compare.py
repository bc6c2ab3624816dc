"""Our verdict and libssl's, over many generated chains: `python -m tests.differential.compare --count 100000`.

Compared are whether the peer is authenticated and, where both say so, by which usage and at what depth, and that the
name of our verdict is one that libssl accepts alone. Wherever they differ, one of `EXCEPTIONS` has to explain it: each
names the clause that is on our side and proves from the case itself that it applies. What is left over fails the run.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections import Counter
from datetime import datetime, timezone
from functools import lru_cache
from itertools import chain, combinations, permutations
from multiprocessing import get_context
from typing import TYPE_CHECKING

from attrs import define, evolve, field, frozen
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from mailtlspolicy import dane
from mailtlspolicy.names import MAX_LABEL_OCTETS, is_address
from mailtlspolicy.tlsa import Tlsa
from mailtlspolicy.verdict import Failure, Mechanism, Verdict
from mailtlspolicy.x509.certificates import subject_public_key_info
from tests.differential.certificates import EXTENSION_OIDS, NETSCAPE_SGC
from tests.differential.generator import Case, digest_data, make_case
from tests.differential.libssl import (
    MALFORMED_LEAF,
    X509_V_ERR_CERT_SIGNATURE_FAILURE,
    X509_V_ERR_DANE_NO_MATCH,
    X509_V_ERR_EE_KEY_TOO_SMALL,
    X509_V_ERR_EXCLUDED_VIOLATION,
    X509_V_ERR_INVALID_CA,
    X509_V_ERR_PERMITTED_VIOLATION,
    X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN,
    X509_V_FLAG_IGNORE_CRITICAL,
    X509_V_FLAG_NO_CHECK_TIME,
    X509_V_FLAG_PARTIAL_CHAIN,
    X509_V_FLAG_POLICY_CHECK,
    X509_V_OK,
    Answer,
    libssl,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.differential.generator import Record

LEAST_RSA_BITS = 1024
NO_WAY_ON = {
    X509_V_OK,
    X509_V_ERR_CERT_SIGNATURE_FAILURE,
    X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN,
    X509_V_ERR_DANE_NO_MATCH,
}
NAME_CONSTRAINT_ERRORS = {X509_V_ERR_PERMITTED_VIOLATION, X509_V_ERR_EXCLUDED_VIOLATION}
KEY_USAGE = x509.ObjectIdentifier(EXTENSION_OIDS["ku"])
EMPTY_BIT_STRING = b"\x03\x01\x00"
INDEFINITE = b"\x30\x80"  # BER that is not DER
AMBIGUOUS = {"cross-signed", "twin", "renewed", "rollover", "stranger"}  # tags of cases with more than one path
MOST_PERMUTED = 5
USAGES = {Mechanism.DANE_EE: 3, Mechanism.DANE_TA: 2}


@frozen
class Comparison:
    """One case with what both sides say of it."""

    case: Case
    libssl: Answer
    ours: Verdict
    question: Question

    @property
    def difference(self) -> str | None:
        """What they disagree about, or None."""
        if self.libssl.authenticated != self.ours.authenticated:
            return "authenticated"
        if not _agree(self.libssl, self.ours):
            return "depth"
        if (
            not self.ours.authenticated
            and AMBIGUOUS.intersection(self.case.tags)
            and _pruned_chain_passes(self.question)
        ):
            return "path missed"
        if self.ours.name is not None:
            case = evolve(self.question.case, names=(self.ours.name,))
            if not evolve(self.question, case=case).answer().authenticated:
                return "name"
        return None

    @property
    def outcomes(self) -> tuple[str, str]:
        """Both outcomes in words: libssl's, ours."""
        theirs = (
            f"usage {self.libssl.usage}, depth {self.libssl.depth}"
            if self.libssl.authenticated
            else self.libssl.message
        )
        ours = f"{self.ours.mechanism}, depth {self.ours.depth}" if self.ours.authenticated else str(self.ours.failure)
        return theirs, ours


def _agree(answer: Answer, verdict: Verdict) -> bool:
    """Whether both authenticate, by the same usage and at the same depth, or neither does."""
    if not (answer.authenticated and verdict.authenticated):
        return answer.authenticated == verdict.authenticated
    usage = None if verdict.mechanism is None else USAGES.get(verdict.mechanism)
    return (answer.usage, answer.depth) == (usage, verdict.depth)


def _pruned_chain_passes(question: Question) -> bool:
    """Whether libssl, which follows one path, finds a certificate to trust when some of the chain is not presented.

    Bare keys do not count: they are for what is not presented.
    """
    leaf, *tail = dict.fromkeys(question.case.chain)
    answers = (
        evolve(question, case=evolve(question.case, chain=(leaf, *some))).answer()
        for count in range(min(len(tail), MOST_PERMUTED) + 1)
        for some in combinations(tail, count)
    )
    return any(answer.authenticated and not answer.bare for answer in answers)


def _ask_libssl(case: Case) -> Answer:
    return libssl().verify(case.chain, case.tlsa, case.names, now=case.now)


def _ask_us(case: Case) -> Verdict:
    now = datetime.fromtimestamp(case.now, timezone.utc)
    return dane.verify(case.chain, [Tlsa(*record) for record in case.tlsa], case.names, now=now)


def compare(case: Case) -> Comparison:
    """Ask both about one case."""
    return Comparison(case, _ask_libssl(case), _ask_us(case), Question(case))


# -- documented exceptions ---------------------------------------------------------------------------------------------
#
# Some differences vanish where libssl is asked in other words: at a time one second earlier, or with a flag that turns
# one of its rules on or off. Those are the rephrasings. What is left is covered by an exception that is shown from the
# case itself.


@frozen
class Question:
    """What libssl is asked."""

    case: Case
    flags: int = 0

    def answer(self) -> Answer:
        return libssl().verify(self.case.chain, self.case.tlsa, self.case.names, now=self.case.now, flags=self.flags)


@frozen
class DocumentedException:
    """A kind of case on which we mean to differ from libssl.

    Attributes:
        name: short.
        clause: what settles it.
        why: what libssl does, and what we do.
        rephrase: the question to which libssl should give our answer; None where the case is not of this kind.
        applies: whether a comparison is such a case.
        costly: asks libssl many questions.
    """

    name: str
    clause: str
    why: str
    rephrase: Callable[[Question], Question | None] | None = field(default=None, repr=False)
    applies: Callable[[Comparison], bool] | None = field(default=None, repr=False)
    costly: bool = False


# rephrasings


def _a_second_earlier(question: Question) -> Question | None:
    ends_now = any(c.not_valid_after_utc.timestamp() == question.case.now for c in _parsed(question.case))
    return evolve(question, case=evolve(question.case, now=question.case.now - 1)) if ends_now else None


def _ignoring_critical(question: Question) -> Question | None:
    critical = [extension for extension in _extensions(question.case) if extension.critical]
    known = any(isinstance(e.value, x509.AuthorityKeyIdentifier | x509.SubjectKeyIdentifier) for e in critical)
    return evolve(question, flags=question.flags | X509_V_FLAG_IGNORE_CRITICAL) if known else None


def _with_dates_of_anchor(question: Question) -> Question | None:
    return evolve(question, flags=question.flags | X509_V_FLAG_PARTIAL_CHAIN)


def _ignoring_dates_of_keys(question: Question) -> Question | None:
    """At no time at all, where the only certificates left that are out of their dates have a key of a `2 1 x` record.

    The others that are out of their dates can be part of no valid path, so they are left out, unless one is the leaf.
    """
    is_out = lru_cache(None)(lambda octets: _is_strict(octets) and _is_out_of_dates(octets, question.case.now))
    keys = [record for record in question.case.tlsa if record[:2] == (2, 1)]
    if is_out(question.case.chain[0]) or not any(is_out(o) and _has_key(o, keys) for o in question.case.chain[1:]):
        return None
    rest = _without(question, lambda octets: is_out(octets) and not _has_key(octets, keys)) or question
    return evolve(rest, flags=rest.flags | X509_V_FLAG_NO_CHECK_TIME)


def _with_policies(question: Question) -> Question | None:
    required = any(isinstance(extension.value, x509.PolicyConstraints) for extension in _extensions(question.case))
    return evolve(question, flags=question.flags | X509_V_FLAG_POLICY_CHECK) if required else None


def _with_hyphens(question: Question) -> Question | None:
    """Reference identifiers with hyphens for the underscores of the first label, if they have any there."""
    names = []
    for name in question.case.names:
        first, _, rest = name.partition(".")
        names.append(f"{first.replace('_', '-')}.{rest}" if rest else name)
    if tuple(names) == question.case.names:
        return None
    return evolve(question, case=evolve(question.case, names=(*question.case.names, *names)))


def _of_strict_certificates(question: Question) -> Question | None:
    """Without the certificates, presented or published, that `cryptography` refuses."""
    return _without(question, lambda octets: not _is_strict(octets))


def _without(question: Question, refused: Callable[[bytes], bool]) -> Question | None:
    case = question.case
    leaf, *tail = case.chain
    kept = (leaf, *(octets for octets in tail if not refused(octets)))
    tlsa = tuple(record for record in case.tlsa if record[:3] != (2, 0, 0) or not refused(record[3]))
    if (kept, tlsa) == (case.chain, case.tlsa):
        return None
    return evolve(question, case=evolve(case, chain=kept, tlsa=tlsa))


def _without_gated_crypto(question: Question) -> Question | None:
    """Without the certificates, presented or published, that are for SGC and not for serverAuth."""
    return _without(question, _is_for_gated_crypto)


# shown from the case


def _another_path_is_valid(comparison: Comparison) -> bool:
    """libssl says what we say when the certificates are presented in another order, or some not at all."""
    return comparison.ours.mechanism is Mechanism.DANE_TA and any(
        _agree(question.answer(), comparison.ours) for question in _other_presentations(comparison)
    )


def _other_presentations(comparison: Comparison) -> Iterator[Question]:
    question = comparison.question
    case = question.case
    leaf, *tail = dict.fromkeys((*case.chain, *_published(case)))
    tlsa = tuple(r for r in case.tlsa if (r[:3] != (2, 0, 0)) or str(Tlsa(*r)) == comparison.ours.record)
    in_order = chain.from_iterable(combinations(tail, count) for count in range(len(tail) + 1))
    in_any_order = chain.from_iterable(
        permutations(tail, count) for count in range(2, min(len(tail), MOST_PERMUTED) + 1)
    )
    for some in chain(in_order, in_any_order):
        yield evolve(question, case=evolve(case, chain=(leaf, *some), tlsa=tlsa))


def _libssl_stops_at_self_issued(comparison: Comparison) -> bool:
    """libssl gets as far as a self-issued certificate, and that one is signed by the key of another."""
    if comparison.ours.mechanism is not Mechanism.DANE_TA or comparison.libssl.error not in NO_WAY_ON:
        return False
    certificates = _parsed(comparison.case)
    bare_keys = [_key(key) for key in _bare_keys(comparison.case)]
    for link in certificates:
        keys = [*bare_keys, *(_public_key(certificate) for certificate in certificates if certificate != link)]
        if link.subject != link.issuer or not any(_is_signed_with(link, key) for key in keys):
            continue
        if link == certificates[0] and _is_strict(comparison.case.chain[0]):
            return True
        record = (USAGES[Mechanism.DANE_TA], 0, 1, link.fingerprint(hashes.SHA256()))
        below = evolve(comparison.question, case=evolve(comparison.question.case, tlsa=(record,)))
        answers = [question.answer() for question in _other_presentations(evolve(comparison, question=below))]
        if any(answer.depth < (comparison.ours.depth or 0) for answer in answers if answer.depth is not None):
            return True
    return False


def _has_weak_leaf_key(comparison: Comparison) -> bool:
    return comparison.libssl.error == X509_V_ERR_EE_KEY_TOO_SMALL and _leaf_matches(comparison)


def _has_malformed_leaf(comparison: Comparison) -> bool:
    return comparison.libssl.error == MALFORMED_LEAF and _leaf_matches(comparison)


def _leaf_matches(comparison: Comparison) -> bool:
    """A DANE-EE(3) record is that of the octets of the leaf, or of some SEQUENCE in it."""
    leaf = comparison.case.chain[0]
    contents = {0: [leaf], 1: [leaf[start:end] for start, end in _sequences(leaf)]}
    return comparison.ours.mechanism is Mechanism.DANE_EE and any(
        usage == USAGES[Mechanism.DANE_EE] and digest_data(matching_type, content) == data
        for usage, selector, matching_type, data in comparison.case.tlsa
        if matching_type in {0, 1, 2}
        for content in contents.get(selector, ())
    )


def _sequences(octets: bytes) -> Iterator[tuple[int, int]]:
    """Everything that looks like a SEQUENCE."""
    for start, tag in enumerate(octets[:-4]):
        if tag == 0x30:
            first = octets[start + 1]
            count = first - 0x80 if first > 0x80 else 0
            length = int.from_bytes(octets[start + 2 : start + 2 + count], "big") if count else first
            yield start, start + 2 + count + length


def _leaf_is_not_strict(comparison: Comparison) -> bool:
    leaf = comparison.case.chain[0]
    is_der = leaf[:2] != INDEFINITE
    return (
        comparison.ours.failure is Failure.MALFORMED_CERTIFICATE
        and not _is_strict(leaf)
        and (comparison.libssl.usage != USAGES[Mechanism.DANE_EE] or not is_der)
    )


def _leaf_is_for_gated_crypto(comparison: Comparison) -> bool:
    return comparison.ours.failure is not None and _is_for_gated_crypto(comparison.case.chain[0])


def _key_usage_is_empty(comparison: Comparison) -> bool:
    usages = [extension.value for extension in _extensions(comparison.case) if extension.oid == KEY_USAGE]
    return (
        comparison.libssl.bare
        and comparison.ours.failure in {Failure.BAD_PURPOSE, Failure.NOT_A_CA}
        and any(usage.public_bytes() == EMPTY_BIT_STRING for usage in usages)
    )


def _anchor_is_old(comparison: Comparison) -> bool:
    return (
        comparison.libssl.error == X509_V_ERR_INVALID_CA
        and comparison.ours.mechanism is Mechanism.DANE_TA
        and any(
            certificate.version is x509.Version.v1
            and certificate.subject == certificate.issuer
            and not _is_signed_with(certificate, _public_key(certificate))
            for certificate in _parsed(comparison.case)
        )
    )


def _has_netscape_cert_type(comparison: Comparison) -> bool:
    nscerttype = x509.ObjectIdentifier(EXTENSION_OIDS["nscerttype"])
    return comparison.ours.authenticated and any(e.oid == nscerttype for e in _extensions(comparison.case))


def _has_proxy_extension(comparison: Comparison) -> bool:
    proxy = x509.ObjectIdentifier(EXTENSION_OIDS["proxy"])
    return comparison.ours.authenticated and any(e.oid == proxy for e in _extensions(comparison.case) if not e.critical)


def _bare_key_is_presented(comparison: Comparison) -> bool:
    return comparison.libssl.bare and any(
        key in octets for key in _bare_keys(comparison.case) for octets in comparison.case.chain
    )


def _bare_key_path_is_weak(comparison: Comparison) -> bool:
    keys = [_key(key) for key in _bare_keys(comparison.case)]
    return (
        comparison.libssl.bare
        and comparison.ours.failure in {Failure.WEAK_ALGORITHM, Failure.NO_TLSA_MATCH}
        and (
            any(isinstance(key, rsa.RSAPublicKey) and key.key_size < LEAST_RSA_BITS for key in keys)
            or any(map(_is_weakly_signed, _parsed(comparison.case)))
        )
    )


def _constrained_cn_has_odd_form(comparison: Comparison) -> bool:
    """A CN-ID with a wildcard is no name for libssl's name constraints; one like an address, or overlong, is."""
    leaf = x509.load_der_x509_certificate(comparison.case.chain[0]) if _is_strict(comparison.case.chain[0]) else None
    names = [] if leaf is None else [str(a.value) for a in leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    if comparison.ours.failure is Failure.NAME_CONSTRAINTS:
        return comparison.libssl.authenticated and any(name.startswith("*.") for name in names)
    return comparison.libssl.error in NAME_CONSTRAINT_ERRORS and any(
        len(name.partition(".")[0]) > MAX_LABEL_OCTETS or is_address(name) for name in names
    )


def _wildcard_stands_for_what_is_excluded(comparison: Comparison) -> bool:
    """A name of the leaf is a wildcard for a host, of one label more, that a certificate above excludes."""
    if comparison.ours.failure is not Failure.NAME_CONSTRAINTS or not comparison.libssl.authenticated:
        return False
    leaf = x509.load_der_x509_certificate(comparison.case.chain[0])
    names = [str(attribute.value) for attribute in leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    for extension in leaf.extensions:
        if isinstance(extension.value, x509.SubjectAlternativeName):
            names += extension.value.get_values_for_type(x509.DNSName)
    excluded = {
        subtree.value.lower().partition(".")[2]
        for extension in _extensions(comparison.case)
        if isinstance(extension.value, x509.NameConstraints)
        for subtree in extension.value.excluded_subtrees or ()
        if isinstance(subtree, x509.DNSName)
    }
    return any(name.lower().removeprefix("*.") in excluded for name in names if name.startswith("*."))


# what they need


def _extensions(case: Case) -> Iterator[x509.Extension[x509.ExtensionType]]:
    return (extension for certificate in _parsed(case) for extension in certificate.extensions)


def _parsed(case: Case) -> list[x509.Certificate]:
    """The certificates presented or published that `cryptography` takes."""
    return [x509.load_der_x509_certificate(octets) for octets in (*case.chain, *_published(case)) if _is_strict(octets)]


def _published(case: Case) -> list[bytes]:
    """The certificates that are in the TLSA records."""
    return [data for usage, selector, matching_type, data in case.tlsa if (usage, selector, matching_type) == (2, 0, 0)]


def _bare_keys(case: Case) -> list[bytes]:
    """The keys that are in the TLSA records."""
    return [data for usage, selector, matching_type, data in case.tlsa if (usage, selector, matching_type) == (2, 1, 0)]


def _is_out_of_dates(octets: bytes, now: int) -> bool:
    certificate = x509.load_der_x509_certificate(octets)
    return not certificate.not_valid_before_utc.timestamp() <= now <= certificate.not_valid_after_utc.timestamp()


def _has_key(octets: bytes, records: Sequence[Record]) -> bool:
    """Whether one of some records with selector 1 is that of the key of a certificate."""
    key = subject_public_key_info(octets)
    return any(digest_data(matching_type, key) == data for _, _, matching_type, data in records if matching_type < 3)


def _is_for_gated_crypto(octets: bytes) -> bool:
    return _is_strict(octets) and any(
        ExtendedKeyUsageOID.SERVER_AUTH not in extension.value
        and x509.ObjectIdentifier(NETSCAPE_SGC) in extension.value
        for extension in x509.load_der_x509_certificate(octets).extensions
        if isinstance(extension.value, x509.ExtendedKeyUsage)
    )


@lru_cache(1000)
def _is_strict(octets: bytes) -> bool:
    """Whether `cryptography` takes a certificate with all its names, dates and extensions."""
    try:
        certificate = x509.load_der_x509_certificate(octets)
        dates = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        parts = certificate.subject, certificate.issuer, certificate.extensions, *dates
        return all(part is not None for part in parts)
    except (ValueError, TypeError, x509.DuplicateExtension, x509.InvalidVersion, x509.UnsupportedGeneralNameType):
        return False


def _is_signed_with(certificate: x509.Certificate, key: object) -> bool:
    signature, tbs = certificate.signature, certificate.tbs_certificate_bytes
    try:
        parameters, digest = certificate.signature_algorithm_parameters, certificate.signature_hash_algorithm
        if isinstance(key, ed25519.Ed25519PublicKey):
            key.verify(signature, tbs)
        elif isinstance(key, ec.EllipticCurvePublicKey) and isinstance(parameters, ec.ECDSA):
            key.verify(signature, tbs, parameters)
        elif isinstance(key, rsa.RSAPublicKey) and isinstance(parameters, padding.PKCS1v15 | padding.PSS) and digest:
            key.verify(signature, tbs, parameters, digest)
        else:
            return False
    except (InvalidSignature, UnsupportedAlgorithm, ValueError):
        return False
    return True


def _is_weakly_signed(certificate: x509.Certificate) -> bool:
    try:
        return isinstance(certificate.signature_hash_algorithm, hashes.MD5 | hashes.SHA1)
    except (UnsupportedAlgorithm, ValueError):
        return False


def _public_key(certificate: x509.Certificate) -> object:
    try:
        return certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        return None


def _key(octets: bytes) -> object:
    try:
        return load_der_public_key(octets)
    except (ValueError, UnsupportedAlgorithm):
        return None


EXCEPTIONS = (
    DocumentedException(
        "last-second",
        "RFC 5280 section 4.1.2.5",
        "in libssl a certificate has expired in the second of its notAfter; the period is inclusive",
        rephrase=_a_second_earlier,
    ),
    DocumentedException(
        "critical-key-identifier",
        "RFC 5280 section 4.2",
        "libssl does not count key identifiers among the extensions it recognises; we process them",
        rephrase=_ignoring_critical,
    ),
    DocumentedException(
        "anchor-dates",
        "RFC 7671 section 5.2.1",
        "libssl does not look at the dates of an anchor that is not self-issued; under `2 0 x` we do, whatever it is",
        rephrase=_with_dates_of_anchor,
    ),
    DocumentedException(
        "dates-of-a-key",
        "RFC 7671 section 5.2.1, RFC 5280 section 6.1.1",
        "libssl looks at the dates of a self-issued anchor under `2 1 x` too; that record trusts a key, which has none",
        rephrase=_ignoring_dates_of_keys,
    ),
    DocumentedException(
        "required-policy",
        "RFC 5280 section 6.1.5",
        "libssl ignores certificate policies unless asked; where a CA requires one, we do too",
        rephrase=_with_policies,
    ),
    DocumentedException(
        "wildcard-underscore",
        "RFC 6125 section 6.4.3, RFC 7672 section 3.2.3",
        'in libssl "*" does not stand for a label with "_"; for us it stands for any label',
        rephrase=_with_hyphens,
    ),
    DocumentedException(
        "strict-der",
        "RFC 5280 section 4.1, X.690",
        "libssl takes certificates whose encoding breaks a rule; in a DANE-TA(2) path we do without them",
        rephrase=_of_strict_certificates,
        applies=_leaf_is_not_strict,
    ),
    DocumentedException(
        "one-path",
        "RFC 6698 appendix B.2",
        "libssl follows one path, and fails where it is not valid; we accept any valid path",
        applies=_another_path_is_valid,
        costly=True,
    ),
    DocumentedException(
        "self-issued",
        "RFC 5280 section 3.2, RFC 4210 section 4.4",
        "libssl takes a self-issued certificate for the end of a path; we go on to the one that signed it",
        applies=_libssl_stops_at_self_issued,
        costly=True,
    ),
    DocumentedException(
        "old-anchor",
        "RFC 5280 section 6.1.1",
        "libssl takes an anchor of version 1 only if it may be self-signed; for us self-issued is enough, since it is"
        " the TLSA record that says what is an anchor",
        applies=_anchor_is_old,
    ),
    DocumentedException(
        "weak-ee-key",
        "RFC 7671 section 5.1, RFC 7672 section 3.1.1",
        "libssl refuses a weak or unknown key in the leaf; under DANE-EE(3) nothing but the match counts",
        applies=_has_weak_leaf_key,
    ),
    DocumentedException(
        "malformed-ee",
        "RFC 7671 section 5.1, RFC 7672 section 3.1.1",
        "libssl does not parse the leaf; under DANE-EE(3) its octets or those of its key match all the same",
        applies=_has_malformed_leaf,
    ),
    DocumentedException(
        "server-gated-crypto",
        "RFC 5280 section 4.2.1.12",
        "libssl takes Netscape's SGC purpose for serverAuth",
        rephrase=_without_gated_crypto,
        applies=_leaf_is_for_gated_crypto,
    ),
    DocumentedException(
        "netscape-cert-type",
        "RFC 5280 section 4.2",
        "libssl obeys Netscape's certificate type; to us it is an unknown extension that is not critical",
        applies=_has_netscape_cert_type,
    ),
    DocumentedException(
        "proxy-certificate",
        "RFC 5280 section 4.2",
        "libssl refuses a proxy certificate even if its extension is not critical; to us it is an unknown one",
        applies=_has_proxy_extension,
    ),
    DocumentedException(
        "presented-key",
        "RFC 7671 section 5.2.3",
        "libssl tries the key of a 2 1 0 record on the topmost certificate even if a certificate with that key was"
        " presented and can not be the issuer; for us that certificate is the intended issuer",
        applies=_bare_key_is_presented,
    ),
    DocumentedException(
        "weak-bare-key",
        "RFC 7671 section 10.1.2",
        "libssl does not look at the strength of the key of a 2 1 0 record and of what it signed; we do",
        applies=_bare_key_path_is_weak,
    ),
    DocumentedException(
        "empty-key-usage",
        "RFC 5280 section 4.2.1.3",
        "libssl checks no purposes of a certificate whose keyUsage has no bit set; to us it is good for nothing",
        applies=_key_usage_is_empty,
    ),
    DocumentedException(
        "constrained-cn",
        "RFC 5280 section 4.2.1.10, RFC 7672 section 3.2.3",
        "libssl applies no name constraints to a CN-ID with a wildcard, and yet lets it match, but does apply them to"
        " one that is no domain name; for us exactly what can match is constrained",
        applies=_constrained_cn_has_odd_form,
    ),
    DocumentedException(
        "excluded-wildcard",
        "RFC 5280 section 4.2.1.10, RFC 6125 section 6.4.3",
        "libssl compares a wildcard with an excluded host as text; for us it is what it can stand for",
        applies=_wildcard_stands_for_what_is_excluded,
    ),
)


def explain(comparison: Comparison) -> tuple[str, ...]:
    """The names of the exceptions that together account for a difference; none if it is not accounted for."""
    rephrased = []
    for names, question in _rephrasings(comparison.question):
        answer = question.answer()
        other = evolve(comparison, libssl=answer, question=question)
        if names and other.difference is None:
            return names
        rephrased.append((names, other))
    shown = [exception for exception in EXCEPTIONS if exception.applies is not None]
    for exception in sorted(shown, key=lambda exception: exception.costly):
        for names, other in rephrased:
            if exception.applies is not None and exception.applies(other):
                return (*names, exception.name)
    return ()


def _rephrasings(question: Question) -> Iterator[tuple[tuple[str, ...], Question]]:
    """The question in its own words and in all other words that fit it."""
    found: list[tuple[tuple[str, ...], Question]] = [((), question)]
    for exception in EXCEPTIONS:
        if exception.rephrase is not None:
            for names, known in tuple(found):
                other = exception.rephrase(known)
                if other is not None:
                    found.append(((*names, exception.name), other))
    yield from sorted(found, key=lambda item: len(item[0]))


# -- runs --------------------------------------------------------------------------------------------------------------


@define
class Summary:
    """What came of a run.

    Attributes:
        outcomes: how often each pair of outcomes was met, libssl's and ours.
        exceptions: how often each documented exception was needed.
        excused: the number of disagreements that documented exceptions account for.
        unexplained: the others: index of the case, what differs, libssl's outcome, ours.
    """

    outcomes: Counter[tuple[str, str]] = field(factory=Counter)
    exceptions: Counter[str] = field(factory=Counter)
    excused: int = 0
    unexplained: list[tuple[int, str, str, str]] = field(factory=list)

    def add(self, comparison: Comparison) -> None:
        self.outcomes[comparison.outcomes] += 1
        difference = comparison.difference
        if difference is None:
            return
        names = explain(comparison)
        if names:
            self.exceptions.update(names)
            self.excused += 1
        else:
            self.unexplained.append((comparison.case.index, difference, *comparison.outcomes))

    def merge(self, other: Summary) -> None:
        self.outcomes.update(other.outcomes)
        self.exceptions.update(other.exceptions)
        self.excused += other.excused
        self.unexplained.extend(other.unexplained)

    @property
    def count(self) -> int:
        return self.outcomes.total()

    @property
    def authenticated(self) -> int:
        return sum(count for (theirs, _), count in self.outcomes.items() if theirs.startswith("usage "))

    def lines(self) -> Iterator[str]:
        """The report, for people."""
        yield f"{'cases':>8}  libssl / ours"
        for (theirs, ours), count in self.outcomes.most_common(40):
            yield f"{count:8}  {theirs} / {ours}"
        share = self.authenticated / max(self.count, 1)
        yield f"{self.count} cases, {share:.1%} authenticated by libssl {libssl().version()}"
        agreed = self.count - self.excused - len(self.unexplained)
        yield f"{agreed} agree, {self.excused} are documented exceptions:"
        for exception in EXCEPTIONS:
            yield f"{self.exceptions[exception.name]:8}  {exception.name} ({exception.clause})"
        yield f"{len(self.unexplained)} are unexplained{':' if self.unexplained else ''}"
        kinds = Counter(tuple(kind) for _, *kind in self.unexplained)
        for kind, count in kinds.most_common():
            examples = [index for index, *found in self.unexplained if tuple(found) == kind]
            yield f"{count:8}  {': '.join(kind)}  {examples[:6]}"


def run(seed: int, indices: Sequence[int]) -> Summary:
    """Compare the given cases of a seed's series."""
    summary = Summary()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # `cryptography` warns of much that is generated on purpose
        for index in indices:
            summary.add(compare(make_case(seed, index)))
    return summary


def _run_shard(arguments: tuple[int, Sequence[int]]) -> Summary:
    return run(*arguments)


def run_sharded(seed: int, count: int, processes: int) -> Summary:
    """The first `count` cases of a seed's series, shared out to processes."""
    shards = [(seed, range(start, count, processes)) for start in range(processes)]
    if processes == 1:
        return run(*shards[0])
    total = Summary()
    with get_context("spawn").Pool(processes) as pool:
        for summary in pool.imap(_run_shard, shards):
            total.merge(summary)
    return total


# -- one case ----------------------------------------------------------------------------------------------------------


def shrink(comparison: Comparison) -> Comparison:
    """Drop certificates, records and names as long as the outcomes stay the same."""
    changed = True
    while changed:
        changed = False
        for part in ("chain", "tlsa", "names"):
            whole = getattr(comparison.case, part)
            for at in reversed(range(1 if part == "chain" else 0, len(whole))):
                rest = whole[:at] + whole[at + 1 :]
                if not rest:
                    continue
                smaller = compare(evolve(comparison.case, **{part: rest}))
                if smaller.outcomes == comparison.outcomes:
                    comparison, changed = smaller, True
                    break
    return comparison


def show(comparison: Comparison) -> Iterator[str]:
    """One case in full, for people."""
    case = comparison.case
    yield f"case {case.index}: {', '.join(case.tags) or 'nothing odd'}"
    yield f"libssl / ours: {' / '.join(comparison.outcomes)} (difference: {comparison.difference})"
    names = explain(comparison) if comparison.difference else ()
    yield from (f"{exception.name}: {exception.why}" for exception in EXCEPTIONS if exception.name in names)
    yield f"names: {', '.join(case.names)}"
    yield from (f"tlsa: {Tlsa(*record)}" for record in case.tlsa)
    yield from (f"certificate: {octets.hex()}" for octets in case.chain)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.differential.compare", description=__doc__)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=7672)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--show", type=int, metavar="INDEX", help="print one case, shrunk, instead")
    options = parser.parse_args(arguments)
    if options.show is not None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            print(*show(shrink(compare(make_case(options.seed, options.show)))), sep="\n")
        return 0
    start = time.monotonic()
    summary = run_sharded(options.seed, options.count, options.processes)
    print(*summary.lines(), sep="\n")
    print(f"{time.monotonic() - start:.0f} s")
    return 1 if summary.unexplained else 0


if __name__ == "__main__":
    sys.exit(main())
