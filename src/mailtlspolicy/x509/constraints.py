"""Name constraints: whether the names of a certificate keep to what the certificates above it allow.

RFC 5280 sections 4.2.1.10, 6.1.3 b and c, and 6.1.4 g:

* A name of a type that has permitted subtrees lies in one of them; no name lies in an excluded one.
* Constrained are the subject, the mailboxes in it, all alternative names and, of a leaf without DNS-IDs, its CN-IDs.
* A constraint that is not understood, by its type or by a minimum or maximum, permits no name of its type.
* A wildcard is every name that it can stand for: all of them have to be permitted, and none may be excluded.

Names are brought into a form in which a comparison costs next to nothing once a certificate, whatever the number of
names above or below it: both sides come from the peer.
"""

from __future__ import annotations

import re
from functools import cached_property
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Any, TypeAlias

from cryptography import x509

from mailtlspolicy.identity import dns_ids, presented_identifiers
from mailtlspolicy.x509.certificates import canonical_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from mailtlspolicy.x509.certificates import Certificate

_Kind: TypeAlias = type[x509.GeneralName]
_Subtrees: TypeAlias = dict[_Kind, list[Any]]


class ConstrainedNames:
    """The names and the name constraints of one certificate, each decoded when first asked for.

    Attributes:
        certificate: the certificate.
    """

    def __init__(self, certificate: Certificate) -> None:
        self.certificate = certificate
        self._constraints = certificate.extension(x509.NameConstraints)

    @property
    def constrains(self) -> bool:
        """Whether the certificate constrains names below it."""
        return self._constraints is not None

    @cached_property
    def own(self) -> list[tuple[_Kind, Any]]:
        """Subject, the mailboxes in it and the alternative names."""
        subject = self.certificate.subject
        alternatives = self.certificate.extension(x509.SubjectAlternativeName) or ()
        return [
            *([(x509.DirectoryName, subject)] if subject else []),
            *((x509.RFC822Name, _mailbox(value)) for value in self.certificate.mailboxes()),
            *((type(name), _name(name)) for name in alternatives),
        ]

    @cached_property
    def as_leaf(self) -> list[tuple[_Kind, Any]]:
        """The same, and the CN-IDs of a leaf that has no DNS-ID."""
        if dns_ids(self.certificate):
            return self.own
        return self.own + [(x509.DNSName, name.lower()) for name in presented_identifiers(self.certificate)]

    @cached_property
    def permitted(self) -> _Subtrees:
        """The permitted subtrees, by the type of name."""
        return _by_type(() if self._constraints is None else self._constraints.permitted_subtrees or ())

    @cached_property
    def excluded(self) -> _Subtrees:
        """The excluded subtrees, by the type of name."""
        return _by_type(() if self._constraints is None else self._constraints.excluded_subtrees or ())

    @cached_property
    def count(self) -> int:
        """How many subtrees there are."""
        return sum(map(len, (*self.permitted.values(), *self.excluded.values())))

    def permits(self, kind: _Kind, value: Any) -> bool:
        """Whether a name may stand below this certificate."""
        permitted, excluded = self.permitted.get(kind, ()), self.excluded.get(kind, ())
        if not permitted and not excluded:
            return True
        if self.certificate.has_subtree_distances:
            return False
        is_within = _IS_WITHIN.get(kind)
        if is_within is None or value is None:  # a type, or a name, that can not be compared
            return False
        if permitted and not any(is_within(value, base) for base in permitted):
            return False
        if kind is x509.DNSName and value.startswith("*."):
            # It stands for one label, so also for a base that has one label more than what follows it.
            return not any(is_within(value, base) or base.partition(".")[1:] == (".", value[2:]) for base in excluded)
        return not any(is_within(value, base) for base in excluded)


def names_are_permitted(path: Sequence[ConstrainedNames], charge: Callable[[int], None]) -> bool:
    """Whether all names in a path, leaf first, are permitted by the certificates above them.

    Args:
        path: the names and constraints of the path's certificates.
        charge: told the number of comparisons before they are made; may raise to end them.
    """
    for depth, names in enumerate(path[:-1]):
        if depth and names.certificate.self_issued:  # RFC 5280 section 6.1.3: (b) and (c) skip these
            continue
        for issuer in path[depth + 1 :]:
            if not issuer.constrains:
                continue
            constrained = names.own if depth else names.as_leaf
            charge(len(constrained) * issuer.count)
            if not all(issuer.permits(kind, value) for kind, value in constrained):
                return False
    return True


def _by_type(subtrees: Iterable[x509.GeneralName]) -> _Subtrees:
    bases: _Subtrees = {}
    for subtree in subtrees:
        bases.setdefault(type(subtree), []).append(_base(subtree))
    return bases


def _name(name: x509.GeneralName) -> Any:
    """A name in comparable form; None where it can not be compared."""
    value = name.value
    if isinstance(name, x509.DirectoryName):
        return canonical_name(value)
    if isinstance(name, x509.DNSName):
        return value.lower()
    if isinstance(name, x509.RFC822Name):
        return _mailbox(value)
    if isinstance(name, x509.UniformResourceIdentifier):
        authority = re.split("[/?#]", value.partition("://")[2], maxsplit=1)[0]  # RFC 3986 section 3.2
        return authority.rpartition("@")[2].partition(":")[0].lower() or None
    return value if isinstance(value, IPv4Address | IPv6Address) else None


def _base(name: x509.GeneralName) -> Any:
    """The base of a subtree in comparable form."""
    value = name.value
    if isinstance(name, x509.DirectoryName):
        return canonical_name(value)
    if isinstance(name, x509.RFC822Name):
        local, _, host = value.rpartition("@")
        return local, host.lower()
    return value.lower() if isinstance(value, str) else value


def _mailbox(value: str | bytes) -> tuple[str, str] | None:
    """The local part, whose case matters, and the host of a mailbox."""
    local, at, host = value.rpartition("@") if isinstance(value, str) else ("", "", "")
    return (local, host.lower()) if at else None


def _is_host_within(host: str, base: str) -> bool:
    """Whether a host is the base or, where that begins with a dot, below it."""
    return host.endswith(base) and len(host) > len(base) if base.startswith(".") else host == base


_IS_WITHIN: dict[_Kind, Callable[[Any, Any], bool]] = {  # by the type of name: whether it lies in a subtree
    x509.DirectoryName: lambda name, base: name[: len(base)] == base,
    x509.DNSName: lambda name, base: _is_host_within(name, base) or not base or name.endswith("." + base),
    x509.IPAddress: lambda name, base: name in base,
    x509.RFC822Name: lambda name, base: base[0] in {"", name[0]} and _is_host_within(name[1], base[1]),
    x509.UniformResourceIdentifier: _is_host_within,
}
