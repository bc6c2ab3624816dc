r"""MTA-STS (RFC 8461): the TXT record, the policy file, what is remembered of both, and discovery.

>>> record = parse_record([b"v=STSv1; id=20260101;"])
>>> policy = parse_policy(b"version: STSv1\nmode: enforce\nmx: *.provider.example\nmax_age: 604800\n")
>>> record.id, str(policy.mode), policy.allows("mx1.provider.example")
('20260101', 'enforce', True)
"""

from mailtlspolicy._refusal import Reason, Refusal, Remark, RemarkKind
from mailtlspolicy.sts.cache import Entry, StsFailure
from mailtlspolicy.sts.policy import Mode, Policy, parse_policy
from mailtlspolicy.sts.record import StsRecord, parse_record

__all__ = [
    "Entry",
    "Mode",
    "Policy",
    "Reason",
    "Refusal",
    "Remark",
    "RemarkKind",
    "StsFailure",
    "StsRecord",
    "parse_policy",
    "parse_record",
]
