"""SMTP TLS policy: what DANE (RFC 7672) and its neighbours demand of a sending mail server, clause by clause.

>>> engine = World.tour().engine()
>>> plan = engine.plan("signed.example")
>>> [(host.host, str(host.level)) for host in plan.usable_hosts]
[('mx1.provider.example', 'dane')]
"""

from mailtlspolicy.config import Config, Misconfigured
from mailtlspolicy.delivery import Message, Outcome
from mailtlspolicy.drivers import adrive, drive
from mailtlspolicy.engine import AsyncEngine, Engine
from mailtlspolicy.levels import TlsLevel
from mailtlspolicy.plan.mx import InvalidNextHop, NextHop
from mailtlspolicy.plan.values import HostPlan, Plan, SkippedHost
from mailtlspolicy.tlsa import Tlsa, TlsaRRset
from mailtlspolicy.verdict import Verdict
from mailtlspolicy.world.world import World

__all__ = [
    "AsyncEngine",
    "Config",
    "Engine",
    "HostPlan",
    "InvalidNextHop",
    "Message",
    "Misconfigured",
    "NextHop",
    "Outcome",
    "Plan",
    "SkippedHost",
    "TlsLevel",
    "Tlsa",
    "TlsaRRset",
    "Verdict",
    "World",
    "adrive",
    "drive",
]
