"""What a run was told, written as a world, replays to the same plan."""

from __future__ import annotations

import hashlib
import json
import ssl
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from attrs import evolve

from mailtlspolicy import Config, Engine, Message, Plan, World
from mailtlspolicy.delivery.session import (
    Close,
    Connect,
    Connected,
    Ehlo,
    Reply,
    Secured,
    SessionFailure,
    StartTls,
    Transmit,
    Transmitted,
    Trouble,
)
from mailtlspolicy.dns.effects import Answer, Lookup, LookupFailure, RecordType
from mailtlspolicy.pkix import TrustStore
from mailtlspolicy.sts.effects import Fetch, StoreFailure
from mailtlspolicy.sts.fetching import Response
from mailtlspolicy.sts.stores import MemoryStore
from mailtlspolicy.testing import vectors
from mailtlspolicy.world.recording import Recorder
from tests.sessions import look

if TYPE_CHECKING:
    from collections.abc import Callable

    from mailtlspolicy.engine import Resolver

VECTORS = Path(__file__).resolve().parent.parent / "vectors"
NOW = datetime(2026, 1, 1, 12, 30, 15, 250000, tzinfo=timezone.utc)
EE = "3 1 1 " + "a1" * 32
TA = "2 0 1 " + "b2" * 32
POLICY = b"version: STSv1\nmode: enforce\nmx: mx.client.test\nmax_age: 86400\n"


def zone(*records: str, security: str = "secure", **more: Any) -> dict[str, Any]:
    return {"security": security, "records": list(records), **more}


def recorder_of(resolver: Resolver, connector: Any = None) -> Recorder:
    return Recorder(resolver, World.from_json({}).fetcher, MemoryStore(), connector)


def engine(recorder: Recorder, config: Config) -> Engine:
    return Engine(
        recorder,
        fetcher=recorder,
        store=recorder,
        connector=recorder,
        trust=TrustStore(),
        shuffle=lambda _: None,
        clock=lambda: NOW,
        config=config,
    )


def replay(recorder: Recorder, config: Config, next_hop: str) -> Plan:
    """The plan over what was recorded, after a trip through a file's text."""
    data = json.loads(json.dumps(recorder.to_world(NOW)))
    return World.from_json(data).engine(config).plan(next_hop)


def record(resolver: Resolver, next_hop: str = "client.test", **settings: Any) -> tuple[Plan, Plan]:
    """The plan of a run, and that of its replay."""
    recorder, config = recorder_of(resolver), Config(**settings)
    plan = engine(recorder, config).plan(next_hop)
    return plan, replay(recorder, config, next_hop)


def client(*records: str, **more: Any) -> dict[str, Any]:
    return {"client.test": zone("@ 900 MX 10 mx.provider.test.", "@ MX 20 mx2", *records, **more)}


PROVIDER = zone(
    "mx 600 A 192.0.2.1", "mx 600 AAAA 2001:db8::1", f"_25._tcp.mx 300 TLSA {EE}", "@ TXT x", denial_ttl=400
)

