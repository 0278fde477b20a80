"""Rules of the tests: helpers lie in `tests/support`, and nothing is asserted about elapsed time."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator

import pytest
from hypothesis import settings

from tests.support.paths import ROOT
from tests.support.sources import tree_of

TESTS = ROOT / "tests"
CLOCKS = {"perf_counter", "process_time", "thread_time", "monotonic", "clock_gettime"}
CLOCKS |= {f"{name}_ns" for name in CLOCKS} | {"time_ns"}
WITH_A_CLOCK = {"tests/support/waiting.py"}
"""Deadlines of what tests wait for; they are reached by tests that fail and by no other."""


def foreign_imports(tree: ast.AST) -> Iterator[str]:
    """Yield what of the tests is imported beside `tests.support`."""
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            names = [f"{module}.{alias.name}" for alias in node.names] if module == "tests" else [module]
        for name in names:
            top, _, rest = name.partition(".")
            if name.startswith(".") or (top == "tests" and rest.split(".")[0] != "support"):
                yield f"line {node.lineno}: {name}"  # type: ignore[attr-defined]


def clocks_read(tree: ast.AST) -> Iterator[str]:
    """Yield where a clock is read that tells how long something took: of `time`, or an event loop's."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in CLOCKS:
            yield f"line {node.lineno}: {node.attr}"
        elif isinstance(node, ast.ImportFrom) and node.module == "time":
            yield from (f"line {node.lineno}: {a.name}" for a in node.names if a.name in CLOCKS | {"time"})
        elif isinstance(node, ast.Attribute) and node.attr == "time" and _tells_time(node.value):
            yield f"line {node.lineno}: {ast.unparse(node)}"


def _tells_time(owner: ast.expr) -> bool:
    """Return whether `.time` of this is a clock: the module's or a loop's."""
    text = ast.unparse(owner)
    return (
        text in ("time", "loop", "self.loop", "self._loop") or "event_loop" in text or "running_loop" in text
    )


def found_by(look: Callable[[ast.AST], Iterator[str]]) -> dict[str, list[str]]:
    trees = {str(p.relative_to(ROOT)): tree_of(p) for p in sorted(TESTS.rglob("*.py"))}
    return {name: list(look(tree)) for name, tree in trees.items()}


def test_tests_import_helpers_from_support_alone() -> None:
    assert {name: where for name, where in found_by(foreign_imports).items() if where} == {}


def test_no_test_reads_a_clock() -> None:
    """What something costs is counted: `tests.support.steps`, `waits_run_out`, statements, calls, octets."""
    found = found_by(clocks_read)
    assert {name: where for name, where in found.items() if where and name not in WITH_A_CLOCK} == {}
    assert all(found[name] for name in WITH_A_CLOCK)


def test_no_example_of_hypothesis_has_a_deadline() -> None:
    """The profile in `tests/conftest.py` has none, and nobody sets one."""
    assert settings.default is not None
    assert settings.default.deadline is None
    named = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in sorted(TESTS.rglob("test_*.py"))
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Call) and any(keyword.arg == "deadline" for keyword in node.keywords)
    ]
    assert named == []


@pytest.mark.parametrize(
    "code",
    [
        "time.perf_counter()",
        "time.time()",
        "from time import monotonic",
        "loop.time()",
        "asyncio.get_running_loop().time()",
        "time.process_time_ns()",
    ],
)
def test_clocks_are_found(code: str) -> None:
    assert list(clocks_read(ast.parse(code)))


@pytest.mark.parametrize("code", ["at.time()", "datetime.now(UTC)", "time.sleep(1)", "row.time"])
def test_what_is_no_clock_is_let_be(code: str) -> None:
    assert list(clocks_read(ast.parse(code))) == []


def test_foreign_imports_are_found() -> None:
    for code in (
        "from tests.edge.test_x import y",
        "import tests.edge",
        "from tests import edge",
        "from . import x",
    ):
        assert list(foreign_imports(ast.parse(code))), code
    for code in ("from tests.support.cli import Cli", "from tests.support import cli", "import testsuite"):
        assert list(foreign_imports(ast.parse(code))) == [], code
