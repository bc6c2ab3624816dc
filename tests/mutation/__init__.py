"""Whether the vectors and the unit tests notice a change of a decision: `python -m tests.mutation`.

- `mutants`: every small change of the modules that decide, and which of them are no decisions.
- `judges`: the vectors and the unit tests, in a process of its own for each mutant.
- `survivors.tsv`: the mutants that nothing notices, each with the reason why that is well.
"""
