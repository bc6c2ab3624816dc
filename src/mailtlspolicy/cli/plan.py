"""`plan`: where mail for a next-hop may go, and under which conditions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mailtlspolicy.cli import NO, OK
from mailtlspolicy.cli._shared import print_answer, recorded_engine, write_record
from mailtlspolicy.cli._texts import plan_text

if TYPE_CHECKING:
    from argparse import Namespace


def run(arguments: Namespace) -> int:
    """Print the plan; NO where the mail can not be delivered by it."""
    engine, recorder = recorded_engine(arguments)
    plan = engine.plan(arguments.next_hop, requiretls=arguments.requiretls, tls_optional=arguments.tls_optional)
    write_record(arguments, engine, recorder)
    print_answer(arguments, plan.to_json(), plan_text(plan, explain=arguments.explain))
    return OK if plan.undeliverable is None else NO
