"""Messages delivered by us: to servers of every kind, as a real Postfix delivers there, and to a real Postfix."""

from __future__ import annotations

import asyncio
import csv
import smtplib
import time
from email.parser import BytesHeaderParser
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from attrs import frozen

from mailtlspolicy import AsyncEngine, Config, Engine
from mailtlspolicy.adapters.dns import AsyncDnsResolver, DnsResolver
from mailtlspolicy.adapters.smtp import SmtpConnector
from mailtlspolicy.adapters.smtp_async import AsyncSmtpConnector
from mailtlspolicy.delivery import Message
from tests.lab import postfix
from tests.lab.delivery_scenarios import ALL, DELIVERIES, DISAGREEMENTS, NEXT_TRIES, RECEIVERS, Attempt, Fate
from tests.lab.lab import RESOLVER
from tests.lab.scenarios import CLEARTEXT, SCENARIOS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from email.message import Message as Header

    from mailtlspolicy.delivery import Outcome
    from tests.lab.delivery_scenarios import Delivery
    from tests.lab.lab import Lab, World
    from tests.lab.scenarios import Scene
    from tests.lab.servers import Journal

VECTORS = Path(__file__).parents[2] / "vectors"
SUBMISSION = "127.4.0.1"
CLIENT = "client.lab.test"
SENDER = f"sender@{CLIENT}"
CONTENT = b"From: <sender@client.lab.test>\r\nSubject: lab\r\n\r\n.\r\n..\r\n.hidden\r\n\r\nnot..\r\n \r\n."
AS_SENT = CONTENT + b"\r\n"
OUTCOMES = {"sent": "delivered", "deferred": "deferred", "bounced": "bounced"}

BY_NAME = {delivery.name: delivery for delivery in ALL}
every_delivery = pytest.mark.parametrize("delivery", ALL, ids=lambda delivery: delivery.name)
both_engines = pytest.mark.parametrize("kind", ["sync", "async"])


def world_of(lab: Lab, scene: Scene) -> World:
    return lab.worlds.get(scene.name) or lab.deliveries[scene.name]


def recipients_of(world: World, count: int) -> tuple[str, ...]:
    """Recipients for the next-hop of a scenario: in its domain, or in one that Postfix is told to send there."""
    domain = world.names["signed"].rstrip(".") if world.next_hop.startswith("[") else world.next_hop
    return tuple(f"r{number}@{domain}" for number in range(count))


def asked(world: World, journal: Journal) -> tuple[str, ...]:
    """The servers that were connected to, by label, in the order in which they first were."""
    labels = {placed.address: label for label, placed in world.servers.items()}
    return tuple(dict.fromkeys(labels[address] for address in journal.connections if address in labels))


def only(securities: set[str]) -> str | None:
    """How secure the sessions were that took the message; no scenario has them differ."""
    assert len(securities) <= 1
    return next(iter(securities), None)


# ---------------------------------------------------------------- by us


def config_of(scene: Scene) -> Config:
    settings = {"sts": "off", "loopback_is_own": "false"}  # all of the lab is on this machine
    return Config.from_settings(settings | dict(setting.split("=") for setting in scene.settings))


def async_engine(config: Config) -> AsyncEngine:
    connector = AsyncSmtpConnector(ehlo_name=CLIENT, timeout=10)
    return AsyncEngine(
        AsyncDnsResolver(nameservers=[RESOLVER]), connector=connector, config=config, shuffle=lambda _: None
    )


def deliver(kind: str, world: World, message: Message, before: Outcome | None = None) -> Outcome:
    """Deliver a message by one of the engines."""
    config = config_of(world.scenario)
    if kind == "async":
        return asyncio.run(async_engine(config).deliver(message, world.next_hop, before=before))
    connector = SmtpConnector(ehlo_name=CLIENT, timeout=10)
    engine = Engine(DnsResolver(nameservers=[RESOLVER]), connector=connector, config=config, shuffle=lambda _: None)
    return engine.deliver(message, world.next_hop, before=before)


