"""The tools of this project, each as one command: ``pip install nox``, ``nox --list``, ``nox -s lint``."""

import shutil
import sys
import tempfile
from pathlib import Path

import nox

nox.options.sessions = ["lint", "types", "test"]
nox.options.reuse_existing_virtualenvs = True
nox.needs_version = ">=2024.4"

PYTHONS = ["3.10", "3.11", "3.12", "3.13"]


@nox.session(python=PYTHONS)
def test(session: nox.Session) -> None:
    """Run the tests. Arguments after ``--`` go to pytest: ``nox -s test-3.12 -- tests/ops -x``."""
    session.install("-e", ".[dev]")
    session.run("python", "-m", "pytest", *session.posargs)


@nox.session
def lowest(session: nox.Session) -> None:
    """Run the tests with the lowest versions that requirements.txt allows."""
    session.install("uv")
    session.run("uv", "pip", "install", "--resolution", "lowest-direct", "-e", ".[dev]", external=True)
    session.run("python", "-m", "pytest", *session.posargs)


@nox.session
def locked(session: nox.Session) -> None:
    """Run the tests with the versions of constraints.txt, the newest that have passed them."""
    session.install("-c", "constraints.txt", "-e", ".[dev]")
    session.run("python", "-m", "pytest", *session.posargs)


@nox.session
def lock(session: nox.Session) -> None:
    """Run the tests with the newest versions there are; if they pass, write these to constraints.txt."""
    session.install("-e", ".[dev]")
    session.run("python", "-m", "pytest", *session.posargs)
    frozen = session.run("python", "-m", "pip", "freeze", "--exclude-editable", silent=True)
    head = Path("constraints.txt").read_text(encoding="utf-8").splitlines()[0]
    ours = [
        line.split("+")[0] for line in str(frozen).splitlines() if not line.startswith(("nvidia-", "cuda-", "triton"))
    ]
    Path("constraints.txt").write_text("\n".join([head, *sorted(ours, key=str.lower)]) + "\n", encoding="utf-8")


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, format and spelling."""
    session.install("ruff>=0.17,<0.18", "codespell>=2.4")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("codespell")


@nox.session
def types(session: nox.Session) -> None:
    """Check types, strictly."""
    session.install("-e", ".[dev]")
    session.run("mypy")
    session.run("mypy", "--config-file", "tests/mypy.ini")


@nox.session
def coverage(session: nox.Session) -> None:
    """Measure branch coverage: a table, and ``htmlcov/``. It fails below ``fail_under`` of pyproject.toml.

    With arguments, such as ``nox -s coverage -- tests/ops``, only these tests run, and it does not fail.
    """
    session.install("-e", ".[dev]", "coverage[toml]>=7.10")
    session.run("coverage", "erase")
    session.run("coverage", "run", "-m", "pytest", *(session.posargs or ["-n", "2"]))
    session.run("coverage", "combine", "-q")  # with the data of the processes that tests start
    session.run("coverage", "html")
    session.run("coverage", "report", *(["--fail-under=0"] if session.posargs else []))


@nox.session
def mutants(session: nox.Session) -> None:
    """Change a module in one place at a time, and list the changes that its tests do not notice (scripts/mutants.py).

    ``nox -s mutants -- atbsn/ops/luma.py``, or for 80 places of a folder ``nox -s mutants -- atbsn/noise --sample 80``.
    """
    session.install("-e", ".[dev,mutants]")
    session.run("python", "scripts/mutants.py", *(session.posargs or ["atbsn/ops/luma.py"]))


@nox.session
def docs(session: nox.Session) -> None:
    """Write docs/options.md from the schema, and build the site in ``site/``. A warning is an error."""
    session.install("-e", ".[docs]")
    session.run("python", "scripts/document_options.py")
    session.run("mkdocs", "build", "--strict")


@nox.session
def bench(session: nox.Session) -> None:
    """Run the benchmark against the plain forms: ``nox -s bench -- --seconds 60``."""
    session.install("-e", ".[dev]")
    session.run("python", "scripts/benchmark.py", *session.posargs)


@nox.session
def release(session: nox.Session) -> None:
    """Build the wheel and the source archive, and run both from an empty environment. Nothing is uploaded.

    Arguments go to venv: with ``nox -s release -- --system-site-packages``, torch need not be installed again.
    """
    session.install("build>=1.2", "twine>=6")
    shutil.rmtree("dist", ignore_errors=True)
    session.run("python", "-m", "build", "--outdir", "dist")
    built = sorted(str(path.resolve()) for path in Path("dist").iterdir())
    picture = str(Path("docs/images/real.png").resolve())
    session.run("twine", "check", "--strict", *built)
    for archive in built:
        with tempfile.TemporaryDirectory() as folder:
            python = str(Path(folder, "Scripts" if sys.platform == "win32" else "bin", "python"))
            session.run("python", "-m", "venv", *session.posargs, folder)
            session.run(python, "-m", "pip", "install", "--quiet", archive, external=True)
            with session.chdir(folder):
                session.run(python, "-m", "atbsn", "models", external=True)
                session.run(python, "-m", "atbsn", "options", "show", "quickstart.yml", external=True)
                session.run(python, "-m", "atbsn", "denoise", picture, "-o", "clean.png", external=True)
