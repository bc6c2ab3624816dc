"""Every scenario is planned through each of the common resolvers, and no plan differs from that through Unbound."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from mailtlspolicy.adapters.dns import DnsResolver
from mailtlspolicy.effects import Answer, FailureKind, Lookup, LookupFailure, RecordType
from tests.lab import resolvers
from tests.lab.lab import OBLIVIOUS_RESOLVER, RESOLVER, TACITURN_RESOLVER
from tests.lab.plans import plan_all, plan_all_at_once

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.lab.lab import Lab


@pytest.fixture(scope="module", autouse=True)
def _resolvers(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with resolvers.run(tmp_path_factory.mktemp("resolvers"), lab.directory):
        yield


every_resolver = pytest.mark.parametrize(
    "address", [*resolvers.RESOLVERS.values(), TACITURN_RESOLVER], ids=[*resolvers.RESOLVERS, "unbound"]
)


@every_resolver
@pytest.mark.parametrize("plan", [plan_all, plan_all_at_once])
def test_no_plan_differs_from_that_through_unbound(
    lab: Lab, address: str, plan: Callable[..., dict[str, dict[str, Any]]]
) -> None:
    assert plan(lab, address) == plan_all(lab, RESOLVER)


@every_resolver
@pytest.mark.parametrize("plan", [plan_all, plan_all_at_once])
def test_nor_with_a_careless_nameserver_behind(
    lab: Lab, address: str, plan: Callable[..., dict[str, dict[str, Any]]]
) -> None:
    assert plan(lab, address, OBLIVIOUS_RESOLVER) == plan_all(lab, RESOLVER)


@every_resolver
@pytest.mark.usefixtures("lab")
def test_bogus_data_is_told_from_data_that_can_not_be_had(address: str) -> None:
    resolver = DnsResolver(nameservers=[address])
    bogus = resolver.lookup(Lookup("host.alias-to-bogus.bogus.test", RecordType.A))
    assert isinstance(bogus, LookupFailure)
    assert bogus.kind is FailureKind.BOGUS
    gone = resolver.lookup(Lookup("_25._tcp.mx.tlsa-servfail.signed.test", RecordType.TLSA))
    assert isinstance(gone, LookupFailure)
    assert gone.kind is FailureKind.SERVFAIL


@every_resolver
@pytest.mark.usefixtures("lab")
def test_a_dname_is_shown_and_answered(address: str) -> None:
    resolver = DnsResolver(nameservers=[address])
    answer = resolver.lookup(Lookup("mx.moved.dname-to-unsigned.signed.test", RecordType.A))
    assert isinstance(answer, Answer)
    assert (answer.dname, answer.secure, len(answer.records)) == ("moved.dname-to-unsigned.signed.test", False, 1)
    dname = resolver.lookup(Lookup("moved.dname-to-unsigned.signed.test", RecordType.DNAME))
    assert isinstance(dname, Answer)
    assert (dname.records, dname.secure) == (("hosts.dname-to-unsigned.plain.test",), True)
