"""A sample of `nox -s exhaustive`: the second model and the library agree, and nothing makes a plan weaker."""

from __future__ import annotations

import itertools
import random
from typing import TYPE_CHECKING

import pytest

from tests.model import attacker, space
from tests.model.exhaustive import Finding, judge, told
from tests.model.library import plan_of, plan_seen, run_of
from tests.model.worlds import IMPLICIT, Server, Settings, World

if TYPE_CHECKING:
    from collections.abc import Iterable

SEED = 7672


def agreed(worlds: Iterable[World]) -> int:
    """How many worlds there are; that the two models differ on one fails the test."""
    count, findings = judge(worlds)
    assert not findings, shown(findings[0])
    return count


def shown(finding: Finding) -> str:
    differences = "\n".join(str(difference) for difference in finding.differences)
    return f"{told(finding.world)}\n{differences}"


def uncut(count: int, seed: int = SEED) -> list[World]:
    draw = random.Random(seed)
    return [space.everything(draw) for _ in range(count)]


def test_the_models_agree_on_worlds_drawn_from_the_uncut_product() -> None:
    assert agreed(uncut(3000)) == 3000


def test_the_models_agree_where_the_mx_is_this_machine() -> None:
    assert agreed(space.own()) == 768


@pytest.mark.parametrize(
    ("worlds", "step"),
    [(space.endings, 11), (space.sessions, 1499), (space.pairs, 149)],
    ids=["endings", "sessions", "pairs"],
)
def test_the_models_agree_on_every_nth_world(worlds: space.Worlds, step: int) -> None:
    assert agreed(itertools.islice(worlds(), 0, None, step)) > 500


def test_a_plan_does_not_depend_on_servers() -> None:
    for world in uncut(300):
        hosts = tuple(host._replace(server=Server(connect="refused")) for host in world.hosts)
        assert plan_seen(plan_of(run_of(world))) == plan_seen(plan_of(run_of(world._replace(hosts=hosts))))


def test_behind_an_insecure_alias_nothing_tells_secure_from_insecure() -> None:
    for world in uncut(1000):
        if all(all(host.links) for host in world.hosts) or world.mx in {"relay", "literal"}:
            continue
        hosts = tuple(
            host
            if all(host.links)
            else host._replace(
                links=tuple(link and index < host.links.index(False) for index, link in enumerate(host.links)),
                a="insecure" if host.a == "secure" else host.a,
                aaaa="insecure" if host.aaaa == "secure" else host.aaaa,
            )
            for host in world.hosts
        )
        other = world._replace(hosts=hosts, alias=hosts[0].links if world.mx in IMPLICIT else world.alias)
        assert plan_seen(plan_of(run_of(world))) == plan_seen(plan_of(run_of(other)))


def test_an_attacker_makes_nothing_weaker() -> None:
    judged = attacker.judge(list(attacker.sample(2000, SEED)))
    assert judged.used > 100
    assert not judged.found, judged.found[0]


@pytest.mark.parametrize(
    ("settings", "promise"), [(Settings(dane="off"), "1"), (Settings(insecure_mx="may", sts="off"), "2")]
)
def test_the_promises_can_be_broken(settings: Settings, promise: str) -> None:
    weakened = [
        attack._replace(attacked=attack.attacked._replace(settings=settings)) for attack in attacker.sample(800, SEED)
    ]
    assert promise in {text[0] for _, text in attacker.judge(weakened).found}


def test_requiretls_is_broken_where_it_is_not_asked_for() -> None:
    weakened = [
        attack._replace(attacked=attack.attacked._replace(wish="none")) for attack in attacker.sample(800, SEED)
    ]
    assert "3" in {text[0] for _, text in attacker.judge(weakened).found}
