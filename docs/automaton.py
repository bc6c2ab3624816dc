"""The diagram of delivery, drawn from the table of the automaton: `svg()`.

A state is a card. In it stand the events that end an attempt, each with its result. What goes on is an arrow; a dashed
one is taken only with the permission that it bears. The two columns are the two ways through the table: from `CONNECT`,
and from `CONNECT_IN_CLEAR`. What may happen in every state stands beside them. Colours are those of the page's theme,
by `static/style.css`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen

from mailtlspolicy.delivery.transitions import IN_CLEAR, TRANSITIONS, Event, State, Transition

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# All lengths are in units of the view box, which is about as wide in pixels as a page's text
WIDTH, MARGIN = 740, 2
CARD, HEAD, LINE, FOOT = 292, 27, 17, 7  # the width of a card, the heights of its parts
GAP = 40  # between cards, where the arrow from one to the next has its label
LANE = 16  # around the cards in cleartext; on their far side there is room for an arrow
CLEAR_X = WIDTH - CARD - 2 * LANE
TITLE = 20

# Events that every state has
ANYWHERE = (
    (Event.LOCAL_ERROR, State.CONNECT, "in any state"),
    (Event.LOCAL_ERROR, State.SEND, "where a message is sent"),
    (Event.OVERDUE, State.CONNECT, "in any state"),
)
EVERYWHERE = {event for event, _, _ in ANYWHERE}


@frozen
class Card:
    """A state, where it stands, and the rows of the table that it has."""

    state: State
    x: float
    y: float
    rows: tuple[tuple[Event, Transition], ...]

    @property
    def ends(self) -> list[tuple[Event, Transition]]:
        """The events that end an attempt."""
        return [(event, row) for event, row in self.rows if row.result is not None]

    @property
    def bottom(self) -> float:
        """Where it ends."""
        return self.y + HEAD + LINE * len(self.ends) + FOOT

    def line(self, event: Event) -> float:
        """The height of the line of an event."""
        return self.y + HEAD + LINE * ([name for name, _ in self.ends].index(event) + 0.5)


def way(start: State) -> Iterator[tuple[State, Event | None]]:
    """The states from here on, each with the one event that goes on from it."""
    state: State | None = start
    while state is not None:
        onward = [(event, row.to) for (at, event), row in TRANSITIONS.items() if at is state and row.result is None]
        if len(onward) > 1:
            raise AssertionError(f"{state} has two ways on; the drawing has to learn that")
        event, following = onward[0] if onward else (None, None)
        yield state, event
        state = following


def column(start: State, x: float, y: float) -> list[Card]:
    """The cards of one way through the table."""
    cards: list[Card] = []
    for state, _ in way(start):
        rows = tuple(
            (event, row) for (at, event), row in TRANSITIONS.items() if at is state and event not in EVERYWHERE
        )
        cards.append(Card(state, x, cards[-1].bottom + GAP if cards else y, rows))
    return cards


def svg() -> str:
    """The drawing."""
    tls = column(State.CONNECT, MARGIN, TITLE + 14)
    beside = next(card for card in tls if card.state is State.STARTTLS)
    clear = column(State.CONNECT_IN_CLEAR, CLEAR_X, beside.y)
    cards = {card.state: card for card in (*tls, *clear)}
    if cards.keys() != {state for state, _ in TRANSITIONS} or {card.state for card in clear} != IN_CLEAR:
        raise AssertionError("a state is in neither column")
    height = max(card.bottom for card in cards.values()) + LANE
    lane = cards[State.EHLO].y - LANE
    parts = [
        f'<svg class="automaton" viewBox="0 0 {WIDTH} {height:g}" role="img" aria-labelledby="automaton-title">',
        '<title id="automaton-title">The automaton of a delivery; the table below says the same in words</title>',
        "<defs>",
        *(_arrowhead(name) for name in ("go", "permitted")),
        "</defs>",
        _box(CLEAR_X - LANE, lane, CARD + 3 * LANE, height - lane, "lane"),
        _text(MARGIN, TITLE, "With TLS, as far as the server offers it", "title"),
        _text(CLEAR_X, lane + 20, "In cleartext, where the level permits it", "title"),
        *_legend(CLEAR_X, tls[0].y + 12),
        *(part for card in cards.values() for part in _card(card)),
        *(part for start in (tls[0], clear[0]) for part in _onward(start, cards)),
        *_permitted(cards),
        "</svg>",
    ]
    return "\n".join(parts)


def _card(card: Card) -> Iterable[str]:
    kind = "card clear" if card.state in IN_CLEAR else "card"
    yield _box(card.x, card.y, CARD, card.bottom - card.y, kind)
    yield _text(card.x + 10, card.y + 17, card.state, "state")
    for event, row in card.ends:
        y = card.line(event) + 4
        yield _text(card.x + 10, y, f"{'■' if row.to is State.END else '↓'} {event}", "event")
        yield _text(card.x + CARD - 10, y, str(row.result), f"result {'good' if row.result == 'delivered' else ''}")


def _onward(card: Card, cards: dict[State, Card]) -> Iterable[str]:
    """The arrows from card to card of a column."""
    for state, event in way(card.state):
        if event is None:
            return
        here, there = cards[state], cards[TRANSITIONS[state, event].to]
        x = here.x + 40
        yield f'<path class="go" d="M{x:g} {here.bottom:g} V{there.y - 2:g}" marker-end="url(#automaton-go)"/>'
        yield _text(x + 10, (here.bottom + there.y) / 2 + 4, event, "label")


def _permitted(cards: dict[State, Card]) -> Iterable[str]:
    """The dashed arrows: to the end of a column around its far side, to its beginning by a way of their own each."""
    into: dict[tuple[str, State], list[float]] = {}
    for (state, event), row in TRANSITIONS.items():
        if row.permitted is not None and row.permission is not None:
            into.setdefault((row.permission, row.permitted), []).append(cards[state].line(event))
    left = MARGIN + CARD
    back = [key for key in into if key[1] is State.CONNECT]
    for permission, target in back:
        (y,), enters, x = into.pop((permission, target)), cards[target].y + HEAD / 2, CLEAR_X - LANE - 12
        yield _dashed(f"M{left} {y:g} H{x} V{enters:g} H{left + 2}", arrow=True)
        yield _permission((left + x) / 2, enters, permission)
    for number, ((permission, target), lines) in enumerate(into.items()):
        card = cards[target]
        enters = card.y + HEAD / 2
        if card.y - max(lines) > CARD:  # far below: around the column
            (y,), far = lines, CLEAR_X + CARD + LANE
            yield _dashed(f"M{left} {y:g} H{far} V{enters:g} H{CLEAR_X + CARD + 2}", arrow=True)
            yield _permission(left + 38, y, permission)
            continue
        x, enters = left + 16 + 20 * number, enters + 22 * (number - 1)
        lowest = max(lines)
        yield from (_dashed(f"M{left} {y:g} H{x}", arrow=False) for y in lines)
        yield _dashed(f"M{x} {lowest:g} V{enters:g} H{CLEAR_X - 2}", arrow=True)
        yield _permission(*((x, (lines[0] + enters) / 2) if lowest - enters > CARD else (x + 38, enters)), permission)


def _legend(x: float, y: float) -> Iterable[str]:
    signs = {"↓": "the attempt ends, and the next address follows", "■": "the attempt ends, and with it the walk"}
    for number, (sign, meaning) in enumerate(signs.items()):
        yield _text(x + 12, y + LINE * number, sign, "event")
        yield _text(x + 34, y + LINE * number, meaning, "meaning")
    below = y + LINE * len(signs)
    yield _dashed(f"M{x} {below - 4:g} H{x + 26}", arrow=True)
    yield _text(x + 34, below, "this follows instead, by the permission named", "meaning")
    for number, (event, state, text) in enumerate(ANYWHERE):
        row, line = TRANSITIONS[state, event], below + LINE * (number + 1)
        yield _text(x + 12, line, f"{'■' if row.to is State.END else '↓'} {event}", "event")
        yield _text(x + 104, line, text, "meaning")
        yield _text(x + CARD, line, str(row.result), "result")


def _dashed(path: str, *, arrow: bool) -> str:
    end = ' marker-end="url(#automaton-permitted)"' if arrow else ""
    return f'<path class="permitted" d="{path}"{end}/>'


def _permission(x: float, y: float, name: str) -> str:
    """The name of a permission, its middle here."""
    width = 6.2 * len(name) + 12
    pill = f'<rect class="pill" x="{x - width / 2:g}" y="{y - 8:g}" width="{width:g}" height="16" rx="8"/>'
    return pill + _text(x, y + 3.5, name, "permission")


def _box(x: float, y: float, width: float, height: float, kind: str) -> str:
    return f'<rect class="{kind}" x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="6"/>'


def _text(x: float, y: float, text: str, kind: str) -> str:
    return f'<text class="{kind.strip()}" x="{x:g}" y="{y:g}">{text}</text>'


def _arrowhead(name: str) -> str:
    shape = f'<path class="{name}-head" d="M0 0 L8 4 L0 8 z"/>'
    return (
        f'<marker id="automaton-{name}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8"'
        f' markerUnits="userSpaceOnUse" orient="auto">{shape}</marker>'
    )