WORLDS: dict[str, dict[str, Any]] = {
    "secure": {"zones": {**client(), "provider.test": PROVIDER}},
    "insecure MX": {"zones": {**client(security="insecure"), "provider.test": PROVIDER}},
    "insecure addresses": {"zones": {**client(), "provider.test": PROVIDER | {"security": "insecure"}}},
    "several records": {
        "zones": {
            **client(),
            "provider.test": zone(
                "mx A 192.0.2.2",
                "mx A 192.0.2.1",
                f"_25._tcp.mx TLSA {TA}",
                f"_25._tcp.mx TLSA {EE}",
                "_25._tcp.mx TLSA 1 1 1 ab",
                "_25._tcp.mx TLSA 3 1 1",
            ),
        }
    },
    "implicit MX": {"zones": {"client.test": zone("@ A 192.0.2.1", f"_25._tcp TLSA {EE}", denial_ttl=77)}},
    "insecure implicit MX": {"zones": {"client.test": zone("@ A 192.0.2.1", security="insecure")}},
    "null MX": {"zones": {"client.test": zone("@ MX 0 .")}},
    "null MX beside hosts": {"zones": {"client.test": zone("@ MX 0 .", "@ MX 10 mx", "mx A 192.0.2.1")}},
    "NXDOMAIN": {"zones": {"test": zone(denial_ttl=55)}},
    "insecure NXDOMAIN": {"zones": {}},
    "an address as exchange": {
        "zones": {"client.test": zone("@ MX 10 192.0.2.1.", "@ MX 20 a\\032b", "@ MX 30 mx", "mx A 192.0.2.1")}
    },
    "an alias in front of the MX": {
        "zones": {"client.test": zone("@ 50 CNAME c.host.test."), "host.test": zone("c MX 10 mx", "mx A 192.0.2.1")}
    },
    "an alias in front of nothing": {"zones": {"client.test": zone("@ CNAME gone.host.test."), "host.test": zone()}},
    "an insecure alias in front of nothing": {
        "zones": {"client.test": zone("@ CNAME gone.host.test.", security="insecure"), "host.test": zone()}
    },
    "an alias as its own server": {
        "zones": {
            "client.test": zone("@ CNAME m.host.test."),
            "host.test": zone("m A 192.0.2.1", f"_25._tcp.m TLSA {TA}"),
        }
    },
    "an aliased host": {
        "zones": {
            "client.test": zone(
                "@ MX 10 mx", "mx 40 CNAME middle", "middle 30 CNAME m.host.test.", f"_25._tcp.mx TLSA {EE}"
            ),
            "host.test": zone("m A 192.0.2.1"),
        }
    },
    "a signed alias to an unsigned host": {
        "zones": {
            "client.test": zone("@ MX 10 mx", "mx CNAME m.host.test.", f"_25._tcp.mx TLSA {EE}"),
            "host.test": zone("m A 192.0.2.1", "m AAAA 2001:db8::1", security="insecure"),
        }
    },
    "a chain that turns insecure in the middle": {
        "zones": {
            "client.test": zone("@ MX 10 mx", "mx CNAME a.host.test.", f"_25._tcp.mx TLSA {EE}"),
            "host.test": zone("a CNAME m.final.test.", security="insecure"),
            "final.test": zone("m A 192.0.2.1"),
        }
    },
    "an unsigned alias to a signed host that is listed too": {
        "zones": {
            "client.test": zone("@ MX 10 mx.host.test.", "@ MX 20 m.final.test."),
            "host.test": zone("mx CNAME m.final.test.", security="insecure"),
            "final.test": zone("m A 192.0.2.1", f"_25._tcp.m TLSA {EE}"),
        }
    },
    "two aliases of one host": {
        "zones": {
            "client.test": zone("@ MX 10 a", "a CNAME m.host.test.", "@ MX 20 b", "b CNAME m.host.test."),
            "host.test": zone("m A 192.0.2.1", f"_25._tcp.m TLSA {EE}", f"_25._tcp.m TLSA {TA}"),
        }
    },
    "an alias of the TLSA record": {
        "zones": {**client(), "provider.test": zone("mx A 192.0.2.1", "_25._tcp.mx CNAME dane", f"dane TLSA {EE}")}
    },
    "an insecure alias of the TLSA record": {
        "zones": {
            **client(),
            "provider.test": zone("mx A 192.0.2.1", "_25._tcp.mx CNAME dane.host.test."),
            "host.test": zone(f"dane TLSA {EE}", security="insecure"),
        }
    },
    "a DNAME and a wildcard": {
        "zones": {
            "client.test": zone("@ MX 10 mx.old.test."),
            "old.test": zone("@ 33 DNAME new.test."),
            "new.test": zone("* A 192.0.2.1", "*._tcp.mx TLSA " + EE, "mx A 192.0.2.1"),
        }
    },
    "a signed DNAME to an unsigned host": {
        "zones": {
            "client.test": zone("@ MX 10 mx.a.old.test.", "@ MX 20 mx.up.test."),
            "old.test": zone("@ 33 DNAME new.test."),
            "up.test": zone("@ DNAME ."),
            "new.test": zone("mx.a A 192.0.2.1", f"_25._tcp.mx.a TLSA {EE}", security="insecure"),
            "mx": zone("@ A 192.0.2.2", f"_25._tcp TLSA {EE}", security="insecure"),
        }
    },
    "an unsigned DNAME to a signed host": {
        "zones": {
            "client.test": zone("@ MX 10 mx.old.test.", "@ MX 20 mx.new.test."),
            "old.test": zone("@ DNAME new.test.", security="insecure"),
            "new.test": zone("mx A 192.0.2.1", f"_25._tcp.mx TLSA {EE}"),
        }
    },
    "a DNAME behind an alias": {
        "zones": {
            "client.test": zone("@ MX 10 mx", "mx CNAME mx.old.test."),
            "old.test": zone("@ DNAME new.test."),
            "new.test": zone("mx A 192.0.2.1", security="insecure"),
        }
    },
    "a DNAME failure": {
        "zones": {
            "client.test": zone("@ MX 10 mx.old.test."),
            "old.test": zone("@ DNAME new.test."),
            "new.test": zone("mx A 192.0.2.1", security="insecure"),
        },
        "failures": [{"name": "old.test", "type": "DNAME", "kind": "refused"}],
    },
    "a bogus MX": {"zones": client(security="bogus")},
    "an alias loop": {"zones": {"client.test": zone("@ CNAME loop", "loop CNAME @")}},
    **{
        f"{rdtype} failure": {
            "zones": {**client(), "provider.test": PROVIDER},
            "failures": [{"name": name, "type": rdtype, "kind": "timeout"}],
        }
        for rdtype, name in (
            ("A", "mx.provider.test"),
            ("AAAA", "mx.provider.test"),
            ("TLSA", "_25._tcp.mx.provider.test"),
        )
    },
    "CNAME failure": {
        "zones": {
            "client.test": zone("@ MX 10 mx", "mx CNAME m.host.test."),
            "host.test": zone("m A 192.0.2.1", security="insecure"),
        },
        "failures": [{"name": "mx.client.test", "type": "CNAME", "kind": "refused"}],
    },
}


