"""A host's addresses and the TLSA records that bind it: the cases of RFC 7672 sections 2.2.2 and 2.2.3."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from attrs import evolve

from mailtlspolicy import Config, Tlsa, World, drive
from mailtlspolicy.dns.effects import Answer, FailureKind, LookupFailure, RecordType
from mailtlspolicy.plan.hosts import SkipReason, TlsaOutcome, TlsaSearch, find_addresses, find_tlsa

if TYPE_CHECKING:
    from mailtlspolicy.trace import Step

EE = "3 1 1 " + "a1" * 32
OTHER_EE = "3 1 1 " + "b2" * 32
UNUSABLE = "1 1 1 " + "c3" * 32

# What one address lookup gives: secure or insecure data, secure or insecure NODATA, a failure.
CELLS = ("S", "I", "sn", "in", "F")
# What both give together. Columns: AAAA in the order of CELLS; rows: A. `none`: no-addresses.
EITHER = {
    "S": "secure insecure secure secure secure",
    "I": "insecure insecure insecure insecure insecure",
    "sn": "secure insecure none none failed",
    "in": "secure insecure none none failed",
    "F": "secure insecure failed failed failed",
}


def address_answer(question: Any, cell: str) -> Answer | LookupFailure:
    if cell == "F":
        return LookupFailure(question, FailureKind.SERVFAIL)
    address = "192.0.2.1" if question.rdtype is RecordType.A else "2001:db8::1"
    return Answer(question, cell in {"S", "sn"}, (address,) if cell in {"S", "I"} else ())


def found_in_cells(a: str, aaaa: str, **settings: Any) -> tuple[str, tuple[str, ...], list[Step]]:
    trace: list[Step] = []
    cells = {RecordType.A: a, RecordType.AAAA: aaaa}
    result = drive(
        find_addresses("mx.example", Config(**settings), trace),
        lambda effect: address_answer(effect, cells[effect.rdtype]),
    )
    if result.skip is None:
        return ("secure" if result.secure else "insecure"), result.found, trace
    assert result.found == ()
    assert (result.failure is None) == (result.skip is SkipReason.NO_ADDRESSES)
    words = {SkipReason.NO_ADDRESSES: "none", SkipReason.ADDRESS_LOOKUP_FAILED: "failed"}
    return words[result.skip], (), trace


@pytest.mark.parametrize("a", CELLS)
@pytest.mark.parametrize("aaaa", CELLS)
def test_two_families_give_what_the_table_says(a: str, aaaa: str) -> None:
    want = EITHER[a].split()[CELLS.index(aaaa)]
    outcome, addresses, trace = found_in_cells(a, aaaa)
    assert outcome == want
    assert ("192.0.2.1" in addresses) == (a in {"S", "I"})
    assert ("2001:db8::1" in addresses) == (aaaa in {"S", "I"})
    assert trace


@pytest.mark.parametrize("a", CELLS)
@pytest.mark.parametrize("aaaa", CELLS)
def test_by_the_letter_any_failed_family_spoils_the_host(a: str, aaaa: str) -> None:  # RFC7672-2.2.2-q
    want = "failed" if "F" in {a, aaaa} else EITHER[a].split()[CELLS.index(aaaa)]
    assert found_in_cells(a, aaaa, address_families="both")[0] == want


def test_going_on_with_one_family_is_traced_to_the_setting() -> None:
    clauses = {step.clause for step in found_in_cells("S", "F")[2]}
    assert "Config.address_families" in clauses


@pytest.mark.parametrize(
    ("versions", "found"),
    [
        ((4, 6), ("192.0.2.2", "192.0.2.1", "2001:db8::1")),
        ((6, 4), ("2001:db8::1", "192.0.2.2", "192.0.2.1")),
        ((6,), ("2001:db8::1",)),
    ],
)
def test_addresses_keep_their_order_family_by_family_without_duplicates(
    versions: tuple[int, ...], found: tuple[str, ...]
) -> None:
    records = {RecordType.A: ("192.0.2.2", "192.0.2.1", "192.0.2.2"), RecordType.AAAA: ("2001:DB8::0:1", "2001:db8::1")}
    asked: list[RecordType] = []

    def perform(effect: Any) -> Answer:
        asked.append(effect.rdtype)
        return Answer(effect, secure=True, records=records[effect.rdtype])

    result = drive(find_addresses("mx.example", Config(ip_versions=versions), []), perform)
    assert result.found == found
    assert len(asked) == len(versions)  # of a family that is not used nothing is asked


def test_addresses_beyond_the_limit_are_dropped_and_the_cut_is_told() -> None:
    addresses = tuple(f"192.0.2.{number}" for number in range(9))
    trace: list[Step] = []
    result = drive(
        find_addresses("mx.example", Config(max_addresses=3, ip_versions=(4,)), trace),
        lambda effect: Answer(effect, secure=True, records=addresses),
    )
    assert result.found == addresses[:3]
    assert "Config.max_addresses" in {step.clause for step in trace}


def search(
    zones: dict[str, Any],
    host: str = "mx.example",
    *,
    failures: list[tuple[str, str]] | None = None,
    further: tuple[str, ...] = (),
    port: int = 25,
    believed: bool = True,
    trace: list[Step] | None = None,
    **settings: Any,
) -> tuple[TlsaSearch, list[str]]:
    """How the search for a host ends in these zones, and what it asked beyond the addresses."""
    listed = [{"name": name, "type": rdtype, "kind": "servfail"} for name, rdtype in failures or ()]
    resolver = World.from_json({"zones": zones, "failures": listed}).resolver
    config, trace = Config(**settings), [] if trace is None else trace
    asked: list[str] = []

    def perform(effect: Any) -> Any:
        asked.append(f"{effect.name} {effect.rdtype}")
        answer = resolver.lookup(effect)
        return answer if believed or isinstance(answer, LookupFailure) else evolve(answer, secure=False, believed=False)

    addresses = drive(find_addresses(host, config, trace), perform)
    asked.clear()
    result = drive(find_tlsa(host, port, addresses, further, config, trace), perform)
    assert trace
    return result, asked


def zone(*records: str, security: str = "secure") -> dict[str, Any]:
    return {"security": security, "records": list(records)}


def base(result: TlsaSearch) -> str | None:
    return None if result.binding is None else result.binding.base_domain


def test_a_host_that_is_no_alias_is_its_own_candidate() -> None:  # RFC7672-2.2.3-a
    result, asked = search({"example": zone("mx A 192.0.2.1", f"_25._tcp.mx TLSA {EE}")})
    assert (result.outcome, base(result)) == (TlsaOutcome.USABLE, "mx.example")
    assert asked == ["_25._tcp.mx.example TLSA"]


def test_no_tlsa_is_asked_for_behind_insecure_addresses() -> None:  # RFC7672-2.2.2-g
    zones = {"example": zone("mx A 192.0.2.1", security="insecure"), "_tcp.mx.example": zone(f"_25 TLSA {EE}")}
    result, asked = search(zones)
    assert (result.outcome, asked) == (TlsaOutcome.ABSENT, [])


ALIAS = ("mx A 192.0.2.1", "alias CNAME middle", "middle CNAME mx")


def test_a_secure_alias_has_its_expanded_name_as_first_candidate_and_the_search_ends_there() -> None:
    records = (*ALIAS, f"_25._tcp.mx TLSA {EE}", f"_25._tcp.alias TLSA {OTHER_EE}")
    result, asked = search({"example": zone(*records)}, "alias.example")
    assert base(result) == "mx.example"
    assert result.binding is not None
    assert result.binding.records.to_json() == [EE]  # RFC7672-2.2.3-d: later candidates are not merged in
    assert asked == ["_25._tcp.mx.example TLSA"]


def test_a_secure_alias_is_tried_itself_where_its_target_has_no_records_and_the_middle_never() -> None:
    records = (*ALIAS, f"_25._tcp.middle TLSA {EE}", f"_25._tcp.alias TLSA {OTHER_EE}")  # RFC7672-2.2.3-p
    result, asked = search({"example": zone(*records)}, "alias.example")
    assert base(result) == "alias.example"
    assert asked == ["_25._tcp.mx.example TLSA", "_25._tcp.alias.example TLSA"]


def test_insecure_records_at_the_target_do_not_stop_the_search() -> None:  # RFC7672-2.2.3-g
    zones = {
        "example": zone(*ALIAS, f"_25._tcp.alias TLSA {EE}", "_25._tcp.mx CNAME tlsa.insecure.test."),
        "insecure.test": zone(f"tlsa TLSA {OTHER_EE}", security="insecure"),
    }
    result, _ = search(zones, "alias.example")
    assert base(result) == "alias.example"


def test_records_at_neither_name_mean_that_dane_does_not_apply() -> None:  # RFC7672-2.2.2-p
    result, asked = search({"example": zone(*ALIAS, f"_25._tcp.middle TLSA {EE}")}, "alias.example")
    assert (result.outcome, result.error, len(asked)) == (TlsaOutcome.ABSENT, None, 2)


def test_a_failure_at_the_first_candidate_spoils_the_host_and_the_second_is_not_tried() -> None:  # RFC7672-2.1.2-d
    zones = {"example": zone(*ALIAS, f"_25._tcp.alias TLSA {EE}")}
    result, asked = search(zones, "alias.example", failures=[("_25._tcp.mx.example", "TLSA")])
    assert (result.outcome, result.error) == (TlsaOutcome.ERROR, SkipReason.TLSA_LOOKUP_FAILED)
    assert asked == ["_25._tcp.mx.example TLSA"]


def test_a_failure_at_the_second_candidate_spoils_the_host_as_well() -> None:
    result, _ = search({"example": zone(*ALIAS)}, "alias.example", failures=[("_25._tcp.alias.example", "TLSA")])
    assert (result.outcome, result.error) == (TlsaOutcome.ERROR, SkipReason.TLSA_LOOKUP_FAILED)


def test_unusable_records_end_the_search_like_usable_ones() -> None:
    zones = {"example": zone(*ALIAS, f"_25._tcp.mx TLSA {UNUSABLE}", f"_25._tcp.alias TLSA {EE}")}
    result, asked = search(zones, "alias.example")
    assert (result.outcome, base(result)) == (TlsaOutcome.UNUSABLE, "mx.example")
    assert asked == ["_25._tcp.mx.example TLSA"]


def test_one_usable_record_among_unusable_ones_is_enough_and_all_are_kept_as_published() -> None:
    zones = {"example": zone("mx A 192.0.2.1", f"_25._tcp.mx TLSA {UNUSABLE}", f"_25._tcp.mx TLSA {EE}")}
    result, _ = search(zones)
    assert result.outcome is TlsaOutcome.USABLE
    assert result.binding is not None
    assert result.binding.records.to_json() == [UNUSABLE, EE]


SPLIT = {  # a signed alias to an unsigned provider, who publishes records of its own
    "example": zone("alias CNAME mx.provider.test.", f"_25._tcp.alias TLSA {EE}"),
    "provider.test": zone("mx A 192.0.2.1", security="insecure"),
    "_tcp.mx.provider.test": zone(f"_25 TLSA {OTHER_EE}"),
}


def test_a_secure_alias_to_insecure_addresses_leaves_only_the_alias_as_candidate() -> None:  # RFC7672-2.2.2-m
    result, asked = search(SPLIT, "alias.example")
    assert (result.outcome, base(result)) == (TlsaOutcome.USABLE, "alias.example")
    assert asked == ["alias.example CNAME", "_25._tcp.alias.example TLSA"]  # RFC7672-2.1.3-h


def test_an_insecure_alias_ends_the_search() -> None:  # RFC7672-2.2.2-l
    zones = {
        **SPLIT,
        "example": zone("alias CNAME mx.provider.test.", f"_25._tcp.alias TLSA {EE}", security="insecure"),
    }
    result, asked = search(zones, "alias.example")
    assert (result.outcome, asked) == (TlsaOutcome.ABSENT, ["alias.example CNAME"])


def test_a_failed_question_about_the_alias_spoils_the_host() -> None:
    result, asked = search(SPLIT, "alias.example", failures=[("alias.example", "CNAME")])
    assert (result.outcome, result.error) == (TlsaOutcome.ERROR, SkipReason.ALIAS_LOOKUP_FAILED)
    assert asked == ["alias.example CNAME"]


MOVED = {  # a signed DNAME to an unsigned provider, who publishes signed records
    "example": zone("old DNAME new.test."),
    "new.test": zone("mx A 192.0.2.1", security="insecure"),
    "_tcp.mx.new.test": zone(f"_25 TLSA {EE}"),
}


def test_how_secure_an_alias_below_a_dname_is_the_dname_is_asked_for() -> None:  # RFC7672-2.1.3-h
    result, asked = search(MOVED, "mx.old.example")
    assert (result.outcome, base(result)) == (TlsaOutcome.USABLE, "mx.old.example")
    assert asked == ["old.example DNAME", "_25._tcp.mx.old.example TLSA"]


def test_a_cname_question_that_would_fail_below_a_dname_does_no_harm() -> None:
    result, _ = search(MOVED, "mx.old.example", failures=[("mx.old.example", "CNAME")])
    assert result.outcome is TlsaOutcome.USABLE


def test_an_insecure_dname_ends_the_search() -> None:  # RFC7672-2.2.2-l
    zones = {**MOVED, "example": zone("old DNAME new.test.", security="insecure")}
    result, asked = search(zones, "mx.old.example")
    assert (result.outcome, asked) == (TlsaOutcome.ABSENT, ["old.example DNAME"])


def test_a_failed_question_about_the_dname_spoils_the_host() -> None:
    trace: list[Step] = []
    result, asked = search(MOVED, "mx.old.example", failures=[("old.example", "DNAME")], trace=trace)
    assert (result.outcome, result.error) == (TlsaOutcome.ERROR, SkipReason.ALIAS_LOOKUP_FAILED)
    assert asked == ["old.example DNAME"]
    assert "the DNAME lookup of old.example failed (servfail)" in {step.fact for step in trace}


@pytest.mark.parametrize(("zones", "host"), [(SPLIT, "alias.example"), (MOVED, "mx.old.example")])
def test_a_resolver_that_is_not_believed_is_not_asked_how_secure_an_alias_is(zones: Any, host: str) -> None:
    result, asked = search(zones, host, believed=False)
    assert (result.outcome, asked) == (TlsaOutcome.ABSENT, [])


def test_an_alias_of_the_tlsa_record_changes_neither_base_domain_nor_names() -> None:  # RFC7672-2.2.3-j
    records = ("mx A 192.0.2.1", "_25._tcp.mx CNAME tlsa201._dane", f"tlsa201._dane TLSA {EE}")
    result, _ = search({"example": zone(*records)}, further=("client.test",))
    assert result.binding is not None
    assert (result.binding.base_domain, result.binding.sni) == ("mx.example", "mx.example")
    assert result.binding.reference_ids == ("mx.example", "client.test")


def test_reference_identifiers_start_with_the_base_domain_and_name_nobody_twice() -> None:  # RFC7672-3.2.2-b
    records = (*ALIAS, f"_25._tcp.mx TLSA {EE}")
    result, _ = search({"example": zone(*records)}, "alias.example", further=("alias.example", "mx.example", "c.test"))
    assert result.binding is not None
    assert result.binding.reference_ids == ("mx.example", "alias.example", "c.test")


def test_the_port_stands_in_the_owner_name() -> None:  # RFC7672-2.2.3-e
    records = ("mx A 192.0.2.1", f"_25._tcp.mx TLSA {OTHER_EE}", f"_2525._tcp.mx TLSA {EE}")
    result, asked = search({"example": zone(*records)}, port=2525)
    assert asked == ["_2525._tcp.mx.example TLSA"]
    assert result.binding is not None
    assert list(result.binding.records) == [Tlsa.parse(EE)]


@pytest.mark.parametrize(("limit", "outcome"), [(2, TlsaOutcome.USABLE), (1, TlsaOutcome.ERROR)])
def test_an_rrset_beyond_the_limit_counts_as_a_failed_lookup_and_never_as_absent(
    limit: int, outcome: TlsaOutcome
) -> None:
    zones = {"example": zone("mx A 192.0.2.1", f"_25._tcp.mx TLSA {EE}", f"_25._tcp.mx TLSA {OTHER_EE}")}
    result, _ = search(zones, max_tlsa_records=limit)
    assert result.outcome is outcome


def test_a_name_too_long_for_the_service_labels_owns_no_record_and_is_not_asked_for() -> None:
    label = "a" * 63
    host = ".".join([label, label, label, "b" * 49, "example"])  # 3 * 64 + 50 + 7 = 249 octets; "_25._tcp." has 9
    result, asked = search({"example": zone(f"{host}. A 192.0.2.1")}, host)
    assert (result.outcome, asked) == (TlsaOutcome.ABSENT, [])


def test_an_alias_to_what_is_no_host_name_is_an_error_and_never_absence() -> None:  # RFC 6698 section 3
    zones = {"example": zone("alias CNAME bad\\032name", "bad\\032name A 192.0.2.1")}
    result, asked = search(zones, "alias.example")
    assert (result.outcome, result.error, asked) == (TlsaOutcome.ERROR, SkipReason.ALIAS_LOOKUP_FAILED, [])


FIRST = "RFC 7672 section 2.2.2"  # the host has addresses
UNSIGNED_ALIAS = {**SPLIT, "example": zone("alias CNAME mx.provider.test.", security="insecure")}
# The host, where it is, how it is asked for, and the sections that the steps name, one after the other
STEPS: list[tuple[str, dict[str, Any], dict[str, Any], list[str]]] = [
    ("mx", {"example": zone("mx A 192.0.2.1", f"_25._tcp.mx TLSA {EE}")}, {}, ["RFC 7672 section 2.2"]),
    ("mx", {"example": zone("mx A 192.0.2.1")}, {}, ["RFC 7672 section 2.2.3"]),
    (
        "mx",
        {"example": zone("mx A 192.0.2.1", f"_25._tcp.mx TLSA {UNUSABLE}")},
        {},
        ["RFC 7671 section 10.3", "RFC 7672 section 2.2"],
    ),
    ("mx", {"example": zone("mx A 192.0.2.1", security="insecure")}, {}, ["RFC 7672 section 2.2.2"]),
    (
        "mx",
        {"example": zone("mx A 192.0.2.1")},
        {"failures": [("_25._tcp.mx.example", "TLSA")]},
        ["RFC 7672 section 2.1.2"],
    ),
    (
        "mx",
        {"example": zone("mx A 192.0.2.1", f"_25._tcp.mx TLSA {EE}", f"_25._tcp.mx TLSA {OTHER_EE}")},
        {"max_tlsa_records": 1},
        ["Config.max_tlsa_records"],
    ),
    (
        "alias",
        {"example": zone(*ALIAS, f"_25._tcp.alias TLSA {EE}")},
        {},
        ["RFC 7672 section 2.2.2", "RFC 7672 section 2.2.3", "RFC 7672 section 2.2"],
    ),
    ("alias", SPLIT, {}, ["RFC 7672 section 2.2.2", "RFC 7672 section 2.2"]),
    ("alias", SPLIT, {"failures": [("alias.example", "CNAME")]}, ["RFC 7672 section 2.1.2"]),
    ("alias", SPLIT, {"believed": False}, ["RFC 7672 section 2.2.2"]),
    ("alias", UNSIGNED_ALIAS, {}, ["RFC 7672 section 2.2.2"]),
    ("alias", {"example": zone("alias CNAME bad\\032name", "bad\\032name A 192.0.2.1")}, {}, ["RFC 6698 section 3"]),
]


@pytest.mark.parametrize(("host", "zones", "how", "sections"), STEPS)
def test_each_step_of_the_search_names_its_section(
    host: str, zones: dict[str, Any], how: dict[str, Any], sections: list[str]
) -> None:
    trace: list[Step] = []
    search(zones, f"{host}.example", trace=trace, **how)
    assert [step.clause for step in trace] == [FIRST, *sections]


def test_a_family_that_failed_by_the_letter_is_the_last_step() -> None:
    assert [step.clause for step in found_in_cells("S", "F", address_families="both")[2]] == ["RFC 7672 section 2.2.2"]


def test_a_failure_holds_for_no_time() -> None:
    """So that no plan that rests on it is kept: failures are for the resolver to cache (RFC 2308 section 7)."""
    records = zone("mx 300 A 192.0.2.1")
    failed, _ = search({"example": records}, failures=[("_25._tcp.mx.example", "TLSA")])
    assert failed.ttl == 0
    unknown, _ = search(SPLIT, "alias.example", failures=[("alias.example", "CNAME")])
    assert unknown.ttl == 0
