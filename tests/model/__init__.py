"""A second model of the decisions, and of the delivery, over a finite world.

It shares nothing with the library: it was written from the texts (RFC 7672 sections 2 and 3, RFC 8461 section 5, RFC
8689 section 4.2, RFC 5321 section 5.1, RFC 8460 section 4.3) and from `docs/choices.md`, as tables and set operations
over plain values, to be checked by eye beside them. It knows no effect, no program, no resolver and no certificate: a
lookup is a word, a chain is what it can prove.

- `worlds`: the finite world, a value.
- `decision`: from a world to a plan.
- `delivery`: from a world and its plan to what becomes of a message.
- `space`: all worlds that are looked at, and what is left out because it can not matter.
- `library`: the same world for the library, and its answers in the words of the model.
- `exhaustive`: both models side by side (`nox -s exhaustive`).
- `attacker`: what nobody on the path can bring about.

`worlds`, `decision`, `delivery` and `space` import nothing of the library.
"""