def attempts_of(world: World, outcome: Outcome) -> tuple[Attempt, ...]:
    """The attempts of an outcome in the form in which they are expected."""
    labels = {placed.address: label for label, placed in world.servers.items()}
    return tuple(
        Attempt(attempt.address and labels[attempt.address], attempt.result, attempt.status, attempt.cleartext)
        for attempt in outcome.attempts
    )


def fate_of(world: World, outcome: Outcome, journal: Journal) -> Fate:
    """What became of a message by us."""
    securities = {str(attempt.security) for attempt in outcome.attempts if attempt.security is not None}
    return Fate(tuple(entry.outcome for entry in outcome.recipients), only(securities), asked(world, journal))


def assert_taken(message: Message, outcome: Outcome, journal: Journal) -> None:
    """The servers that took mail by the outcome, and no others, have it: once for a recipient, and unchanged."""
    by_address = {attempt.address: attempt for attempt in outcome.attempts if attempt.result == "delivered"}
    for entry in outcome.recipients:
        got = [mail for mail in journal.mail if mail.address in by_address and entry.recipient in mail.recipients]
        assert len(got) == (entry.outcome == "delivered")
        for mail in got:
            assert (mail.sender, mail.content) == (message.sender, AS_SENT)
            assert mail.encrypted is not by_address[mail.address].cleartext


@both_engines
@every_delivery
def test_a_delivery_goes_as_the_clauses_say(lab: Lab, delivery: Delivery, kind: str) -> None:
    lab.journal.clear()
    world = world_of(lab, delivery)
    message = Message(SENDER, recipients_of(world, len(delivery.outcomes)), CONTENT)
    outcome = deliver(kind, world, message)
    assert attempts_of(world, outcome) == delivery.attempts
    assert fate_of(world, outcome, lab.journal) == delivery.fate
    assert outcome.duplicate_possible is delivery.duplicate_possible
    assert_taken(message, outcome, lab.journal)


@both_engines
@pytest.mark.parametrize("name", NEXT_TRIES)
def test_the_next_try_resorts_to_cleartext_where_tls_failed_and_was_optional(lab: Lab, name: str, kind: str) -> None:
    world = world_of(lab, BY_NAME[name])
    message = Message(SENDER, recipients_of(world, 1), CONTENT)
    first = deliver(kind, world, message)
    lab.journal.clear()
    outcome = deliver(kind, world, message, before=first)
    assert attempts_of(world, outcome) == NEXT_TRIES[name].attempts
    assert fate_of(world, outcome, lab.journal) == NEXT_TRIES[name].fate
    assert_taken(message, outcome, lab.journal)


# ---------------------------------------------------------------- by Postfix


@frozen
class Sender:
    """The Postfix that sends, with every message in its log or queue.

    Attributes:
        postfix: the instance.
        submitted: when the last message was handed over, by the monotonic clock.
        fates: what became of the messages at the first try, by the names of the scenarios.
        texts: why, in Postfix's words.
    """

    postfix: postfix.Postfix
    submitted: float
    fates: Mapping[str, Fate]
    texts: Mapping[str, str]


def await_reports(sender: postfix.Postfix, recipients: Iterable[str], count: int) -> dict[str, postfix.Report]:
    """Wait until so many tries have been logged for each recipient; return what the last of them came to."""
    awaited = set(recipients)
    found: dict[str, list[postfix.Report]] = {}

    def missing() -> set[str]:
        found.clear()
        for report in sender.reports():
            found.setdefault(report.recipient, []).append(report)
        return {recipient for recipient in awaited if len(found.get(recipient, ())) < count}

    postfix.wait_for(lambda: not missing(), "reports", lambda: f"on {missing()}")
    return {recipient: found[recipient][count - 1] for recipient in awaited}


def fate_by_postfix(world: World, reports: Iterable[postfix.Report], journal: Journal) -> Fate:
    """What became of a message by Postfix: in its own words, but for cleartext, which the servers tell."""
    outcomes, securities = [], set[str]()
    for report in reports:
        outcomes.append(OUTCOMES[report.status])
        if report.status == "sent":
            mail = [mail for mail in journal.mail if report.recipient in mail.recipients][-1]
            assert report.word or not mail.encrypted
            securities.add(str(report.word).lower() if mail.encrypted else CLEARTEXT)
    return Fate(tuple(outcomes), only(securities), asked(world, journal))


