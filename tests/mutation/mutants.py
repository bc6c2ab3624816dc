"""All mutants of a module: those of cosmic-ray's operators, and three kinds of our own that it lacks.

Ours are a string with two letters more, a call without one of its keyword arguments, and no statement where a call
stood. Two mutants that are the same program count once; one that is the original, or no Python, does not count at all.

Some are left out, each by one of the `Rule`s, and counted. Everything else is a decision, and a mutant of it has to die
or to stand in the table of survivors.
"""

from __future__ import annotations

import ast
import re
import warnings
from enum import Enum
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import parso
from attrs import frozen
from cosmic_ray.plugins import get_operator, operator_names

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    Place = tuple[int, int]  # a line, from 1, and a column in characters
    Span = tuple[Place, Place]

PACKAGE = Path(__file__).resolve().parents[2] / "src" / "mailtlspolicy"
MODULES = (
    "plan.mx",
    "plan.hosts",
    "plan.search",
    "plan.decide",
    "dns.lookups",
    "tlsa",
    "dane",
    "identity",
    "sts.discovery",
    "sts.cache",
    "delivery.transitions",
    "delivery.conversation",
    "delivery.walk",
    "delivery.requiretls",
)
# Without the operators that need arguments, or change nothing
OPERATORS = tuple(name for name in operator_names() if not re.search(r"/(NoOp|Variable)", name))


class Rule(Enum):
    """Why a mutant is left out."""

    TEXT = "texts: arguments of Step(), of _tell() and of what is raised, clauses, details, docstrings"
    TYPE = "types: annotations, what only a type checker reads, and * alone in a signature"
    SAME = "sameness: == for is and the like, one for members of enumerations and small numbers, which have no order"


_TEXT_CALLS = {"Step", "_tell", "counted"}
_CLAUSE_CALLS = {"Transition", "_ends", "LookupFailure"}  # of whose arguments what is written out is a text
_TEXT_NAMES = {"fact", "effect", "detail", "clause", "wording"}  # variables, attributes and keyword arguments
_SAME = {("Is", "Eq"), ("Eq", "Is"), ("IsNot", "NotEq"), ("NotEq", "IsNot")}
_SAME |= {(same, order) for same in ("Is", "IsNot") for order in ("Lt", "LtE", "Gt", "GtE")}


@frozen
class Mutant:
    """A changed module.

    Attributes:
        module: which, without the package.
        function: the function or class in which the change is, or "".
        line: the lines that differ, without the space around them.
        change: what stands in their place.
        source: the module with the change.
        places: the lines that are run with the changed one; none where that is when the module is imported.
        rule: why it is left out, or None.
    """

    module: str
    function: str
    line: str
    change: str
    source: str
    places: frozenset[int]
    rule: Rule | None

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What names it in the table of survivors, where line numbers would not stay true."""
        return self.module, self.function, self.line, self.change


def path_of(module: str) -> Path:
    """Where a module stands."""
    return PACKAGE.joinpath(*module.split(".")).with_suffix(".py")


@cache
def source_of(module: str) -> str:
    """The text of a module as it is, read once: who edits it while this runs disturbs nothing."""
    return path_of(module).read_text("utf-8")


def mutants_of(module: str) -> list[Mutant]:
    """The mutants of a module, in their order; the sources of those left out are not made."""
    source = source_of(module)
    text = _Text(source)
    seen = {(index, ast.dump(node)) for index, node in enumerate(text.tree.body)}
    made: list[Mutant] = []
    for span, rule, mutated in sorted(_changes(text), key=lambda change: change[0]):
        if rule is not None:
            made.append(Mutant(module, "", "", "", "", frozenset(), rule))
            continue
        program = _program(mutated, text.index(span))
        if program is None or program in seen:
            continue
        seen.add(program)
        function, places = text.surroundings(span)
        made.append(Mutant(module, function, *_difference(source, mutated), mutated, places, None))
    return made


def _changes(text: _Text) -> Iterator[tuple[Span, Rule | None, str]]:
    """Where something changes, whether that is left out, and the module with the change."""
    for name in OPERATORS:
        operator = get_operator(name)()
        is_same = tuple(name.split("_")[-2:]) in _SAME
        tree = parso.parse(text.source)
        for node in list(_nodes(tree)):
            for index, span in enumerate(operator.mutation_positions(node)):
                rule = text.rule(span) or (Rule.SAME if is_same else None)
                if node.parent.type == "parameters" or (node.parent.type == "param" and node.parent.name is node):
                    rule = Rule.TYPE
                yield span, rule, "" if rule is not None else _applied(operator, node, index, tree)
        assert tree.get_code() == text.source
    for span, new in text.own_changes():
        yield span, text.rule(span), text.replaced(span, new)


def _applied(operator: Any, node: Any, index: int, tree: Any) -> str:
    """The module after an operator has changed a node, which is then put back."""
    siblings = node.parent.children
    place = next(number for number, sibling in enumerate(siblings) if sibling is node)
    kept, children = list(siblings), list(getattr(node, "children", ()))
    values = [(leaf, leaf.value) for leaf in _nodes(node) if hasattr(leaf, "value")]
    new = operator.mutate(node, index)
    siblings[place : place + 1] = [] if new is None else [new]
    source: str = tree.get_code()
    siblings[:] = kept
    if children:
        node.children[:] = children
    for leaf, value in values:
        leaf.value = value
    return source


def _nodes(node: Any) -> Iterator[Any]:
    """What is below a node, and the node itself unless it is the module."""
    if node.parent is not None:
        yield node
    for child in getattr(node, "children", ()):
        yield from _nodes(child)


def _program(source: str, index: int) -> tuple[int, str] | None:
    """What a module does, of which one statement was changed; None where it is no Python."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(source)
            compile(tree, "mutant", "exec", dont_inherit=True)
    except SyntaxError:
        return None
    return index, ast.dump(tree.body[index])