@pytest.mark.parametrize(
    "settings", [{}, {"dane": "audit"}, {"insecure_mx": "may", "address_families": "both"}], ids=str
)
@pytest.mark.parametrize("data", WORLDS.values(), ids=WORLDS)
def test_a_recorded_run_replays_to_the_same_plan(data: Any, settings: Any) -> None:
    live, again = record(World.from_json(data).resolver, **settings)
    assert again == live


@pytest.mark.parametrize("next_hop", ["[192.0.2.1]:2525", "[mx.provider.test]:25", "[mx.provider.test]:587"])
def test_a_run_for_a_relay_or_a_literal_replays_too(next_hop: str) -> None:
    live, again = record(World.from_json(WORLDS["secure"]).resolver, next_hop)
    assert again == live
    assert live.usable_hosts


def test_a_run_over_a_resolver_that_answers_hop_by_hop_replays_too() -> None:
    resolver = World.from_json(WORLDS["a signed alias to an unsigned host"]).resolver

    class HopByHop:
        def lookup(self, question: Lookup) -> Answer | LookupFailure:
            alias = resolver.lookup(Lookup(question.name, RecordType.CNAME))
            if question.rdtype is RecordType.CNAME or isinstance(alias, LookupFailure) or not alias.records:
                return resolver.lookup(question)
            return Answer(question, alias.secure, aliases=(str(alias.records[0]),), complete=False, ttl=alias.ttl)

    live, again = record(HopByHop())
    assert [str(host.level) for host in live.usable_hosts] == ["dane"]
    assert again == live


