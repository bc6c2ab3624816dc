"""What the programs of MTA-STS ask for beside the DNS: a policy by HTTPS, and the entries of the policy store."""

from __future__ import annotations

from attrs import frozen

from mailtlspolicy._words import Word
from mailtlspolicy.effects import Effect, OwnFailure
from mailtlspolicy.sts.cache import Entry


@frozen
class Fetched:
    """An HTTPS response, whatever its status, from a host with a valid certificate.

    Attributes:
        status: the HTTP status code.
        content_type: the Content-Type header as received, or None without one.
        body: the whole body, within the limits of the `Fetch`.
    """

    status: int
    content_type: str | None
    body: bytes


class FetchFailureKind(Word):
    """Why there is no HTTPS response. The first three are errors of the certificate, which reports keep apart."""

    CERTIFICATE_EXPIRED = "certificate-expired"
    CERTIFICATE_HOST_MISMATCH = "certificate-host-mismatch"
    CERTIFICATE_NOT_TRUSTED = "certificate-not-trusted"
    DNS = "dns-error"
    ADDRESS = "address-refused"
    CONNECT = "connect-failed"
    TLS = "tls-failed"
    HTTP = "http-error"
    TOO_LONG = "body-too-long"
    TIMEOUT = "timeout"
    LOCAL = "local-error"
    OVERDUE = "overdue"

    @property
    def is_own(self) -> bool:
        """Whether the reason is this system's own, so that the failure says nothing of the domain."""
        return self in {FetchFailureKind.LOCAL, FetchFailureKind.OVERDUE}

    @property
    def is_webpki(self) -> bool:
        """Whether the certificate is to blame (RFC 8460 section 4.3.2.2, `sts-webpki-invalid`)."""
        return self.startswith("certificate-")


@frozen
class FetchFailure:
    """There is no response, or not all of it."""

    kind: FetchFailureKind
    detail: str = ""


@frozen
class Fetch(Effect["Fetched | FetchFailure"]):
    """A policy to be fetched by HTTPS GET, which RFC 8461 section 3.3 surrounds with conditions.

    The certificate is valid for the policy host by a DNS-ID, and the SNI is that name; no redirect is followed, no
    HTTP cache used.

    Attributes:
        policy_host: the host to be asked, and the name for SNI and certificate.
        max_octets: a longer body is a failure.
        max_seconds: the time for all of it: lookups, connection, response.
    """

    performer = "fetcher"
    answers = Fetched, FetchFailure
    is_fenced = is_timed = True

    policy_host: str
    max_octets: int
    max_seconds: int

    @property
    def url(self) -> str:
        """The URL (RFC 8461 section 3.2)."""
        return f"https://{self.policy_host}/.well-known/mta-sts.txt"

    def own_failure(self, why: OwnFailure, detail: str) -> FetchFailure:
        """A failure that says nothing of the domain."""
        kind = FetchFailureKind.LOCAL if why is OwnFailure.LOCAL else FetchFailureKind.OVERDUE
        return FetchFailure(kind, detail)


@frozen
class StoreFailure:
    """A policy store that could not be read or written, or holds something that is no entry."""

    detail: str


@frozen
class PolicyPage:
    """Some entries of a policy store.

    Attributes:
        entries: policy domains and their entries; what is unreadable is left out and named in `failures`.
        cursor: stands for the next page, or None after the last.
        failures: domains whose entry is unreadable, and why.
    """

    entries: tuple[tuple[str, Entry], ...]
    cursor: str | None = None
    failures: tuple[tuple[str, StoreFailure], ...] = ()


class _OfStore:
    """An effect that the policy store performs. It is not timed: a write that was begun is carried to its end."""

    __slots__ = ()
    performer = "policy store"
    is_fenced = True

    def own_failure(self, _: OwnFailure, detail: str) -> StoreFailure:
        """A failure of the store."""
        return StoreFailure(detail)


@frozen
class LoadPolicy(_OfStore, Effect["Entry | StoreFailure | None"]):
    """What the policy store has of a policy domain."""

    answers = Entry, StoreFailure, type(None)

    domain: str


@frozen
class StorePolicy(_OfStore, Effect["StoreFailure | None"]):
    """Write an entry, merged with what the store has by then (`sts.cache.merge`)."""

    answers = StoreFailure, type(None)

    domain: str
    entry: Entry


@frozen
class DropPolicy(_OfStore, Effect["StoreFailure | None"]):
    """Remove an entry, unless the store has another by then."""

    answers = StoreFailure, type(None)

    domain: str
    entry: Entry


@frozen
class ListPolicies(_OfStore, Effect["PolicyPage | StoreFailure"]):
    """Some entries of the store, those after a cursor; "" stands for the beginning."""

    answers = PolicyPage, StoreFailure

    cursor: str = ""
