"""Our reports, read by parsedmarc; our mails, signed and verified by dkimpy."""

from __future__ import annotations

import importlib
import itertools
import logging
import socket
from datetime import date, datetime, timezone
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from mailtlspolicy.tlsrpt import (
    Aggregate,
    FailureDetails,
    Judgement,
    PolicyType,
    Report,
    ReportedPolicy,
    ReportMail,
    ReportPost,
)
from mailtlspolicy.verdict import ResultType

if TYPE_CHECKING:
    from collections.abc import Callable

# Neither has types
parsedmarc: Any = importlib.import_module("parsedmarc")
dkim: Any = importlib.import_module("dkim")

DOMAIN = "client.example"
ORGANIZATION = "S\u00e9nder & \u201cS\u00f6hne\u201d"
CONTACT = "tls-reports@sender.example"
NOW = datetime(2026, 1, 2, 3, 0, tzinfo=timezone.utc)

POLICIES = {
    PolicyType.TLSA: ReportedPolicy(
        PolicyType.TLSA, "mx.client.example", ["2 0 1 " + "ab" * 32, "3 1 1 " + "cd" * 32], ["mx.client.example"]
    ),
    PolicyType.STS: ReportedPolicy(
        PolicyType.STS,
        DOMAIN,
        ["version: STSv1", "mode: enforce", 'note: "\\ \u00e9', "mx: *.client.example", "max_age: 604800"],
        ["*.client.example"],
    ),
    PolicyType.NO_POLICY_FOUND: ReportedPolicy(PolicyType.NO_POLICY_FOUND, DOMAIN),
}
SUCCESSFUL = {PolicyType.TLSA: 7, PolicyType.STS: 0, PolicyType.NO_POLICY_FOUND: 1}
WHERE = {
    "sending_mta_ip": "2001:db8::1",
    "receiving_mx_hostname": "mx.client.example",
    "receiving_mx_helo": "node7.client.example",
    "receiving_ip": "192.0.2.25",
    "failure_reason_code": "handshake-failed: WRONG_VERSION_NUMBER",
}


def details() -> list[tuple[dict[str, str], int]]:
    """Failure details with all members and with none, of every type, and how often they occur."""
    members = itertools.product(sorted(ResultType), ({}, WHERE))
    return [({"result_type": str(kind)} | where, number) for number, (kind, where) in enumerate(members, 1)]


@pytest.fixture(scope="module")
def report() -> Report:
    """Every kind of policy, with every kind of failure."""
    aggregate = Aggregate(DOMAIN, date(2026, 1, 1))
    for kind, policy in POLICIES.items():
        for _ in range(SUCCESSFUL[kind]):
            aggregate.count((Judgement(policy, failed=False),))
        for members, count in details():
            for _ in range(count):
                aggregate.count((Judgement(policy, failed=True, failures=(FailureDetails(**members),)),))
    return Report.of(aggregate, organization_name=ORGANIZATION, contact_info=CONTACT)


def read_back(kind: PolicyType) -> dict[str, Any]:
    """What parsedmarc has to say of a policy."""
    policy = POLICIES[kind]
    found = {
        "policy_domain": policy.domain,
        "policy_type": str(kind),
        "successful_session_count": SUCCESSFUL[kind],
        "failed_session_count": sum(range(1, 2 * len(ResultType) + 1)),
        "failure_details": [members | {"failed_session_count": count} for members, count in details()],
    }
    return found if kind is PolicyType.NO_POLICY_FOUND else found | {"policy_strings": list(policy.string)}


UNREAD = {"mx-host": "parsedmarc looks for mx-host-pattern, which is what RFC 8460 calls the value of mx-host"}
"""Members that parsedmarc does not give back."""


def in_order(found: Any) -> Any:
    """A report with its failures in one order."""
    for policy in found["policies"]:
        policy["failure_details"].sort(key=lambda failure: failure["failed_session_count"])
    return found


def mailed(report: Report, *, compressed: bool) -> bytes:
    return ReportMail.of(report, "reports@client.example", now=NOW, compressed=compressed).content


@pytest.mark.parametrize(
    "octets_of",
    [
        Report.to_bytes,
        Report.compressed,
        lambda report: ReportPost.of(report, "https://client.example/").body,
        lambda report: mailed(report, compressed=True),
        lambda report: mailed(report, compressed=False),
    ],
    ids=["json", "gzip", "post", "mail with gzip", "mail with json"],
)
def test_parsedmarc_reads_our_reports(
    octets_of: Callable[[Report], bytes],
    report: Report,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_network(*arguments: object) -> None:
        raise AssertionError(f"parsedmarc connects: {arguments}")

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, no_network)
    with caplog.at_level(logging.WARNING):
        found = parsedmarc.parse_report_file(octets_of(report), offline=True, always_use_local_files=True)
    assert not caplog.records
    assert found["report_type"] == "smtp_tls"
    assert in_order(found["report"]) == {
        "organization_name": ORGANIZATION,
        "begin_date": "2026-01-01T00:00:00Z",
        "end_date": "2026-01-01T23:59:59Z",
        "contact_info": CONTACT,
        "report_id": report.report_id,
        "policies": [read_back(kind) for kind in PolicyType],
    }
    assert parsedmarc.parsed_smtp_tls_reports_to_csv(found["report"]).count("\n") > len(PolicyType) * len(details())


