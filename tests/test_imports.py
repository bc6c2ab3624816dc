"""The library loads no I/O, and an import never points up a layer."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import mailtlspolicy

PACKAGE = Path(mailtlspolicy.__file__).parent

# From the bottom up: modules, and rooms, which are folders. What is of one layer may import one another as long as no
# cycle comes about, which Python itself would report.
LAYERS = [
    {"_words", "_json", "_times", "_validators", "_refusal"},
    {"names", "levels"},
    {"trace", "effects", "config", "verdict"},
    {"tlsa", "x509", "identity"},
    {"dane", "pkix"},
    {"dns"},
    {"sts"},
    {"plan"},
    {"delivery"},
    {"tlsrpt"},
    {"engine", "drivers"},
    {"adapters", "world"},
    {"testing"},
    {"cli"},
    {"__init__", "__main__"},
]
LEVEL = {module: level for level, modules in enumerate(LAYERS) for module in modules}
FORBIDDEN = ("asyncio", "http.client", "smtplib", "aiosmtplib", "dns.resolver", "mailtlspolicy.adapters")


def module_of(path: Path) -> str:
    """The module that a file is, or the subpackage that it lies in."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(tree: ast.Module) -> set[str]:
    """The modules of the library that a module imports, also those that only a type checker sees."""
    nodes = list(tree.body)
    found = set()
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names = [node.module or ""]
            if node.module == "mailtlspolicy":
                names = [f"mailtlspolicy.{alias.name}" for alias in node.names]
        else:
            names = []
            nodes += [
                child
                for child in ast.walk(node)
                if child is not node and isinstance(child, (ast.Import, ast.ImportFrom))
            ]
        found |= {name.split(".")[1] for name in names if name.startswith("mailtlspolicy.")}
    return found


FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=[str(path.relative_to(PACKAGE)) for path in FILES])
def test_an_import_never_points_up(path: Path) -> None:
    module = module_of(path)
    assert module in LEVEL, "a new module has to be given its layer"
    up = {name for name in imports(ast.parse(path.read_text("utf-8"))) if LEVEL.get(name, 99) > LEVEL[module]}
    assert not up


def test_every_layer_stands_for_modules_that_exist() -> None:
    assert set(LEVEL) == {module_of(path) for path in FILES}


@pytest.mark.parametrize(
    "module",
    [
        "mailtlspolicy",
        "mailtlspolicy.world.recording",
        "mailtlspolicy.dns.doctor",
        *(f"mailtlspolicy.testing.{name}" for name in ("vectors", "resolvers", "connectors", "stores", "event_loop")),
    ],
)
def test_importing_the_library_loads_nothing_that_does_io(module: str) -> None:
    script = f"import sys, {module}; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=600)
    loaded = done.stdout.split()
    assert "mailtlspolicy.plan.search" in loaded or module != "mailtlspolicy"
    assert not [name for name in loaded if name.startswith(FORBIDDEN)]


def test_a_command_is_imported_when_it_runs_and_a_plan_loads_what_it_needs() -> None:
    script = (
        "import contextlib, io, sys\n"
        "from mailtlspolicy.cli import main\n"
        "print(*sorted(sys.modules))\n"
        "with contextlib.redirect_stdout(io.StringIO()):\n"
        "    status = main(['plan', 'signed.example', '--world', 'tour'])\n"
        "print(*sorted(sys.modules))\n"
        "sys.exit(status)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    before, after = (set(line.split()) for line in done.stdout.splitlines())
    commands = {f"mailtlspolicy.cli.{path.stem}" for path in (PACKAGE / "cli").glob("[!_]*.py")}
    assert "mailtlspolicy.cli.doctor" in commands
    assert not commands & before
    assert commands & after == {"mailtlspolicy.cli.plan"}
    unneeded = (*FORBIDDEN, "sqlite3", "mailtlspolicy.testing", "mailtlspolicy.tlsrpt.reading")
    assert not [name for name in after if name.startswith(unneeded)]


def test_the_automaton_of_a_delivery_knows_neither_connections_nor_plans() -> None:
    """Where an event leads is decided by the table alone."""
    path = PACKAGE / "delivery" / "transitions.py"
    assert imports(ast.parse(path.read_text("utf-8"))) == {"_words"}


def test_the_public_names_are_those_of_the_contract_and_all_exist() -> None:
    contract = (
        "Engine AsyncEngine Config NextHop Plan HostPlan TlsLevel Verdict Outcome Tlsa TlsaRRset World drive adrive"
    )
    assert {*contract.split(), "Message"} <= set(mailtlspolicy.__all__)
    assert all(hasattr(mailtlspolicy, name) for name in mailtlspolicy.__all__)
