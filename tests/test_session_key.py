"""Which sessions may be reused: those whose key is equal, and the key covers all that a session has to fulfil."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve, fields

from mailtlspolicy import Config, HostPlan, Tlsa, TlsaRRset, TlsLevel, World
from mailtlspolicy.levels import Duty
from mailtlspolicy.plan.hosts import SkipReason, TlsaBinding
from mailtlspolicy.plan.values import Audit, Observe, Skip
from mailtlspolicy.trace import Step

FIRST, SECOND = Tlsa.parse("3 1 1 " + "a1" * 32), Tlsa.parse("2 0 1 " + "b2" * 32)


def binding(*records: Tlsa, base: str = "mx.test", names: tuple[str, ...] = ("mx.test", "client.test")) -> TlsaBinding:
    return TlsaBinding(base, base, names, TlsaRRset(records or (FIRST, SECOND)))


HOST = HostPlan(
    host="mx.test",
    preference=10,
    addresses=("192.0.2.1", "192.0.2.2"),
    binding=binding(),
    level=TlsLevel.DANE,
)


@pytest.mark.parametrize(
    "change",
    [
        {"preference": 20},
        {"addresses": ("192.0.2.2",)},
        {"addresses": ()},
        {"trace": (Step("RFC 7672 section 2.2", "a fact", "what followed"),)},
        {"binding": binding(SECOND, FIRST)},  # records have no order
        {},
    ],
    ids=str,
)
def test_what_a_session_has_not_to_fulfil_changes_nothing(change: dict[str, Any]) -> None:
    assert evolve(HOST, **change).session_key == HOST.session_key


CHANGES: list[dict[str, Any]] = [
    {"host": "mx2.test"},
    {"port": 587},
    {"binding": binding(FIRST)},
    {"binding": binding(FIRST, SECOND, Tlsa.parse("3 1 1 " + "c3" * 32))},
    {"binding": binding(base="target.test")},
    {"binding": binding(names=("mx.test",))},
    {"binding": binding(names=("mx.test", "other.test"))},  # another next-hop, which DANE-TA would accept
    {"binding": binding(names=("client.test", "mx.test"))},
    {"level": TlsLevel.ENCRYPT, "requires": ()},
    {"level": TlsLevel.MAY, "requires": ()},
    {"level": TlsLevel.NONE, "requires": ()},
    {"level": TlsLevel.SECURE, "requires": (Duty.PKIX,)},
    {"requires": (Duty.DANE, Duty.PKIX)},
    {"sts_match": True},
    {"sts_match": False},
    {"audit": Audit(TlsLevel.MAY)},
    {"audit": Audit(None, Skip(SkipReason.TLSA_LOOKUP_FAILED))},
    {"observe": Observe((Duty.PKIX,), pkix_name="mx.test")},
    {"observe": Observe((Duty.DANE,), ("mx.test",))},
    {"requiretls": True},  # a session may be reused only where the keyword was asked for
    {"config": Config(min_rsa_bits=2048)},
    {"config": Config(digest_order=(1, 2))},
    {"config": Config(opportunistic_sni=False)},
]


def test_whatever_a_session_has_to_fulfil_changes_the_key() -> None:
    hosts = [HOST, *(evolve(HOST, **change) for change in CHANGES)]
    assert len({host.session_key for host in hosts}) == len(hosts)


def test_the_table_of_changes_has_every_field_of_a_host() -> None:
    changed = {name for change in CHANGES for name in change}
    names = {attribute.name for attribute in fields(HostPlan)}
    assert changed == names - {"preference", "addresses", "trace"}


def test_a_sni_that_is_not_sent_is_another_session() -> None:
    """The server may choose its certificate, and its behaviour, by it."""
    plain = HostPlan(host="mx.test", level=TlsLevel.MAY)
    assert plain.session_key != evolve(plain, config=Config(opportunistic_sni=False)).session_key
    assert plain.session_key != HostPlan(host="192.0.2.1", level=TlsLevel.MAY).session_key


def test_two_domains_behind_one_provider_share_a_session_where_they_demand_the_same() -> None:
    record = f"_25._tcp.mx TLSA {FIRST}"
    anchor = f"_25._tcp.mx TLSA {SECOND}"
    provider = {"security": "secure", "records": ["mx A 192.0.2.1"]}

    def key(domain: str, *records: str, security: str = "secure", mx: str = "@ MX 10", **wish: Any) -> str:
        zones = {
            domain: {"security": security, "records": [f"{mx} mx.provider.test."]},
            "provider.test": {**provider, "records": [*provider["records"], *records]},
        }
        (host,) = World.from_json({"zones": zones}).engine().plan(domain, **wish).usable_hosts
        return host.session_key

    assert key("a.test") == key("b.test") == key("a.test", mx="@ MX 20") == key("a.test", security="insecure")
    assert key("a.test", tls_optional=True) == key("a.test")  # nothing is demanded by either
    assert key("a.test", record) == key("a.test", record, mx="@ MX 0")
    assert key("a.test", record) != key("a.test")
    assert key("a.test", record) != key("a.test", record, requiretls=True)
    assert key("a.test", record, anchor) == key("a.test", anchor, record)
    assert key("a.test", record) != key("b.test", record)  # the names that a trust anchor may vouch for differ


def test_the_key_is_equal_in_every_process() -> None:
    script = (
        "from mailtlspolicy import HostPlan, Config; "
        "print(HostPlan(host='mx.test', level='secure', config=Config(own_names=['a.test'], usages=[3])).session_key)"
    )
    keys = set()
    for seed in ("0", "1", "2"):
        source = Path(__file__).resolve().parent.parent / "src"
        done = subprocess.run(
            [sys.executable, "-c", script],
            capture_output=True,
            text=True,
            check=True,
            timeout=600,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(source)},
        )
        keys.add(done.stdout.strip())
    here = HostPlan(host="mx.test", level=TlsLevel.SECURE, config=Config(own_names=["a.test"], usages=[3]))
    assert keys == {here.session_key}
    assert len(here.session_key) == 64