@pytest.fixture(scope="session")
def sender(lab: Lab) -> Iterator[Sender]:
    """The Postfix that sends; it has tried every message once."""
    worlds = {delivery.name: world_of(lab, delivery) for delivery in ALL}
    recipients = {delivery.name: recipients_of(worlds[delivery.name], len(delivery.outcomes)) for delivery in ALL}
    relays = {
        recipients[name][0].partition("@")[2]: world.next_hop
        for name, world in worlds.items()
        if world.next_hop.startswith("[")
    }
    mandatory = {
        world.next_hop: "dane-only" for world in worlds.values() if "dane=mandatory" in world.scenario.settings
    }
    lab.journal.clear()
    with postfix.send(SUBMISSION, CLIENT, relays, mandatory) as instance:
        with smtplib.SMTP(SUBMISSION, timeout=10) as client:
            for group in recipients.values():
                client.sendmail(SENDER, group, CONTENT)
        submitted = time.monotonic()
        reports = await_reports(instance, (one for group in recipients.values() for one in group), 1)
        by_name = {name: [reports[one] for one in group] for name, group in recipients.items()}
        yield Sender(
            instance,
            submitted,
            {name: fate_by_postfix(worlds[name], group, lab.journal) for name, group in by_name.items()},
            {name: "; ".join(report.text for report in group) for name, group in by_name.items()},
        )


@every_delivery
def test_postfix_agrees_or_the_disagreement_is_documented(sender: Sender, delivery: Delivery) -> None:
    documented = DISAGREEMENTS.get(delivery.name)
    expected = delivery.fate if documented is None else documented.fate
    assert sender.fates[delivery.name] == expected, sender.texts[delivery.name]


def test_every_documented_disagreement_is_one() -> None:
    assert set(DISAGREEMENTS) <= set(BY_NAME)
    assert [name for name, row in DISAGREEMENTS.items() if row.fate == BY_NAME[name].fate] == []


def test_postfix_resorts_to_cleartext_at_the_next_try_as_we_do(lab: Lab, sender: Sender) -> None:
    worlds = {name: world_of(lab, BY_NAME[name]) for name in NEXT_TRIES}
    recipients = {name: recipients_of(world, 1)[0] for name, world in worlds.items()}
    first = await_reports(sender.postfix, recipients.values(), 1)
    time.sleep(max(0.0, sender.submitted + postfix.PATIENCE + 1 - time.monotonic()))
    lab.journal.clear()
    sender.postfix.flush(report.queue_id for report in first.values())
    second = await_reports(sender.postfix, recipients.values(), 2)
    fates = {name: fate_by_postfix(world, [second[recipients[name]]], lab.journal) for name, world in worlds.items()}
    assert fates == {name: expected.by_postfix or expected.fate for name, expected in NEXT_TRIES.items()}


# ---------------------------------------------------------------- the tables


def test_every_delivery_cites_clauses_of_the_table() -> None:
    known = set()
    for path in VECTORS.glob("clauses*.tsv"):
        with path.open(encoding="utf-8", newline="") as file:
            known |= {row["id"] for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)}
    scenes = (*DELIVERIES, *RECEIVERS)
    assert {clause for scene in scenes for clause in scene.clauses} <= known
    assert all(scene.clauses for scene in scenes)
    assert len({scene.name for scene in (*SCENARIOS, *scenes)}) == len(SCENARIOS) + len(scenes)


def test_every_disagreement_is_about_a_clause_of_its_delivery() -> None:
    assert [name for name, row in DISAGREEMENTS.items() if row.clause not in BY_NAME[name].clauses] == []


# ---------------------------------------------------------------- to Postfix

ONE_MESSAGE = "ehlo=2 starttls=1 mail=1 rcpt=1 data=1 quit=1 commands=7"
"""How Postfix counts a session with one message to one recipient."""