def test_what_parsedmarc_does_not_give_back(report: Report) -> None:
    found = parsedmarc.parse_smtp_tls_report_json(report.to_bytes())
    for policy, read in zip(report.to_json()["policies"], found["policies"], strict=True):
        names = {"policy-type": "policy_type", "policy-string": "policy_strings", "policy-domain": "policy_domain"}
        missing = {name for name in policy["policy"] if names.get(name, "mx_host_patterns") not in read}
        assert missing == (UNREAD.keys() if "mx-host" in policy["policy"] else set())


# --- signatures -------------------------------------------------------------------------------------------------------

SELECTOR = "tlsrpt"


@pytest.fixture(scope="module")
def key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


def dns_of(key: rsa.RSAPrivateKey, service: bytes = b"tlsrpt") -> Callable[..., bytes]:
    """The DNS, with the key of the submitter: for reports alone (RFC 8460 section 3), if nothing else is said."""
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    base64 = b"".join(line for line in public.splitlines() if not line.startswith(b"-----"))

    def lookup(name: bytes, timeout: int = 5) -> bytes:
        assert name == f"{SELECTOR}._domainkey.sender.example.".encode()
        return b"v=DKIM1; k=rsa; s=" + service + b"; p=" + base64

    return lookup


def signature(mail: ReportMail, key: rsa.RSAPrivateKey, *, content: bytes | None = None, **options: Any) -> bytes:
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    headers = [name.encode() for name in mail.dkim_headers]
    arguments = {"domain": mail.dkim_domain.encode(), "include_headers": headers} | options
    field: bytes = dkim.sign(mail.content if content is None else content, SELECTOR.encode(), privkey=pem, **arguments)
    return field


def verifies(content: bytes, key: rsa.RSAPrivateKey) -> bool:
    """Whether dkimpy takes a message for a report by the submitter, with a key that is for nothing else."""
    return bool(dkim.verify(content, dnsfunc=dns_of(key), tlsrpt="strict"))


@pytest.mark.parametrize("compressed", [True, False], ids=["gzip", "json"])
@pytest.mark.parametrize("canonical", [(b"simple", b"simple"), (b"relaxed", b"simple"), (b"relaxed", b"relaxed")])
def test_a_signed_report_verifies(
    report: Report, key: rsa.RSAPrivateKey, canonical: tuple[bytes, bytes], *, compressed: bool
) -> None:
    mail = ReportMail.of(report, "reports@client.example", now=NOW, compressed=compressed)
    message = mail.signed(signature(mail, key, canonicalize=canonical, tlsrpt=True))
    assert message.tls_report
    assert verifies(message.content, key)
    for name in mail.dkim_headers:  # all of them are there, and are signed
        start = message.content.index(f"\r\n{name}: ".encode()) + len(name) + 4
        changed = message.content[:start] + b"x" + message.content[start:]
        assert not verifies(changed, key), name
    assert not verifies(message.content + b"more\r\n", key)
    assert parsedmarc.parse_report_file(message.content, offline=True)["report_type"] == "smtp_tls"


def test_a_signature_of_a_part_of_the_body_is_refused(report: Report, key: rsa.RSAPrivateKey) -> None:
    """RFC 8460 section 3; with it, what is appended would not be noticed."""
    mail = ReportMail.of(report, "reports@client.example", now=NOW)
    short = signature(mail, key, length=True)
    appended = short + mail.content + b"more\r\n"
    assert dkim.verify(appended, dnsfunc=dns_of(key, b"*"))
    with pytest.raises(ValueError, match="l="):
        mail.signed(short)


@pytest.mark.parametrize(
    "options",
    [
        {"domain": b"other.example"},
        {"include_headers": [b"From", b"Subject"]},
        {"include_headers": [b"From", b"TLS-Report-Domain"]},
    ],
    ids=["another domain", "neither field", "one field"],
)
def test_a_signature_that_does_not_do_is_refused(
    report: Report, key: rsa.RSAPrivateKey, options: dict[str, Any]
) -> None:
    mail = ReportMail.of(report, "reports@client.example", now=NOW)
    field = signature(mail, key, **options)
    with pytest.raises(ValueError, match=r"submitter|cover"):
        mail.signed(field)
