"""What a plan says: the values that the planning program returns, and their JSON form.

One JSON shape serves a usable and a skipped host; in Python they are two classes, so that a skipped host has no level
to act on by mistake.
"""

from __future__ import annotations

import hashlib
import json
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar

from attrs import Attribute, Factory, evolve, field, frozen
from attrs.validators import optional

from mailtlspolicy import dane, pkix
from mailtlspolicy._json import VERSION, require_version
from mailtlspolicy._validators import instance_of
from mailtlspolicy.config import Config
from mailtlspolicy.dns.effects import FailureKind
from mailtlspolicy.levels import DUTIES, DUTIES_BESIDE_POLICY, Duty, TlsLevel
from mailtlspolicy.names import is_address
from mailtlspolicy.plan.hosts import SkipReason, TlsaBinding
from mailtlspolicy.plan.mx import SMTP_PORT, NextHop, Undeliverable
from mailtlspolicy.sts.values import Discovery
from mailtlspolicy.tlsa import Tlsa, TlsaRRset
from mailtlspolicy.trace import Step, explain
from mailtlspolicy.verdict import ResultType, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from mailtlspolicy.pkix import TrustStore


# What of a host's JSON form `HostPlan.session_key` covers, beside the TLSA records
_SESSION_KEYS = (
    "host",
    "port",
    "level",
    "requires",
    "sni",
    "tlsa_base_domain",
    "binding_reference_ids",
    "pkix_name",
    "sts_match",
    "audit",
    "observe",
    "requiretls",
    "settings",
)

# RFC 8460 section 4.3.1: what a skipped host is reported as
_SKIP_RESULT_TYPES = {
    SkipReason.ALIAS_LOOKUP_FAILED: ResultType.DNSSEC_INVALID,
    SkipReason.TLSA_LOOKUP_FAILED: ResultType.DNSSEC_INVALID,
    SkipReason.DANE_REQUIRED: ResultType.DANE_REQUIRED,
    SkipReason.STS_MX_MISMATCH: ResultType.VALIDATION_FAILURE,  # section 4.3.2.2 has no type of its own for it
}


@frozen
class Skip:
    """Why a host is not used.

    Attributes:
        reason: the first that applies, in the order of `SkipReason`.
        failure: how the lookup failed that is why; None where none did.
    """

    reason: SkipReason
    failure: FailureKind | None = None

    @property
    def tlsrpt(self) -> ResultType | None:
        """The RFC 8460 result type that reports it, or None where TLS, or the domain, is not to blame."""
        is_own = self.failure is not None and self.failure.is_own
        return None if is_own else _SKIP_RESULT_TYPES.get(self.reason)

    def to_json(self) -> dict[str, Any]:
        """The JSON form of the contract."""
        return {"reason": self.reason, "tlsrpt": self.tlsrpt, "failure": self.failure}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Skip:
        """Read what `to_json` wrote; anything else raises `KeyError`, `TypeError` or `ValueError`."""
        failure = data["failure"]
        return cls(SkipReason(data["reason"]), None if failure is None else FailureKind(failure))