class Receiver:
    """A Postfix that we deliver to, and what it has had since."""

    def __init__(self, lab: Lab, kind: str, name: str) -> None:
        self._kind = kind
        self._world = lab.deliveries[name]
        self._postfix = lab.receiver
        self._postfix.wait_until_idle()
        self._old_sessions = len(self._postfix.sessions(name))
        self._old_mail = self._postfix.taken()

    def message(self, *names: str, content: bytes = CONTENT, **wishes: bool) -> Message:
        recipients = [f"{name}@{self._world.next_hop}" for name in names]
        return Message(SENDER, recipients, content, **wishes)

    def deliver(self, message: Message) -> Outcome:
        return deliver(self._kind, self._world, message)

    async def deliver_all(self, messages: Iterable[Message]) -> list[Outcome]:
        """Deliver messages side by side."""
        engine = async_engine(config_of(self._world.scenario))
        return await asyncio.gather(*(engine.deliver(message, self._world.next_hop) for message in messages))

    def mail(self) -> dict[str, list[bytes]]:
        """The mail it has taken, by the local part of the recipient."""
        self._postfix.wait_until_idle()
        by_recipient: dict[str, list[bytes]] = {}
        for mail in self._postfix.taken():
            name, _, domain = str(header_of(mail)["X-Original-To"]).partition("@")
            if domain == self._world.next_hop and mail not in self._old_mail:
                by_recipient.setdefault(name, []).append(mail)
        return by_recipient

    def sessions(self, count: int = 1) -> list[str]:
        """The commands of the sessions with it, which are to be so many."""

        def since() -> list[str]:
            return self._postfix.sessions(self._world.scenario.name)[self._old_sessions :]

        postfix.wait_for(lambda: len(since()) >= count, f"{count} sessions", lambda: f"but {since()}")
        assert len(since()) == count
        return since()


def header_of(mail: bytes) -> Header:
    return BytesHeaderParser().parsebytes(mail)


def fates(outcome: Outcome) -> list[tuple[str, str | None]]:
    return [(str(entry.outcome), entry.status) for entry in outcome.recipients]


DELIVERED, TOO_MANY = ("delivered", None), ("deferred", "4.5.3")
UNKNOWN, BUSY = ("bounced", "5.1.1"), ("deferred", "4.2.1")


@both_engines
@pytest.mark.parametrize(
    "content",
    [
        CONTENT,
        b"Subject: dots\r\n\r\n.\r\n..\r\n...\r\n.\r\n\r\n.\r\n",
        b"Subject: long\r\n\r\n" + b"".join(b"x" * length + b"\r\n" for length in (996, 997, 998)),
        b"Subject: octets\r\n\r\n" + bytes(set(range(1, 256)) - set(b"\r\n")) + b"\r\n",
        b"Subject: line ends\n\none\ntwo\r\n\n.\nMAIL FROM:<smuggled@client.lab.test>\n.\r\nend\n",
        b"Subject: large\r\n\r\n" + b".a line that begins with a dot\r\n" * 20_000,
        b"Subject: no body\r\n",
    ],
    ids=["short", "dots", "long-lines", "octets", "line-ends", "large", "no-body"],
)
def test_a_message_arrives_once_and_unchanged(lab: Lab, kind: str, content: bytes) -> None:
    receiver = Receiver(lab, kind, "receiver")
    outcome = receiver.deliver(receiver.message("whole", content=content))
    assert (outcome.outcome, outcome.security, fates(outcome)) == ("delivered", "verified", [DELIVERED])
    ((mail,),) = receiver.mail().values()
    header, text = header_of(mail), content.replace(b"\r\n", b"\n")
    assert mail.endswith(b"\n" + (text if text.endswith(b"\n") else text + b"\n"))
    assert (header["Return-Path"], header["Delivered-To"]) == (f"<{SENDER}>", header["X-Original-To"])
    assert f"from {CLIENT} " in header["Received"]
    assert " with ESMTPS id " in header["Received"]
    assert receiver.sessions() == [ONE_MESSAGE]