def test_a_run_over_a_cache_whose_ttls_run_down_replays_too() -> None:
    resolver = World.from_json(WORLDS["two aliases of one host"]).resolver

    class Cache:
        def __init__(self) -> None:
            self.ttl = 300

        def lookup(self, question: Lookup) -> Answer | LookupFailure:
            answer = resolver.lookup(question)
            assert isinstance(answer, Answer)
            self.ttl -= 1
            return evolve(answer, ttl=self.ttl)

    live, again = record(Cache())
    assert again == live


def test_answers_that_contradict_each_other_are_refused() -> None:
    class Fickle:
        def lookup(self, question: Lookup) -> Answer | LookupFailure:
            return Answer(question, secure=question.rdtype is RecordType.A, records=())

    recorder = Recorder(Fickle())
    recorder.lookup(Lookup("mx.test", RecordType.A))
    recorder.lookup(Lookup("mx.test", RecordType.AAAA))
    with pytest.raises(ValueError, match="contradict"):
        recorder.to_world(NOW)


def test_text_records_survive_with_every_octet() -> None:
    text = (bytes(range(256))[:255], b'"; \\', b"")

    class Texts:
        def lookup(self, question: Lookup) -> Answer | LookupFailure:
            return Answer(question, secure=True, records=(text,), ttl=5)

    recorder, question = Recorder(Texts()), Lookup("t.test", RecordType.TXT)
    live = recorder.lookup(question)
    assert World.from_json(recorder.to_world(NOW)).resolver.lookup(question) == live


GREETED = Reply(220, ("mx.test ready",))
OFFERED = Reply(250, ("mx.test", "SIZE 1000", "STARTTLS"))
IN_TLS = Reply(250, ("mx.test", "REQUIRETLS", "SIZE 1000"))
LOST = SessionFailure(Trouble.LOST, "in its own words")


class Servers:
    """A connector of one behaviour, which takes no session that is not its own."""

    def __init__(
        self,
        *,
        connect: Reply | SessionFailure = GREETED,
        ehlo: Reply | SessionFailure = OFFERED,
        start_tls: Callable[[StartTls], Secured | Reply | SessionFailure] = lambda _: Secured(()),
        in_tls: Reply | SessionFailure = IN_TLS,
    ) -> None:
        self.greeting, self.ehlos, self.handshake = connect, (ehlo, in_tls), start_tls
        self.sessions: list[list[str]] = []
        self.open = 0

    def connect(self, _: Connect) -> Connected | SessionFailure:
        if isinstance(self.greeting, SessionFailure):
            return self.greeting
        self.sessions.append([])
        self.open += 1
        return Connected(self.sessions[-1], self.greeting)

    def _said(self, session: Any) -> list[str]:
        assert any(session is known for known in self.sessions)
        said: list[str] = session
        return said

    def ehlo(self, effect: Ehlo) -> Reply | SessionFailure:
        return self.ehlos["STARTTLS" in self._said(effect.session)]

    def start_tls(self, effect: StartTls) -> Secured | Reply | SessionFailure:
        self._said(effect.session).append("STARTTLS")
        return self.handshake(effect)

    def transmit(self, effect: Transmit) -> Transmitted:
        self._said(effect.session).append("MAIL")
        ok = Reply(250, ("ok",))
        return Transmitted(ok, (ok,) * len(effect.recipients), Reply(354), ok)

    def close(self, effect: Close) -> None:
        self._said(effect.session).append("QUIT")
        self.open -= 1


