"""TLS reports (RFC 8460): what is counted of outcomes, the reports made of it, and what asks for them."""

from mailtlspolicy._refusal import Reason, Refusal
from mailtlspolicy.tlsrpt.aggregate import Aggregate, Aggregates
from mailtlspolicy.tlsrpt.attribution import Judgement, Session, policy_domain, sessions
from mailtlspolicy.tlsrpt.datagram import datagrams
from mailtlspolicy.tlsrpt.discovery import Search, SearchFailure
from mailtlspolicy.tlsrpt.record import Destination, Scheme, TlsrptRecord, parse_record
from mailtlspolicy.tlsrpt.report import Report
from mailtlspolicy.tlsrpt.submission import ReportMail, ReportPost, Submission, first_try
from mailtlspolicy.tlsrpt.values import FailureDetails, PolicyReport, PolicyType, ReportedPolicy

__all__ = [
    "Aggregate",
    "Aggregates",
    "Destination",
    "FailureDetails",
    "Judgement",
    "PolicyReport",
    "PolicyType",
    "Reason",
    "Refusal",
    "Report",
    "ReportMail",
    "ReportPost",
    "ReportedPolicy",
    "Scheme",
    "Search",
    "SearchFailure",
    "Session",
    "Submission",
    "TlsrptRecord",
    "datagrams",
    "first_try",
    "parse_record",
    "policy_domain",
    "sessions",
]