@both_engines
def test_a_notification_has_an_empty_reverse_path(lab: Lab, kind: str) -> None:
    receiver = Receiver(lab, kind, "receiver")
    message = Message("", receiver.message("notified").recipients, CONTENT)
    assert receiver.deliver(message).outcome == "delivered"
    ((mail,),) = receiver.mail().values()
    assert header_of(mail)["Return-Path"] == "<>"


@both_engines
def test_each_of_many_recipients_is_reported(lab: Lab, kind: str) -> None:
    receiver = Receiver(lab, kind, "receiver-choosy")
    outcome = receiver.deliver(receiver.message("a", "unknown", "b", "busy", "c"))
    assert (outcome.outcome, outcome.security) == ("deferred", None)
    assert fates(outcome) == [DELIVERED, UNKNOWN, DELIVERED, BUSY, DELIVERED]
    replies = [entry.reply or "" for entry in outcome.recipients]
    assert "unknown here" in replies[1]
    assert "later" in replies[3]
    assert {name: len(mail) for name, mail in receiver.mail().items()} == {"a": 1, "b": 1, "c": 1}
    assert receiver.sessions() == ["ehlo=2 starttls=1 mail=1 rcpt=3/5 data=1 quit=1 commands=9/11"]


@both_engines
@pytest.mark.parametrize(("name", "fate"), [("unknown", UNKNOWN), ("busy", BUSY)])
def test_without_a_recipient_left_no_message_is_sent(lab: Lab, kind: str, name: str, fate: tuple[str, str]) -> None:
    receiver = Receiver(lab, kind, "receiver-choosy")
    outcome = receiver.deliver(receiver.message(name))
    assert fates(outcome) == [fate]
    (session,) = receiver.sessions()
    assert "data=" not in session
    assert receiver.mail() == {}


@both_engines
def test_recipients_beyond_the_limit_are_deferred(lab: Lab, kind: str) -> None:
    receiver = Receiver(lab, kind, "receiver-limited")
    outcome = receiver.deliver(receiver.message(*"abcde"))
    assert fates(outcome) == [DELIVERED] * 3 + [TOO_MANY] * 2
    assert {name: len(mail) for name, mail in receiver.mail().items()} == {"a": 1, "b": 1, "c": 1}


@both_engines
def test_a_server_that_loses_patience_has_refused_only_whom_it_has_refused(lab: Lab, kind: str) -> None:
    receiver = Receiver(lab, kind, "receiver-impatient")
    outcome = receiver.deliver(receiver.message("a", "busy", "unknown", "b", "c"))
    assert [entry.outcome for entry in outcome.recipients] == [
        "deferred",
        "deferred",
        "bounced",
        "deferred",
        "deferred",
    ]
    assert fates(outcome)[1:3] == [BUSY, UNKNOWN]
    assert receiver.mail() == {}


@both_engines
def test_a_refused_message_is_returned_to_all(lab: Lab, kind: str) -> None:
    receiver = Receiver(lab, kind, "receiver-refusing")
    outcome = receiver.deliver(receiver.message("a", "b"))
    assert fates(outcome) == [("bounced", "5.7.1")] * 2
    assert receiver.mail() == {}


@both_engines
def test_a_message_too_long_is_returned(lab: Lab, kind: str) -> None:
    receiver = Receiver(lab, kind, "receiver-small")
    outcome = receiver.deliver(receiver.message("a", content=CONTENT + b"\r\n" + b"x" * 998 + b"\r\n" + b"x" * 998))
    assert fates(outcome) == [("bounced", "5.3.4")]
    assert receiver.mail() == {}


@both_engines
def test_a_server_without_starttls_gets_mail_in_cleartext(lab: Lab, kind: str) -> None:
    receiver = Receiver(lab, kind, "receiver-cleartext")
    outcome = receiver.deliver(receiver.message("a"))
    assert (outcome.outcome, outcome.security) == ("delivered", "cleartext")
    ((mail,),) = receiver.mail().values()
    assert " with ESMTP id " in header_of(mail)["Received"]


