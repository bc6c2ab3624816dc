"""One Hypothesis profile for everyone: the same examples in every run, and no deadline on a slow machine.

`pytest --hypothesis-profile=explore` looks for new examples instead.
"""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile("repeatable", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("explore", deadline=None, max_examples=2000)
settings.load_profile("repeatable")
