"""The project's sessions. `nox -s tests-3.12` and so on; `.ci/run` runs them all."""

from __future__ import annotations

import os
import shutil
import tarfile
import zipfile
from pathlib import Path

import nox

nox.options.default_venv_backend = "uv|virtualenv"
nox.options.sessions = ["lint", "types", "tests", "vectors", "docs"]
nox.options.reuse_existing_virtualenvs = True

PYTHONS = ["3.10", "3.11", "3.12", "3.13"]
WORKERS = str(2 * (os.cpu_count() or 1))  # the tests with loopback servers wait as long as they compute
PYTEST = ["pytest", "-n", WORKERS, "--dist", "worksteal"]  # a few tests last as long as a thousand others
BYTECODE = {"PYTHONDONTWRITEBYTECODE": ""}  # the tests start the command line and themselves many times


def _groups(*names: str) -> list[str]:
    pyproject = nox.project.load_toml("pyproject.toml")
    return list(nox.project.dependency_groups(pyproject, *names))


def _install(session: nox.Session, *groups: str) -> None:
    session.install("-e", ".", *_groups(*groups))


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Unit and property tests, the documentation's examples, and the vectors."""
    _install(session, "tests")
    session.run(*PYTEST, *session.posargs, env=BYTECODE)


@nox.session(python=PYTHONS[0])
def lowest(session: nox.Session) -> None:
    """The tests with the lowest versions that the package claims to work with."""
    session.install("-e", ".", "--resolution", "lowest-direct")
    session.install(*_groups("tests"))
    # Which certificates `cryptography` refuses, and libssl does not, depends on its version.
    session.run(*PYTEST, "--ignore=tests/differential", *session.posargs, env=BYTECODE)


@nox.session
def coverage(session: nox.Session) -> None:
    """Line and branch coverage of the test suite."""
    _install(session, "tests")
    session.run("pytest", "--cov", "--cov-report=term-missing:skip-covered", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Ruff, as linter and formatter."""
    session.install(*_groups("lint"))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Mypy, strict; and pyright on what users write: the public names, and the examples."""
    _install(session, "types", "bench")
    session.run("mypy")
    session.run("pyright", "tests/typing", "docs/examples")


@nox.session
def vectors(session: nox.Session) -> None:
    """The vector corpus, its schema, its certificates, and its coverage of the clauses."""
    _install(session, "tests")
    session.run("mailtlspolicy", "vectors")
    session.run("python", "vectors/coverage.py")


@nox.session
def docs(session: nox.Session) -> None:
    """The documentation, warning-free; its examples run in `tests`."""
    _install(session, "docs")
    session.run("sphinx-build", "-n", "-W", "--keep-going", "-b", "html", "docs", "docs/_build/html")


@nox.session
def package(session: nox.Session) -> None:
    """Build the sdist, and from it the wheel; look into both; plan with the wheel in an environment of its own."""
    session.install(*_groups("package"))
    made = Path(session.create_tmp()).resolve() / "dist"
    shutil.rmtree(made, ignore_errors=True)
    session.run("python", "-m", "build", "--outdir", str(made))
    (sdist,), (wheel,) = made.glob("*.tar.gz"), made.glob("*.whl")
    with tarfile.open(sdist) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    _require(session, sdist, held, "LICENSE", "tests/test_docs.py", "vectors/clauses.tsv", "docs/conf.py", "noxfile.py")
    held = set(zipfile.ZipFile(wheel).namelist())
    licence = f"{'-'.join(wheel.name.split('-')[:2])}.dist-info/licenses/LICENSE"
    _require(session, wheel, held, "mailtlspolicy/py.typed", "mailtlspolicy/world/tour.json", licence)
    if strays := {name.partition("/")[0] for name in held} - {"mailtlspolicy", licence.partition("/")[0]}:
        session.error(f"{wheel.name} has {', '.join(sorted(strays))}, too")
    fresh = made / "fresh"
    session.run("python", "-m", "venv", str(fresh))
    programs = fresh / ("Scripts" if os.name == "nt" else "bin")
    with session.chdir(made):  # away from the sources
        session.run(str(programs / "pip"), "install", "--quiet", str(wheel), external=True)
        session.run(
            str(programs / "mailtlspolicy"),
            "plan",
            "signed.example",
            "--world",
            "tour",
            external=True,
            env={"PYTHONPATH": None},
        )


def _require(session: nox.Session, archive: Path, held: set[str], *names: str) -> None:
    if missing := set(names) - held:
        session.error(f"{archive.name} lacks {', '.join(sorted(missing))}")


@nox.session
def differential(session: nox.Session) -> None:
    """Compare 100,000 generated chains with libssl's own DANE verification."""
    _install(session, "tests")
    arguments = session.posargs or ["--count", "100000", "--seed", "7672"]
    session.run("python", "-m", "tests.differential.compare", *arguments)


@nox.session
def exhaustive(session: nox.Session) -> None:
    """Compare the library with a second model on every finite world, and attack it there; `--count` takes a sample."""
    _install(session, "tests")
    session.run("python", "-m", "tests.model.exhaustive", *session.posargs)
    session.run("python", "-m", "tests.model.attacker", *session.posargs)


@nox.session
def fuzz(session: nox.Session) -> None:
    """Feed hostile input to everything that reads the network, every target for a while."""
    _install(session, "tests")
    session.run("python", "-m", "tests.fuzz.run", *(session.posargs or ["--seconds", "30"]))


@nox.session
def mutation(session: nox.Session) -> None:
    """Change the modules that decide, one place at a time: 95 % of the mutants die, and the others are in a table."""
    _install(session, "tests", "mutation")
    session.run("python", "-m", "tests.mutation", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Benchmarks beside libssl and other Python implementations, as ratios of one run."""
    _install(session, "bench")
    session.run("python", "-m", "tests.bench", *session.posargs)


@nox.session
def bounds(session: nox.Session) -> None:
    """What the most expensive input costs that each bound admits; prints the table of docs/bounds.md."""
    _install(session, "tests")
    session.run("python", "-m", "tests.bench.bounds", *session.posargs)


@nox.session
def lab(session: nox.Session) -> None:
    """Real programs in a network namespace: NSD, resolvers, Postfix, nginx, Redis, tlsrpt-reporter, parsedmarc."""
    resolvers = ("unbound", "named", "kresd", "pdns_recursor", "dnsmasq", "stubby", "systemd-resolved")
    for program in ("nsd", *resolvers, "postfix", "posttls-finger", "nginx", "redis-server", "unshare"):
        if (
            shutil.which(program, path=f"{session.env.get('PATH') or ''}:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin")
            is None
        ):
            session.error(f"{program} is not installed: see .ci/run for the system packages")
    _install(session, "tests", "lab")
    session.run("python", "-m", "tests.lab", *session.posargs)