@frozen
class Audit:
    """What DANE would have given in place of what is enforced (`Config.dane` is `audit`; RFC 7672 section 9.1)."""

    level: TlsLevel | None
    skip: Skip | None = None

    def to_json(self) -> dict[str, Any]:
        """The JSON form of the contract."""
        return {"level": self.level, "skip": None if self.skip is None else self.skip.to_json()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Audit:
        """Read what `to_json` wrote; anything else raises `KeyError`, `TypeError` or `ValueError`."""
        level = None if data["level"] is None else TlsLevel(data["level"])
        return cls(level, None if data["skip"] is None else Skip.from_json(data["skip"]))


@frozen
class Observe:
    """Duties that are evaluated and recorded but not enforced.

    Attributes:
        requires: the duties.
        reference_ids: the names that DANE-TA would accept.
        pkix_name: the name that PKIX would accept.
    """

    requires: tuple[Duty, ...]
    reference_ids: tuple[str, ...] = ()
    pkix_name: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The JSON form of the contract."""
        return {
            "requires": list(self.requires),
            "reference_ids": list(self.reference_ids),
            "pkix_name": self.pkix_name,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Observe:
        """Read what `to_json` wrote; anything else raises `KeyError`, `TypeError` or `ValueError`."""
        duties = tuple(Duty(duty) for duty in data["requires"])
        return cls(duties, tuple(data["reference_ids"]), data["pkix_name"])


@frozen(kw_only=True)
class Host:
    """What a usable and a skipped host have in common.

    Attributes:
        host: the MX hostname as the MX record has it (canonical), or the address where the next-hop is a literal.
        preference: its MX preference.
        port: TCP port to connect to.
        addresses: its addresses, in the order in which they are to be tried.
        binding: the secure TLSA records found and what they bind, or None.
        sts_match: whether a pattern of the MTA-STS policy matches the host; None where no policy of mode `enforce` or
            `testing` is in force (RFC 8461 section 4.1).
        audit: what DANE would have given, under `Config.dane="audit"`.
        config: the configuration that the decision was made under, and that its verification takes.
        trace: the steps of the decision.
    """

    host: str
    preference: int = 0
    port: int = SMTP_PORT
    addresses: tuple[str, ...] = ()
    binding: TlsaBinding | None = None
    sts_match: bool | None = field(default=None, validator=optional(instance_of(bool)))
    audit: Audit | None = None
    config: Config = field(factory=Config)
    trace: tuple[Step, ...] = ()

    def explain(self) -> str:
        """The trace for people, one clause a line."""
        return explain(self.trace)


@frozen(kw_only=True)
class HostPlan(Host):
    """A host that may be used, and what a session with it has to fulfil.

    Attributes:
        level: what is demanded of the session.
        requires: the duties of authentication, all of which must hold; by default the one of the level.
        observe: duties that are recorded but not enforced.
        requiretls: the server has to announce REQUIRETLS, and MAIL to bear it (RFC 8689 section 4.2.1).
    """

    level: TlsLevel = field(converter=TlsLevel)
    requires: tuple[Duty, ...] = field(default=Factory(lambda self: DUTIES[self.level], takes_self=True))
    observe: Observe | None = None
    requiretls: bool = field(default=False, validator=instance_of(bool))

    skip: ClassVar[None] = None

    @requires.validator
    def _check_requires(self, _: Attribute[tuple[Duty, ...]], value: tuple[Duty, ...]) -> None:
        if value != DUTIES[self.level] and (self.level, value) != (TlsLevel.DANE, DUTIES_BESIDE_POLICY):
            raise ValueError(f"level {self.level} goes with other duties than {value!r}")

    def __attrs_post_init__(self) -> None:
        observed = () if self.observe is None else self.observe.requires
        if self.binding is None and Duty.DANE in {*self.requires, *observed}:
            raise ValueError("a host without TLSA records has no DANE duty")
        if self.requiretls and not self.requires:
            raise ValueError("REQUIRETLS takes a duty of authentication")

    @property
    def cleartext(self) -> bool:
        """Whether mail may go to this host unencrypted."""
        return self.level in {TlsLevel.NONE, TlsLevel.MAY}

    @property
    def sni(self) -> str | None:
        """The server name to send, or None for none.

        The TLSA base domain where TLSA records bind the host (RFC 7672 section 8.1). The MX hostname where PKIX alone
        authenticates it, or an MTA-STS policy is in force and DANE does not raise the level (RFC 8461 section 7.1); by
        choice otherwise.
        """
        if self.level is TlsLevel.SECURE or self._has_policy_alone:
            return None if is_address(self.host) else self.host
        return _sni(self)

    @property
    def reference_ids(self) -> tuple[str, ...]:
        """The names that the certificate may bear: for DANE-TA base domain first, for PKIX the MX hostname.

        Empty where no name is checked.
        """
        if Duty.DANE in self.requires and self.binding is not None:
            return self.binding.reference_ids
        return () if self.pkix_name is None else (self.pkix_name,)

    @property
    def _has_policy_alone(self) -> bool:
        return self.sts_match is not None and self.level not in {TlsLevel.DANE, TlsLevel.ENCRYPT}

    @property
    def pkix_name(self) -> str | None:
        """The one name that the PKIX duty accepts, the MX hostname, or None where there is no such duty."""
        return self.host if Duty.PKIX in self.requires else None

    @property
    def raw_public_keys(self) -> bool:
        """Whether offering raw public keys (RFC 7250) is safe (RFC 7671 section 5.1).

        Never where PKIX is a duty, or observed: that takes a certificate (RFC 8461 section 4).
        """
        observed = () if self.observe is None else self.observe.requires
        if self.binding is None or self.requires != (Duty.DANE,) or Duty.PKIX in observed:
            return False
        return dane.raw_public_key_safe(self.binding.records, config=self.config)

    def verify(self, chain: Sequence[bytes], *, now: datetime, trust: TrustStore | None = None) -> Verdict:
        """What the certificates that this host presented amount to.

        Args:
            chain: the presented certificates as DER, leaf first; empty where none was presented.
            now: an aware time at which they have to be valid.
            trust: the PKIX trust anchors; without them a PKIX duty fails as `untrusted-issuer`.

        Returns:
            The verdict on the duties of `requires`, with that on `observe` as its `observed`.

        Raises:
            ValueError: `now` is naive.
        """
        observed = () if self.observe is None else self.observe.requires
        # The PKIX duty of a policy in force wants a DNS-ID (RFC 8461 section 4.2), that of REQUIRETLS does not
        by_policy = self.sts_match is not None and Duty.PKIX not in observed
        verdict = self._judge(self.requires, chain, now, trust, cn_ids=self.requiretls and not by_policy)
        if self.observe is None:
            return verdict
        return evolve(verdict, observed=self._judge(observed, chain, now, trust, cn_ids=False))

    def _judge(
        self, duties: Sequence[Duty], chain: Sequence[bytes], now: datetime, trust: TrustStore | None, *, cn_ids: bool
    ) -> Verdict:
        """The verdict on the duties together; without any there is nothing to fail. Each is evaluated, by itself."""
        verdicts = [
            pkix.verify(chain, trust, self.host, now=now, config=self.config, cn_ids=cn_ids)
            if duty is Duty.PKIX
            else self._judge_dane(chain, now)
            for duty in duties
        ]
        if not verdicts:
            return Verdict(authenticated=False, satisfied=True)
        judged = zip(duties, (verdict.failure for verdict in verdicts), strict=True)
        # Without trust anchors nothing is known of PKIX, and nothing to be told of it in a report
        known = tuple(pair for pair in judged if trust is not None or pair[0] is not Duty.PKIX)
        for verdict in verdicts:
            if not verdict.satisfied:
                return evolve(verdict, duties=known)
        return evolve(verdicts[0], name=verdicts[-1].name, duties=known)

    def _judge_dane(self, chain: Sequence[bytes], now: datetime) -> Verdict:
        assert self.binding is not None
        names = self.binding.reference_ids
        return dane.verify(chain, self.binding.records, names, now=now, config=self.config)

    @property
    def session_key(self) -> str:
        """A digest of all that has to be equal before a session may be reused for a message with another plan.

        It covers the host, its port, what the session has to fulfil (level, duties, names, TLSA records in any order,
        what is observed, REQUIRETLS) and the configuration; neither the next-hop nor the preference. Equal in every
        process that has the same version of the library.

        Of the session itself the caller has to see that its address is among `addresses`, that it is in TLS (one in
        cleartext is not reused for a host at which TLS should be tried), and, for a message with a reverse-path and
        `requiretls`, that REQUIRETLS was announced in it.
        """
        said = self.to_json()
        covered = {key: said[key] for key in _SESSION_KEYS} | {"tlsa": sorted(said["tlsa"])}
        return hashlib.sha256(json.dumps(covered, sort_keys=True).encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """The JSON form of the contract."""
        return _host_json(self) | {
            "level": self.level,
            "requires": list(self.requires),
            "cleartext": self.cleartext,
            "reference_ids": list(self.reference_ids),
            "pkix_name": self.pkix_name,
            "observe": None if self.observe is None else self.observe.to_json(),
            "raw_public_keys": self.raw_public_keys,
            "requiretls": self.requiretls,
        }


@frozen(kw_only=True)
class SkippedHost(Host):
    """A host that must not be used; the facts learned before that are kept.

    Attributes:
        skip: why.
    """

    skip: Skip

    level: ClassVar[None] = None
    cleartext: ClassVar[bool] = False
    requires: ClassVar[tuple[Duty, ...]] = ()
    reference_ids: ClassVar[tuple[str, ...]] = ()

    @property
    def sni(self) -> str | None:
        """The server name that would have been sent, as far as it is known."""
        return None if self.skip.reason is SkipReason.INVALID_HOST else _sni(self)

    def to_json(self) -> dict[str, Any]:
        """The JSON form of the contract."""
        return _host_json(self) | {"skip": self.skip.to_json()}


@frozen(kw_only=True)
class Plan:
    """Where mail for a next-hop may go, and under which conditions.

    Attributes:
        next_hop: what was asked for.
        expanded_next_hop: the fully expanded name where the next-hop is an alias of another domain.
        mx_secure: whether the choice of hosts is secure; None where the MX step failed. A session with a host chosen
            insecurely is at best Trusted, never Verified (RFC 7672 section 2.2.1).
        undeliverable: why no host can be tried, or None.
        sts: what is known of the MTA-STS policy; None where none is announced or cached, or none was looked for.
        hosts: all hosts in the order in which they are to be tried, skipped ones among them.
        requiretls: it is for a message that requires TLS (RFC 8689 section 4.2.1).
        tls_optional: it is for a message that asks to ignore the recipient's policies (section 4.2.2).
        tls_report: it is for a report of RFC 8460, for which the operator's demands do not hold either.
        valid_until: until when what is behind the plan holds, in UTC: the DNS data by the lowest TTL, and the MTA-STS
            policy in force. A failed lookup holds for no time. None where no lookup was needed.
        config: the configuration that the plan was made with.
        trace: the steps that led to the list of hosts; each host has its own for the rest.
    """

    next_hop: NextHop
    expanded_next_hop: str | None = None
    mx_secure: bool | None = field(default=None, validator=optional(instance_of(bool)))
    undeliverable: Undeliverable | None = None
    sts: Discovery | None = None
    hosts: tuple[HostPlan | SkippedHost, ...] = ()
    requiretls: bool = field(default=False, validator=instance_of(bool))
    tls_optional: bool = field(default=False, validator=instance_of(bool))
    tls_report: bool = field(default=False, validator=instance_of(bool))
    valid_until: datetime | None = None
    config: Config = field(factory=Config)
    trace: tuple[Step, ...] = ()

    def __attrs_post_init__(self) -> None:
        if any(host.requiretls != self.requiretls for host in self.usable_hosts):
            raise ValueError("a plan and its hosts are for one kind of message (requiretls)")

    @property
    def usable_hosts(self) -> tuple[HostPlan, ...]:
        """The hosts that may be tried, in order."""
        return tuple(host for host in self.hosts if isinstance(host, HostPlan))

    def vouches_for(self, host: HostPlan) -> bool:
        """Whether a host was chosen securely: by a secure MX RRset, the operator or a policy of mode `enforce`."""
        return bool(self.mx_secure or (host.sts_match and self.sts is not None and self.sts.is_enforced))

    def explain(self) -> str:
        """The whole decision for people, one clause a line, hosts indented below their names."""
        parts = [explain(self.trace)]
        for host in self.hosts:
            parts += [f"{host.host}:", explain(host.trace, "  ")]
        return "\n".join(part for part in parts if part)

    def to_json(self) -> dict[str, Any]:
        """The JSON form of the contract; of its `settings` a host keeps only those that differ from the plan's."""
        settings = self.config.to_json()
        return {
            "version": VERSION,
            "next_hop": str(self.next_hop),
            "expanded_next_hop": self.expanded_next_hop,
            "mx_secure": self.mx_secure,
            "undeliverable": None if self.undeliverable is None else self.undeliverable.to_json(),
            "sts": None if self.sts is None else self.sts.to_json(),
            "hosts": [_beside(settings, host.to_json()) for host in self.hosts],
            "requiretls": self.requiretls,
            "tls_optional": self.tls_optional,
            "tls_report": self.tls_report,
            "valid_until": None if self.valid_until is None else self.valid_until.isoformat(),
            "settings": settings,
            "trace": [step.to_json() for step in self.trace],
            "route": self.next_hop.to_json(),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Plan:
        """Read what `to_json` wrote; anything else raises `KeyError`, `TypeError` or `ValueError`."""
        require_version(data)
        undeliverable, until, settings = data["undeliverable"], data["valid_until"], data["settings"]
        return cls(
            next_hop=NextHop.from_json(data["route"]),
            expanded_next_hop=data["expanded_next_hop"],
            mx_secure=data["mx_secure"],
            undeliverable=None if undeliverable is None else Undeliverable.from_json(undeliverable),
            sts=None if data["sts"] is None else Discovery.from_json(data["sts"]),
            hosts=tuple(_host_from_json(host, settings) for host in data["hosts"]),
            requiretls=data["requiretls"],
            tls_optional=data["tls_optional"],
            tls_report=data["tls_report"],
            valid_until=None if until is None else datetime.fromisoformat(until),
            config=Config.from_json(settings),
            trace=_trace_from_json(data["trace"]),
        )


def _beside(settings: Mapping[str, Any], said: dict[str, Any]) -> dict[str, Any]:
    """The JSON form of a host in a plan of these settings."""
    return said | {"settings": {name: value for name, value in said["settings"].items() if value != settings[name]}}


def _sni(host: HostPlan | SkippedHost) -> str | None:
    if host.binding is not None:
        return host.binding.sni
    if not host.config.opportunistic_sni or is_address(host.host):
        return None
    return host.host


def _host_json(host: HostPlan | SkippedHost) -> dict[str, Any]:
    """The one JSON shape of both classes, with the values of a skipped host where they differ."""
    return {
        "host": host.host,
        "preference": host.preference,
        "port": host.port,
        "addresses": list(host.addresses),
        "level": None,
        "requires": [],
        "cleartext": False,
        "skip": None,
        "tlsa_base_domain": None if host.binding is None else host.binding.base_domain,
        "tlsa": [] if host.binding is None else host.binding.records.to_json(),
        "sni": host.sni,
        "reference_ids": [],
        "pkix_name": None,
        "sts_match": host.sts_match,
        "audit": None if host.audit is None else host.audit.to_json(),
        "observe": None,
        "raw_public_keys": False,
        "requiretls": False,
        "binding_reference_ids": [] if host.binding is None else list(host.binding.reference_ids),
        "settings": host.config.to_json(),
        "trace": [step.to_json() for step in host.trace],
    }


def _host_from_json(data: Mapping[str, Any], settings: Mapping[str, Any]) -> HostPlan | SkippedHost:
    """Read the JSON form of a host, usable or skipped, in a plan of these settings."""
    binding = None
    if data["tlsa_base_domain"] is not None:
        records = TlsaRRset(Tlsa.parse(text) for text in data["tlsa"])
        binding = TlsaBinding(
            data["tlsa_base_domain"], data["tlsa_base_domain"], tuple(data["binding_reference_ids"]), records
        )
    shared = {
        "host": data["host"],
        "preference": data["preference"],
        "port": data["port"],
        "addresses": tuple(data["addresses"]),
        "binding": binding,
        "sts_match": data["sts_match"],
        "audit": None if data["audit"] is None else Audit.from_json(data["audit"]),
        "config": Config.from_json({**settings, **data["settings"]}),
        "trace": _trace_from_json(data["trace"]),
    }
    if data["skip"] is not None:
        return SkippedHost(skip=Skip.from_json(data["skip"]), **shared)
    observe = None if data["observe"] is None else Observe.from_json(data["observe"])
    duties = tuple(Duty(duty) for duty in data["requires"])
    level, requiretls = TlsLevel(data["level"]), data["requiretls"]
    return HostPlan(level=level, requires=duties, observe=observe, requiretls=requiretls, **shared)


def _trace_from_json(data: Iterable[Mapping[str, Any]]) -> tuple[Step, ...]:
    return tuple(Step.from_json(step) for step in data)