def _difference(source: str, mutated: str) -> tuple[str, str]:
    """The lines in which they differ."""
    old, new = source.splitlines(), mutated.splitlines()
    start = next(number for number, (a, b) in enumerate(zip(old, new, strict=False)) if a != b)
    end = next(number for number, (a, b) in enumerate(zip(old[::-1], new[::-1], strict=False)) if a != b)
    end = min(end, len(old) - start - 1, len(new) - start - 1)
    return _joined(old[start : len(old) - end]), _joined(new[start : len(new) - end])


def _joined(lines: Iterable[str]) -> str:
    return " ".join(filter(None, (" ".join(line.split()) for line in lines)))


class _Text:
    """A module as text and as a tree: what stands where."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.tree = ast.parse(source)
        self._lines = source.splitlines(keepends=True)
        self._left_out = [*self._texts(), *self._types()]
        self._in_fstrings = [self.span(node) for node in ast.walk(self.tree) if isinstance(node, ast.JoinedStr)]

    def span(self, node: Any) -> Span:
        """Where a node of the tree stands; it counts in octets, we in characters."""

        def column(line: int, octets: int) -> int:
            return len(self._lines[line - 1].encode()[:octets].decode())

        return (
            (node.lineno, column(node.lineno, node.col_offset)),
            (node.end_lineno, column(node.end_lineno, node.end_col_offset)),
        )

    def rule(self, span: Span) -> Rule | None:
        """The rule that leaves out a change of this part."""
        return next((rule for outer, rule in self._left_out if _contains(outer, span)), None)

    def _texts(self) -> Iterator[tuple[Span, Rule]]:
        for node in ast.walk(self.tree):
            for part in _texts_of(node):
                yield self.span(part), Rule.TEXT

    def _types(self) -> Iterator[tuple[Span, Rule]]:
        for node in ast.walk(self.tree):
            for part in _types_of(node):
                yield self.span(part), Rule.TYPE

    def own_changes(self) -> Iterator[tuple[Span, str]]:
        """Our own kinds of mutants: the part that is changed, and the text in its place."""
        docstrings = {id(node.value) for node in ast.walk(self.tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(self.tree):
            if isinstance(node, (ast.Constant, ast.JoinedStr)) and id(node) not in docstrings:
                yield from self._longer_string(node)
            elif isinstance(node, ast.Call):
                for keyword in node.keywords:
                    yield self._with_comma(self.span(keyword)), ""
            if isinstance(node, ast.Expr) and not isinstance(node.value, ast.Constant):
                yield self.span(node), "pass"

    def _longer_string(self, node: ast.Constant | ast.JoinedStr) -> Iterator[tuple[Span, str]]:
        value = node.value if isinstance(node, ast.Constant) else ""
        span = self.span(node)
        # what stands within an f-string has no true position before Python 3.12
        if isinstance(value, (str, bytes)) and not any(
            _contains(outer, span) for outer in self._in_fstrings if outer != span
        ):
            yield span, f"{'b' if isinstance(value, bytes) else ''}'XX' {self.part(span)}"

    def _with_comma(self, span: Span) -> Span:
        (line, column), end = span[1], span[1]
        comma = re.match(r"\s*,", self._lines[line - 1][column:])
        return span[0], end if comma is None else (line, column + comma.end())

    def index(self, span: Span) -> int:
        """Which of the module's statements holds a part."""
        ends = [node.end_lineno or 0 for node in self.tree.body]
        return next(index for index, end in enumerate(ends) if span[0][0] <= end)

    def part(self, span: Span) -> str:
        """The text of a part."""
        return self.source[self._offset(span[0]) : self._offset(span[1])]

    def replaced(self, span: Span, new: str) -> str:
        """The module with another text in a part's place."""
        lines = "\n" * (span[1][0] - span[0][0] - new.count("\n"))  # what comes after keeps its place
        return self.source[: self._offset(span[0])] + new + lines + self.source[self._offset(span[1]) :]

    def _offset(self, place: Place) -> int:
        return sum(map(len, self._lines[: place[0] - 1])) + place[1]

    def surroundings(self, span: Span) -> tuple[str, frozenset[int]]:
        """The function in which a part stands, and the lines of its statement."""
        names: list[str] = []
        inner: Any = None
        is_run_later = False
        node: Any = self.tree
        while node is not None:
            inner, node = node, None
            for child in _statements(inner):
                if _contains(self.span(child), span) or any(
                    _contains(self.span(decorator), span) for decorator in getattr(child, "decorator_list", ())
                ):
                    node = child
            if node is None:
                break
            is_run_later = is_run_later or isinstance(inner, (ast.FunctionDef, ast.AsyncFunctionDef))
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                names.append(node.name)
        if not is_run_later:
            return ".".join(names), frozenset()
        lines = set(range(inner.lineno, inner.end_lineno + 1))
        for child in _statements(inner):
            lines -= set(range(child.lineno, (child.end_lineno or child.lineno) + 1))
        return ".".join(names), frozenset(lines)