def checked(servers: Servers, data: Any, **wish: Any) -> tuple[list[Any], list[Any]]:
    """What the servers of client.test amounted to, and what they do in the replay."""
    recorder = recorder_of(World.from_json(data).resolver, servers)
    live = engine(recorder, Config()).check("client.test", **wish)
    assert servers.open == 0
    world = World.from_json(json.loads(json.dumps(recorder.to_world(NOW))))
    again = world.engine().check("client.test", **wish)
    assert again.plan == live.plan
    pairs = [
        [(server.address, server.result, server.security, server.verdict) for server in run.servers]
        for run in (live, again)
    ]
    return pairs[0], pairs[1]


def failing(kind: Trouble) -> Callable[[StartTls], SessionFailure]:
    return lambda _: SessionFailure(kind, "in its own words")


def alerting(about: Callable[[str | None], bool]) -> Callable[[StartTls], Secured | SessionFailure]:
    """Handshakes that end by an alert over such server names."""
    alert = SessionFailure(Trouble.HANDSHAKE, "in its own words", alert=True)
    return lambda effect: alert if about(effect.sni) else Secured(())


def refusing(code: int) -> Callable[[StartTls], Reply]:
    return lambda _: Reply(code, ("in its own words",))


BEHAVIOURS: list[tuple[str, dict[str, Any]]] = [
    ("connect-failed", {"connect": SessionFailure(Trouble.UNREACHABLE, "in its own words")}),
    ("connect-failed", {"connect": SessionFailure(Trouble.UNREACHABLE, "timed out")}),
    ("tempfailed", {"connect": LOST}),
    ("tempfailed", {"connect": Reply(421, ("4.3.2 later",))}),
    ("tempfailed", {"connect": Reply(554, ("no SMTP service here",))}),
    ("tempfailed", {"ehlo": LOST}),
    ("tempfailed", {"ehlo": Reply(550, ("5.7.1 who are you?",))}),
    ("tempfailed", {"ehlo": Reply(421)}),
    ("tempfailed", {"ehlo": Reply(500, ("no HELO either",))}),
    ("tempfailed", {"ehlo": Reply(502)}),
    ("starttls-absent", {"ehlo": Reply(250, ("mx.test", "SIZE 1000"))}),
    ("starttls-absent", {"ehlo": Reply(250)}),
    ("starttls-refused", {"start_tls": refusing(454)}),
    ("starttls-refused", {"start_tls": refusing(502)}),
    ("starttls-refused", {"start_tls": refusing(250)}),
    ("starttls-refused", {"start_tls": failing(Trouble.LOST)}),
    ("handshake-failed", {"start_tls": failing(Trouble.INJECTED)}),
    ("handshake-failed", {"start_tls": failing(Trouble.HANDSHAKE)}),
    ("handshake-failed", {"start_tls": alerting(lambda _: True)}),
]


@pytest.mark.parametrize("wish", [{}, {"requiretls": True}])
@pytest.mark.parametrize(("result", "behaviour"), BEHAVIOURS)
@pytest.mark.parametrize("data", ["secure", "implicit MX"])
def test_a_server_that_failed_fails_at_the_same_step(
    data: str, result: str, behaviour: dict[str, Any], wish: dict[str, Any]
) -> None:
    live, again = checked(Servers(**behaviour), WORLDS[data], **wish)
    assert live == again
    assert live[0][1] == result


ENDED = SessionFailure(Trouble.HANDSHAKE, "in its own words")

# no TLSA record, so that the session goes on to the second EHLO whatever is presented
UNBOUND = {"zones": {"client.test": zone("@ MX 10 mx", "mx A 192.0.2.1", security="insecure")}}


@pytest.mark.parametrize(
    "in_tls", [IN_TLS, Reply(250, ("mx.test",)), Reply(250, ("mx.test", "X-REQUIRETLS")), Reply(421), ENDED]
)
@pytest.mark.parametrize("start_tls", [lambda _: Secured(()), lambda _: Secured((b"no certificate",))])
def test_what_a_server_announces_within_tls_is_kept(in_tls: Reply | SessionFailure, start_tls: Any) -> None:
    for data in (UNBOUND, WORLDS["secure"]):
        for wish in (True, False):
            live, again = checked(Servers(start_tls=start_tls, in_tls=in_tls), data, requiretls=wish)
            assert live == again


