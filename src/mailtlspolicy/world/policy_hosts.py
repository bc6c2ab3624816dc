"""The policy hosts of a world, the fetcher that asks them, and the policies that are cached at first.

A policy host needs no address; one that is not listed refuses connections.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from attrs import field, frozen

from mailtlspolicy.names import canonical
from mailtlspolicy.sts.cache import Entry
from mailtlspolicy.sts.effects import Fetched, FetchFailure, FetchFailureKind
from mailtlspolicy.sts.fetching import whole_response
from mailtlspolicy.world._reading import as_list, as_number, as_object, as_one_of
from mailtlspolicy.world.passing import Passing, read_takes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mailtlspolicy.sts.effects import Fetch
    from mailtlspolicy.sts.fetching import Response

_T = TypeVar("_T")
_HTTPS_KEYS = {"status", "content_type", "body", "certificate", "error", "location", "takes"}
_CACHE_KEYS = {"version", "id", "fetched", "policy", "checked", "used", "failed", "failures", "ended"}
_FAILED_KEYS = {"id", "at", "failure"}
_CERTIFICATES = {
    "valid": None,
    "expired": FetchFailureKind.CERTIFICATE_EXPIRED,
    "untrusted": FetchFailureKind.CERTIFICATE_NOT_TRUSTED,
    "wrong-name": FetchFailureKind.CERTIFICATE_HOST_MISMATCH,
}
_FETCH_ERRORS = {
    "timeout": FetchFailureKind.TIMEOUT,
    "refused": FetchFailureKind.CONNECT,
    "local": FetchFailureKind.LOCAL,
}


@frozen
class StaticFetcher:
    """Policy hosts whose responses are given; a `fetching.Fetcher`. What is not listed refuses connections."""

    hosts: Mapping[str, Fetched | FetchFailure]
    takes: Mapping[str, int] = field(factory=dict)
    passing: Passing = field(factory=Passing, repr=False, eq=False)

    @classmethod
    def from_json(cls, hosts: Any) -> StaticFetcher:
        """Read the policy hosts by name; raises `ValueError` where one does not have the format."""
        return cls(_read_by_name(hosts, "https", _read_policy_host), _read_by_name(hosts, "https", read_takes))

    def fetch(self, request: Fetch) -> Response | FetchFailure:
        """The response of the policy host."""
        self.passing.take(self.takes.get(request.policy_host, 0))
        return whole_response(self.hosts.get(request.policy_host, FetchFailure(FetchFailureKind.CONNECT)))


def read_cache(entries: Any) -> dict[str, Entry]:
    """Read what is cached by policy domain; raises `ValueError` where it does not have the format."""
    return _read_by_name(entries, "cache", _read_entry)


def _read_by_name(data: Any, key: str, read: Callable[[Any, str], _T]) -> dict[str, _T]:
    """Read the values of an object whose keys are domain names, each given once."""
    found: dict[str, _T] = {}
    for text, value in as_object(data, key).items():
        where = f"{text!r:.60} in {key}"
        try:
            name = canonical(text)
            if name in found:
                raise ValueError("it is given twice, in two spellings")
            found[name] = read(value, where)
        except (KeyError, TypeError, ValueError) as error:
            why = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            raise ValueError(why if why.startswith(where) else f"{where}: {why}") from error
    return found


def _read_policy_host(data: Any, where: str) -> Fetched | FetchFailure:
    host = as_object(data, where, _HTTPS_KEYS)
    status = as_number(host.get("status", 200), where, 100, 999)
    content_type, body = host.get("content_type"), host.get("body", "")
    texts = (body, host.get("location", ""), "" if content_type is None else content_type)
    if not all(isinstance(text, str) for text in texts):
        raise ValueError(f"{where}: body, content_type and location are texts")
    kind = _CERTIFICATES[as_one_of(host.get("certificate", "valid"), _CERTIFICATES, where)]
    shown = Fetched(status, content_type, body.encode())
    if "error" in host:
        kind = _FETCH_ERRORS[as_one_of(host["error"], _FETCH_ERRORS, where)]
    return shown if kind is None else FetchFailure(kind)


def _read_entry(data: Any, where: str) -> Entry:
    entry = as_object(data, where, _CACHE_KEYS)
    for failed in as_list(entry.get("failed", []), f"failed of {where}"):
        as_object(failed, f"failed of {where}", _FAILED_KEYS)
    return Entry.from_json(entry)