def _statements(node: ast.AST) -> Iterator[ast.stmt]:
    """The statements right below a node."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.stmt):
            yield child
        elif isinstance(child, (ast.ExceptHandler, ast.match_case)):
            yield from _statements(child)


def _contains(outer: Span, inner: Span) -> bool:
    return outer[0] <= inner[0] and inner[1] <= outer[1]


def _texts_of(node: ast.AST) -> Iterator[ast.AST]:
    """The parts of a node that are texts for people."""
    if isinstance(node, ast.Call) and _name(node.func) in _TEXT_CALLS:
        yield from node.args
    elif isinstance(node, ast.Call) and _name(node.func) in _CLAUSE_CALLS:
        yield from (argument for argument in node.args if _is_written_out(argument))
    elif isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
        yield from node.exc.args
    elif isinstance(node, ast.Assert) and node.msg is not None:
        yield node.msg
    elif isinstance(node, ast.keyword) and node.arg in _TEXT_NAMES:
        yield node.value
    elif isinstance(node, ast.Assign):
        for target in node.targets:
            pairs = [(target, node.value)]
            if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                pairs = list(zip(target.elts, node.value.elts, strict=True))
            yield from (value for name, value in pairs if _name(name) in _TEXT_NAMES)


def _is_written_out(node: ast.AST) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def _types_of(node: ast.AST) -> Iterator[ast.AST]:
    """The parts of a node that only a type checker reads."""
    if isinstance(node, ast.arg) and node.annotation is not None:
        yield node.annotation
    elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.returns is not None:
        yield node.returns
    elif isinstance(node, ast.AnnAssign):
        yield node.annotation
    elif isinstance(node, ast.ClassDef):
        yield from (base.slice for base in node.bases if isinstance(base, ast.Subscript))
    elif (isinstance(node, ast.If) and _name(node.test) == "TYPE_CHECKING") or (
        isinstance(node, ast.Call) and _name(node.func) == "TypeVar"
    ):
        yield node


def _name(node: ast.AST) -> str | None:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else None
