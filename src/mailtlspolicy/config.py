"""What the operator chooses: one frozen value, with a default for every question that the RFCs leave open."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attrs import Attribute, evolve, field, fields, frozen

from mailtlspolicy._words import Word
from mailtlspolicy.names import canonical, canonical_address

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping


class Misconfigured(ValueError):  # noqa: N818  # the name says what is wrong
    """A setting that can not be, or an engine that lacks what its settings need; the message names it.

    Whatever is asked of it would fail alike: no recipient is at fault.
    """


class DaneMode(Word):
    """How DANE is applied (RFC 7672 sections 2.2, 6 and 9.1)."""

    OPPORTUNISTIC = "opportunistic"
    MANDATORY = "mandatory"
    AUDIT = "audit"
    OFF = "off"


class InsecureMx(Word):
    """What secure TLSA records mean behind an insecure MX RRset (RFC 7672 section 2.2.1)."""

    DANE = "dane"
    ENCRYPT = "encrypt"
    MAY = "may"


class AddressFamilies(Word):
    """Whether one address family that fails spoils a host (RFC 7672 section 2.2.2)."""

    EITHER = "either"
    BOTH = "both"


class Sts(Word):
    """Whether MTA-STS (RFC 8461) is applied."""

    ON = "on"
    OFF = "off"


class StsWithDane(Word):
    """What a policy demands of a host that DANE authenticates behind a secure MX RRset (RFC 8461 sections 2 and 5)."""

    EXEMPT = "exempt"
    BOTH = "both"


class StsOnDnsError(Word):
    """What a failed lookup of the `_mta-sts` record means where no policy is cached (RFC 8461 section 3.3)."""

    CONTINUE = "continue"
    DEFER = "defer"


class StsMediaType(Word):
    """Whether a policy has to be served as text/plain (RFC 8461 section 3.2)."""

    REQUIRE = "require"
    IGNORE = "ignore"


class CleartextRetry(Word):
    """When mail may go in cleartext to a host where TLS failed but is not required (RFC 7672 section 2.2)."""

    NOW = "now"
    LATER = "later"
    NEVER = "never"


# Digests that a private or later matching type may be mapped to (RFC 7671 section 9), by their `hashlib` name.
EXTRA_DIGESTS = frozenset({"sha384", "sha3_256", "sha3_384", "sha3_512", "blake2b"})


def _numbers(value: Iterable[int]) -> tuple[int, ...]:
    return tuple(value)


def _digests(value: Iterable[tuple[int, str]]) -> tuple[tuple[int, str], ...]:
    return tuple((number, name) for number, name in value)


def _names(value: Iterable[str]) -> tuple[str, ...]:
    if isinstance(value, str):
        raise TypeError("own_names is a sequence of names, not one text")
    return tuple(canonical(name) for name in value)


def _addresses(value: Iterable[str]) -> tuple[str, ...]:
    if isinstance(value, str):
        raise TypeError("own_addresses is a sequence of addresses, not one text")
    return tuple(canonical_address(address) for address in value)


def _at_least(least: int) -> Callable[[object, Attribute[int], int], None]:
    def check(_: object, attribute: Attribute[int], value: int) -> None:
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise Misconfigured(f"{attribute.name} is a whole number of {least} or more, not {value!r}")

    return check


def _at_most(most: int) -> Callable[[object, Attribute[int], int], None]:
    def check(_: object, attribute: Attribute[int], value: int) -> None:
        if value > most:
            raise Misconfigured(f"{attribute.name} is {most} at most, not {value!r}")

    return check


def _limit(default: int) -> int:
    return field(default=default, validator=_at_least(1))


def _boolean(_: object, attribute: Attribute[bool], value: object) -> None:
    if not isinstance(value, bool):
        raise TypeError(f"{attribute.name} is true or false, not {value!r}")


def _told_apart(_: type, attributes: list[Attribute[Any]]) -> list[Attribute[Any]]:
    """Have whatever a converter refuses raise `Misconfigured`, with the name of the setting."""

    def converter_of(attribute: Attribute[Any]) -> Callable[[Any], Any] | None:
        convert: Any = attribute.converter
        if convert is None:
            return None

        def named(value: Any) -> Any:
            try:
                return convert(value)
            except ValueError as error:
                raise Misconfigured(f"{attribute.name}: {error}") from None

        return named

    return [attribute.evolve(converter=converter_of(attribute)) for attribute in attributes]


@frozen(kw_only=True, field_transformer=_told_apart)
class Config:
    """The operator's choices. A bad value raises `Misconfigured` (`TypeError` where not even the type fits).

    Attributes:
        dane: `opportunistic` (RFC 7672 section 2.2), `mandatory` (section 6: a host without DANE authentication is not
            used), `audit` (section 9.1: evaluated and recorded, not enforced) or `off` (no TLSA lookups).
        insecure_mx: behind an insecure MX RRset, secure TLSA records mean `dane` (authenticate the host), `encrypt`
            (TLS without authentication) or `may` (they are not asked for). RFC 7672 section 2.2.1.
        address_families: `either` goes on with the family that answered where the other lookup failed; `both` is the
            letter of RFC 7672 section 2.2.2, any error makes the host unusable.
        ip_versions: the IP versions that this system can connect over, in the order of preference; the addresses of
            others are not asked for (RFC 5321 section 5.2).
        opportunistic_sni: send the MX hostname as SNI where neither DANE nor a policy prescribes one.
        sts: whether MTA-STS is applied, `on` or `off`; `on` needs an engine with a fetcher.
        sts_with_dane: where DANE authenticates a host behind a secure MX RRset, an MTA-STS policy is only observed
            (`exempt`) or holds as well (`both`, the letter of RFC 8461 section 5). Behind an insecure MX RRset it
            always holds.
        sts_on_dns_error: a failed lookup of the `_mta-sts` record, with no policy cached, lets mail `continue` without
            a policy (RFC 8461 section 3.3) or makes it wait (`defer`).
        sts_media_type: a policy of another type than text/plain is refused (`require`) or taken (`ignore`). RFC 8461
            section 3.2.
        cleartext_retry: after a refused STARTTLS or a failed handshake at level `may`, cleartext is tried once on the
            same host: at once (`now`), only when the outcome is tried again (`later`), or `never`. RFC 7672 section
            2.2.
        retry_seconds: seconds after which deferred mail is to be tried again (RFC 5321 section 4.5.4.1).
        usages: the certificate usages that local policy accepts, out of 2 and 3; a record of another usage is
            unusable. 0 and 1 can not be enabled (RFC 7672 section 3.1.3, RFC 7671 section 4).
        digest_order: digest matching types, strongest first (RFC 7671 section 9); a digest type that is not listed is
            unusable.
        extra_digests: (matching type, `hashlib` name) pairs beyond 1 (SHA-256) and 2 (SHA-512).
        min_rsa_bits: the smallest RSA or DSA key, in bits, accepted in a DANE-TA path.
        own_names: the names by which this system is known in MX records (RFC 5321 section 5.1 loop prevention).
        own_addresses: the addresses by which it is known.
        loopback_is_own: loopback and unspecified addresses, mapped into IPv6 too, are among them where the DNS has
            chosen the host; false for a network of servers on this machine.
        max_mx_hosts: MX hosts planned for, the best by preference.
        max_addresses: addresses kept of a host.
        max_alias_hops: CNAME records followed in one lookup.
        max_tlsa_records: records in a TLSA RRset; a larger RRset counts as a failed lookup.
        max_chain_certificates: certificates in a presented chain that DANE-TA or PKIX look at.
        max_chain_octets: octets of DER in such a chain.
        max_signatures: signatures checked in one verification.
        max_name_constraint_checks: comparisons of a name with a name constraint in one verification.
        max_policy_octets: octets of an MTA-STS policy; a longer one is a failed fetch.
        max_fetch_seconds: seconds that the fetch of a policy may take, from lookup to last octet.
        max_plan_seconds: elapsed seconds that all lookups and the fetch of a plan have together. A host whose lookups
            are not done by then is skipped, a policy that is not there by then could not be had.
        max_delivery_seconds: elapsed seconds after which one try to deliver a message is given up; it is deferred.
        max_attempts: connections made in one try to deliver a message.
    """

    dane: DaneMode = field(default=DaneMode.OPPORTUNISTIC, converter=DaneMode)
    insecure_mx: InsecureMx = field(default=InsecureMx.DANE, converter=InsecureMx)
    address_families: AddressFamilies = field(default=AddressFamilies.EITHER, converter=AddressFamilies)
    ip_versions: tuple[int, ...] = field(default=(4, 6), converter=_numbers)
    opportunistic_sni: bool = field(default=True, validator=_boolean)
    sts: Sts = field(default=Sts.ON, converter=Sts)
    sts_with_dane: StsWithDane = field(default=StsWithDane.EXEMPT, converter=StsWithDane)
    sts_on_dns_error: StsOnDnsError = field(default=StsOnDnsError.CONTINUE, converter=StsOnDnsError)
    sts_media_type: StsMediaType = field(default=StsMediaType.REQUIRE, converter=StsMediaType)
    cleartext_retry: CleartextRetry = field(default=CleartextRetry.NOW, converter=CleartextRetry)
    # RFC 5321 section 4.5.4.1: 30 minutes at least; given up after 4 to 5 days
    retry_seconds: int = field(default=1800, validator=(_at_least(1), _at_most(5 * 86_400)))
    usages: tuple[int, ...] = field(default=(2, 3), converter=_numbers)
    digest_order: tuple[int, ...] = field(default=(2, 1), converter=_numbers)
    extra_digests: tuple[tuple[int, str], ...] = field(default=(), converter=_digests)
    min_rsa_bits: int = field(default=1024, validator=_at_least(512))
    own_names: tuple[str, ...] = field(default=(), converter=_names)
    own_addresses: tuple[str, ...] = field(default=(), converter=_addresses)
    loopback_is_own: bool = field(default=True, validator=_boolean)
    max_mx_hosts: int = _limit(50)  # the longest MX RRsets met in the field have a few dozen hosts
    max_addresses: int = _limit(32)  # RFC 5321 section 5.1 wants at least two tried; no host needs more than this
    max_alias_hops: int = _limit(10)  # as Postfix; resolvers follow 8 to 16
    max_tlsa_records: int = _limit(64)  # a rollover of every usage, selector and type needs a dozen
    max_chain_certificates: int = _limit(64)  # real chains have 2 to 5; padded ones in the field about 30
    max_chain_octets: int = _limit(102_400)  # as OpenSSL's default for a certificate message (100 KiB)
    max_signatures: int = _limit(128)  # as the budget of the verifier in `cryptography`
    max_name_constraint_checks: int = _limit(65_536)  # a hundred names against hundreds of constraints
    max_policy_octets: int = _limit(65_536)  # RFC 8461 section 3.3 suggests 64 kilobytes
    max_fetch_seconds: int = _limit(60)  # RFC 8461 section 3.3 suggests one minute
    # A minute for a policy host, and as much for what comes before it
    max_plan_seconds: int = _limit(120)
    max_delivery_seconds: int = _limit(3600)  # twelve servers that answer at the end of a five-minute limit
    max_attempts: int = _limit(20)  # RFC 5321 section 5.1 wants at least two addresses tried; Postfix takes five

    @ip_versions.validator
    def _check_ip_versions(self, _: Attribute[tuple[int, ...]], value: tuple[int, ...]) -> None:
        if value not in {(4,), (6,), (4, 6), (6, 4)}:
            raise Misconfigured(f"ip_versions lists 4, 6 or both, not {value!r}")

    @usages.validator
    def _check_usages(self, _: Attribute[tuple[int, ...]], value: tuple[int, ...]) -> None:
        if not set(value) <= {2, 3}:
            raise Misconfigured(f"usages is taken out of 2 and 3, not {value!r} (RFC 7672 section 3.1.3)")

    @extra_digests.validator
    def _check_extra_digests(self, _: Attribute[Any], value: tuple[tuple[int, str], ...]) -> None:
        for number, name in value:
            if not isinstance(number, int) or not 3 <= number <= 255:
                raise Misconfigured(f"extra_digests maps matching types from 3 to 255, not {number!r}")
            if name not in EXTRA_DIGESTS:
                raise Misconfigured(f"extra_digests knows {', '.join(sorted(EXTRA_DIGESTS))}, not {name!r}")
        if len({number for number, _ in value}) != len(value):
            raise Misconfigured("extra_digests maps a matching type twice")

    def __attrs_post_init__(self) -> None:
        known = set(self.digests)
        if not set(self.digest_order) <= known or len(set(self.digest_order)) != len(self.digest_order):
            raise Misconfigured(
                f"digest_order lists each of the digest types {sorted(known)} at most once, not {self.digest_order!r}"
            )

    @property
    def digests(self) -> dict[int, str]:
        """Matching types and the `hashlib` names of their digests (RFC 6698 section 2.1.3)."""
        return {1: "sha256", 2: "sha512", **dict(self.extra_digests)}

    @property
    def warnings(self) -> tuple[str, ...]:
        """What an operator should be told about this choice; empty for the default."""
        if 1 not in self.digest_order:
            return ("digest_order leaves out SHA2-256(1), which every DANE client has to support (RFC 7671 section 2)",)
        return ()

    @property
    def for_tls_reports(self) -> Config:
        """The configuration under which reports of RFC 8460 go out: no failure of TLS may stop them (section 3)."""
        dane = DaneMode.OPPORTUNISTIC if self.dane is DaneMode.MANDATORY else self.dane
        return evolve(self, dane=dane, cleartext_retry=CleartextRetry.NOW)

    @classmethod
    def from_settings(cls, settings: Mapping[str, str]) -> Config:
        """Make a configuration from strings, as given on a command line.

        Booleans are `true` or `false`; lists are separated by commas; `extra_digests` is written as `3=sha3_256`.

        Raises:
            Misconfigured: an unknown key, or a value that the field does not take; the message names the key.
        """
        values: dict[str, Any] = {}
        for key, text in settings.items():
            if key not in _READERS:
                raise Misconfigured(f"there is no setting {key!r}; there are {', '.join(_READERS)}")
            try:
                values[key] = _READERS[key](text)
            except ValueError as error:
                raise Misconfigured(f"{key}: {error}") from None
        return cls(**values)

    def to_json(self) -> dict[str, Any]:
        """Every field, so that what is kept means the same where a later version has other defaults."""
        values = {name: getattr(self, name) for name in _READERS}
        return {name: _as_lists(value) if isinstance(value, tuple) else value for name, value in values.items()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Config:
        """Read what `to_json` wrote, in this version or another; anything else raises `TypeError` or `Misconfigured`.

        A setting that is missing has its default here; one that is not known here, of a later version, is left out.
        """
        return cls(**{name: value for name, value in data.items() if name in _READERS})


def _as_lists(value: tuple[Any, ...]) -> list[Any]:
    return [_as_lists(item) if isinstance(item, tuple) else item for item in value]


def _read_boolean(text: str) -> bool:
    if text not in {"true", "false"}:
        raise Misconfigured(f"{text!r} is not true or false")
    return text == "true"


def _read_number(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise Misconfigured(f"{text!r} is not a whole number")
    return int(text)


def _read_list(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",")) if text.strip() else ()


def _read_numbers(text: str) -> tuple[int, ...]:
    return tuple(_read_number(word) for word in _read_list(text))


def _read_digests(text: str) -> tuple[tuple[int, str], ...]:
    pairs = (word.partition("=") for word in _read_list(text))
    return tuple((_read_number(number.strip()), name.strip()) for number, _, name in pairs)


def _reader(attribute: Attribute[Any]) -> Callable[[str], Any]:
    """How the text of a setting is read, before its converter: by its name where it is a list, else by its default."""
    lists = {
        "ip_versions": _read_numbers,
        "usages": _read_numbers,
        "digest_order": _read_numbers,
        "extra_digests": _read_digests,
        "own_names": _read_list,
        "own_addresses": _read_list,
    }
    if attribute.name in lists:
        return lists[attribute.name]
    if isinstance(attribute.default, bool):
        return _read_boolean
    return _read_number if isinstance(attribute.default, int) else str


_READERS = {attribute.name: _reader(attribute) for attribute in fields(Config)}