@pytest.mark.parametrize("about", [lambda sni: sni is not None, lambda sni: sni is None, lambda _: True])
def test_what_a_server_makes_of_the_server_name_is_kept(about: Callable[[str | None], bool]) -> None:
    live, again = checked(Servers(start_tls=alerting(about)), UNBOUND)
    assert live == again
    assert live[0][1] == ("handshake-failed" if about(None) and about("mx.client.test") else "ok")


@pytest.mark.parametrize("code", [500, 501, 502, 504, 550])
def test_a_server_that_knows_helo_alone_is_kept(code: int) -> None:
    class Old(Servers):
        def ehlo(self, effect: Ehlo) -> Reply | SessionFailure:
            return Reply(250, ("mx.test",)) if effect.helo else Reply(code)

    live, again = checked(Old(), UNBOUND)
    assert live == again
    assert live[0][1:3] == ("starttls-absent", "cleartext")


def test_what_a_server_announced_decides_in_the_replay() -> None:
    """A host that DANE authenticates: the check comes as far as the second EHLO, and further with the keyword alone."""
    der = ssl.PEM_cert_to_DER_cert((VECTORS / "certificates" / "leaf-direct.pem").read_text("ascii"))
    record = f"_25._tcp.mx TLSA 3 0 1 {hashlib.sha256(der).hexdigest()}"
    data = {"zones": {"client.test": zone("@ MX 10 mx", "mx A 192.0.2.1", record)}}
    shown: list[tuple[str, Reply | SessionFailure]] = [
        ("ok", IN_TLS),
        ("requiretls-absent", Reply(250, ("mx.test", "REQUIRETLS2"))),  # RFC8689-2-a
        ("tempfailed", Reply(554)),
        ("tempfailed", Reply(502)),
        ("handshake-failed", SessionFailure(Trouble.HANDSHAKE, "in its own words")),
    ]
    for result, in_tls in shown:
        live, again = checked(Servers(start_tls=lambda _: Secured((der,)), in_tls=in_tls), data, requiretls=True)
        assert live == again
        assert live[0][1] == result
        live, again = checked(Servers(start_tls=lambda _: Secured((der,)), in_tls=in_tls), data)
        assert live == again
        assert live[0][1] == ("ok" if result == "requiretls-absent" else result)


@pytest.mark.parametrize("chain", [(), (b"no certificate",), (b"one", b"two" * 99)])
def test_a_presented_chain_is_kept_octet_by_octet_whatever_it_holds(chain: tuple[bytes, ...]) -> None:
    recorder = recorder_of(World.from_json({}).resolver, Servers(start_tls=lambda _: Secured(chain, "TLSv1.3", "X")))
    engine(recorder, Config()).check("[IPv6:2001:db8::1]:2525")
    world = World.from_json(json.loads(json.dumps(recorder.to_world(NOW))))
    assert look(world.connector, "2001:db8::1", 2525) == ("starttls", Secured(chain))


def test_a_server_that_chooses_its_chain_by_name_does_so_again() -> None:
    zones = {"client.test": zone("@ MX 10 a", "@ MX 20 b", "a A 192.0.2.1", "b A 192.0.2.1")}
    zones["client.test"]["records"] += [f"_25._tcp.{name} TLSA {EE}" for name in "ab"]
    servers = Servers(start_tls=lambda effect: Secured((str(effect.sni).encode(),)))
    recorder = recorder_of(World.from_json({"zones": zones}).resolver, servers)
    engine(recorder, Config()).check("client.test")
    connector = World.from_json(recorder.to_world(NOW)).connector
    for name in ("a.client.test", "b.client.test"):
        assert look(connector, sni=name) == ("starttls", Secured((name.encode(),)))