@both_engines
def test_a_server_that_demands_tls_gets_it(lab: Lab, kind: str) -> None:
    receiver = Receiver(lab, kind, "receiver-demanding")
    outcome = receiver.deliver(receiver.message("a"))
    assert (outcome.outcome, outcome.security) == ("delivered", "untrusted")
    assert receiver.sessions() == [ONE_MESSAGE]


@both_engines
def test_a_demand_for_tls_that_fails_delays_the_mail(lab: Lab, kind: str) -> None:
    receiver = Receiver(lab, kind, "receiver-anonymous")
    outcome = receiver.deliver(receiver.message("a"))
    # by an alert, so that TLS without SNI is tried before cleartext
    assert [attempt.result for attempt in outcome.attempts] == ["handshake-failed", "handshake-failed", "tempfailed"]
    assert outcome.outcome == "deferred"
    assert receiver.mail() == {}


@both_engines
def test_a_demand_for_tls_that_fails_returns_what_does_not_require_it(lab: Lab, kind: str) -> None:
    receiver = Receiver(lab, kind, "receiver-anonymous")
    outcome = receiver.deliver(receiver.message("a", tls_optional=True))
    assert [attempt.result for attempt in outcome.attempts] == ["handshake-failed", "handshake-failed", "rejected"]
    assert fates(outcome) == [("bounced", "5.7.0")]
    assert receiver.mail() == {}


@both_engines
def test_a_server_with_a_wrong_key_hears_quit_and_nothing_else(lab: Lab, kind: str) -> None:
    receiver = Receiver(lab, kind, "receiver-wrong-key")
    outcome = receiver.deliver(receiver.message("a"))
    assert [attempt.result for attempt in outcome.attempts] == ["not-authenticated"]
    assert fates(outcome) == [("deferred", "4.7.5")]
    assert receiver.sessions() == ["ehlo=1 starttls=1 quit=1 commands=3"]


@both_engines
def test_a_server_with_a_wrong_key_gets_mail_that_does_not_require_tls(lab: Lab, kind: str) -> None:
    receiver = Receiver(lab, kind, "receiver-wrong-key")
    outcome = receiver.deliver(receiver.message("a", tls_optional=True))
    assert (outcome.outcome, outcome.security) == ("delivered", "untrusted")
    assert receiver.sessions() == [ONE_MESSAGE]


@both_engines
def test_mail_that_requires_tls_is_not_sent_without_the_keyword(lab: Lab, kind: str) -> None:
    receiver = Receiver(lab, kind, "receiver")
    outcome = receiver.deliver(receiver.message("a", requiretls=True))
    assert [attempt.result for attempt in outcome.attempts] == ["requiretls-absent"]
    assert fates(outcome) == [("bounced", "5.7.30")]
    assert receiver.sessions() == ["ehlo=2 starttls=1 quit=1 commands=4"]


@both_engines
def test_the_other_host_gets_only_whom_the_preferred_one_has_left(lab: Lab, kind: str) -> None:
    receiver = Receiver(lab, kind, "receivers")
    outcome = receiver.deliver(receiver.message("a", "busy", "unknown"))
    assert fates(outcome) == [DELIVERED, DELIVERED, UNKNOWN]
    assert {name: len(mail) for name, mail in receiver.mail().items()} == {"a": 1, "busy": 1}
    assert receiver.sessions(2) == [
        "ehlo=2 starttls=1 mail=1 rcpt=1/3 data=1 quit=1 commands=7/9",
        ONE_MESSAGE,
    ]


def test_messages_side_by_side_arrive_once_each(lab: Lab) -> None:
    receiver = Receiver(lab, "async", "receiver")
    messages = [receiver.message(f"side{number}", content=b"Subject: %d\r\n" % number) for number in range(20)]
    outcomes = asyncio.run(receiver.deliver_all(messages))
    assert [fates(outcome) for outcome in outcomes] == [[DELIVERED]] * 20
    mail = receiver.mail()
    subjects = {name: [header_of(one)["Subject"] for one in got] for name, got in mail.items()}
    assert subjects == {f"side{number}": [str(number)] for number in range(20)}
    assert receiver.sessions(20) == [ONE_MESSAGE] * 20
