"""Datagrams for the collector of tlsrpt-reporter, in the protocol that Postfix speaks to it through libtlsrpt.

One datagram is one session: what each policy made of it. In version 1 of the protocol it is a JSON object with the
policy domain ("d"), its TXT record ("pr") and the policies; "f" tells a failure from a success, "t" how many failure
details there are, whose keys are one letter each. The collector counts, and makes the reports.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from mailtlspolicy.tlsrpt.attribution import policy_domain, sessions
from mailtlspolicy.tlsrpt.record import Scheme
from mailtlspolicy.tlsrpt.values import PolicyType
from mailtlspolicy.verdict import ResultType

if TYPE_CHECKING:
    from mailtlspolicy.delivery.outcome import Outcome
    from mailtlspolicy.tlsrpt.attribution import Judgement
    from mailtlspolicy.tlsrpt.record import TlsrptRecord
    from mailtlspolicy.tlsrpt.values import FailureDetails

_VERSION = "1"
_POLICY_TYPES = {PolicyType.TLSA: 1, PolicyType.STS: 2, PolicyType.NO_POLICY_FOUND: 9}
_RESULT_TYPES = {
    ResultType.STARTTLS_NOT_SUPPORTED: 201,
    ResultType.CERTIFICATE_HOST_MISMATCH: 202,
    ResultType.CERTIFICATE_NOT_TRUSTED: 203,
    ResultType.CERTIFICATE_EXPIRED: 204,
    ResultType.VALIDATION_FAILURE: 205,
    ResultType.STS_POLICY_FETCH_ERROR: 301,
    ResultType.STS_POLICY_INVALID: 302,
    ResultType.STS_WEBPKI_INVALID: 303,
    ResultType.TLSA_INVALID: 304,
    ResultType.DNSSEC_INVALID: 305,
    ResultType.DANE_REQUIRED: 306,
}
# In the order of libtlsrpt: the collector takes policies and failures for the same only if they are written the same
_POLICY_MEMBERS = ("policy-type", "policy-domain", "policy-string", "mx-host")
_KEYS = {
    "result-type": "c",
    "sending-mta-ip": "s",
    "receiving-mx-hostname": "n",
    "receiving-mx-helo": "h",
    "receiving-ip": "r",
    "additional-information": "a",
    "failure-reason-code": "f",
}


def datagrams(outcome: Outcome, record: TlsrptRecord) -> tuple[bytes, ...]:
    """The datagrams that tell the collector of an outcome, one a session, in order.

    Args:
        outcome: what became of a message.
        record: the TXT record of the policy domain (`Engine.find_tlsrpt`), by which the collector knows where reports
            go. Where that names no destination, there is nothing to tell.
    """
    domain, wanted = policy_domain(outcome.plan.next_hop), _record(record)
    if wanted is None:
        return ()
    return tuple(
        json.dumps(
            {"dpv": _VERSION, "d": domain, "pr": wanted, "policies": [_policy(part) for part in session]},
            ensure_ascii=False,
        ).encode()
        for session in sessions(outcome)
    )


def _record(record: TlsrptRecord) -> str | None:
    """The record as published if the collector reads the same destinations out of it, else written so that it does.

    It knows one rua field, the first, and neither blanks around commas nor percent-encoding; of some valid records it
    dies, and makes no reports any more. None where there is no destination.
    """
    uris = [f"mailto:{to.target}" if to.scheme is Scheme.MAILTO else to.target for to in record.destinations]
    rua = "rua=" + ",".join(uri for uri in uris if not {",", ";"} & set(uri))
    if rua == "rua=":
        return None
    return record.text if record.text.split(";")[1].strip() == rua else f"v=TLSRPTv1;{rua}"


def _policy(judgement: Judgement) -> dict[str, Any]:
    members = judgement.policy.to_json() | {"policy-type": _POLICY_TYPES[PolicyType(judgement.policy.type)]}
    policy = {name: members[name] for name in _POLICY_MEMBERS if name in members}
    if judgement.failures:
        policy["failure-details"] = [_failure(details) for details in judgement.failures]
    return policy | {"t": len(judgement.failures), "f": int(judgement.failed)}


def _failure(details: FailureDetails) -> dict[str, Any]:
    members = details.to_json() | {"result-type": _RESULT_TYPES[ResultType(details.result_type)]}
    return {key: members[name] for name, key in _KEYS.items() if name in members}