def test_a_delivery_goes_through_a_recorder_as_without_it() -> None:
    message = Message("a@sender.test", ["b@client.test", "c@client.test"], b"\r\n")
    resolver = World.from_json(UNBOUND).resolver
    servers = Servers()
    recorded = engine(recorder_of(resolver, servers), Config()).deliver(message)
    bare = evolve(engine(recorder_of(resolver), Config()), connector=Servers()).deliver(message)
    assert recorded == bare
    assert recorded.outcome == "delivered"
    assert servers.sessions == [["STARTTLS", "MAIL", "QUIT"]]


@pytest.mark.parametrize(
    "call",
    [
        lambda recorder: recorder.connect(Connect("192.0.2.1", 25)),
        lambda recorder: engine(recorder, Config(sts="off")).check("[192.0.2.1]"),
    ],
)
def test_recording_a_session_needs_something_that_connects(call: Any) -> None:
    with pytest.raises(ValueError, match="connects"):
        call(Recorder(World.from_json({}).resolver))


PLANS = [
    vector
    for vector in vectors.load(Path("vectors").glob("sts-*.json"))
    if "plan" in vector.data.get("ask", {}) and isinstance(vector.data["ask"]["plan"], str)
]


def test_discovery_is_recorded_too_and_replays_to_the_same_plan() -> None:
    assert len(PLANS) > 100
    for vector in PLANS:
        world = World.from_json(vector.data["world"], vector.base)
        config = Config.from_settings(vector.data["ask"].get("settings", {}))
        recorder = Recorder(world.resolver, world.fetcher, MemoryStore(world.cache))
        clock = world.engine().clock
        live = evolve(engine(recorder, config), clock=clock).plan(vector.data["ask"]["plan"])
        again = World.from_json(json.loads(json.dumps(recorder.to_world(clock()))))
        replayed = again.engine(config).plan(vector.data["ask"]["plan"])
        assert without_details(replayed) == without_details(live), vector.id


def without_details(plan: Plan) -> Any:
    """A plan but for what a policy host said in its own words."""
    data = plan.to_json() | {"trace": None}
    return data if data["sts"] is None else data | {"sts": data["sts"] | {"detail": None}}


def test_a_body_that_is_no_text_is_recorded_as_one_that_is_no_policy() -> None:
    class Octets:
        def fetch(self, request: Fetch) -> Response:
            return Response(200, "text/plain", (piece for piece in (POLICY + b"x: \xff",)))

    world = World.from_json({"zones": {"client.test": zone("@ MX 1 mx", '_mta-sts TXT "v=STSv1; id=1;"')}})
    recorder = Recorder(world.resolver, Octets(), MemoryStore())
    live = engine(recorder, Config()).plan("client.test")
    again = World.from_json(json.loads(json.dumps(recorder.to_world(NOW)))).engine().plan("client.test")
    assert live.sts is not None
    assert again.sts is not None
    assert live.sts.failure == again.sts.failure == "policy-invalid"


def test_a_policy_store_that_failed_can_not_be_recorded() -> None:
    class Failing(MemoryStore):
        def load(self, domain: str) -> Any:
            return StoreFailure("the disk is gone")

    world = World.from_json({"zones": client()})
    recorder = Recorder(world.resolver, world.fetcher, Failing())
    engine(recorder, Config()).plan("client.test")
    with pytest.raises(ValueError, match="the disk is gone"):
        recorder.to_world(NOW)


@pytest.mark.parametrize(
    "call", [lambda recorder: recorder.fetch(Fetch("h", 1, 1)), lambda recorder: recorder.load("d")]
)
def test_recording_needs_what_is_to_be_recorded(call: Any) -> None:
    with pytest.raises(ValueError, match="nothing was injected"):
        call(Recorder(World.from_json({}).resolver))
