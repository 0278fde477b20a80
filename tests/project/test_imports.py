"""The import rules of the house: who may know whom."""

import ast
import tomllib
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

import pytest

from tests.support.paths import ROOT
from tests.support.sources import tree_of

TOPS = ("gateway", "protocols", "mapping")

FORBIDDEN = [
    ("protocols", ("gateway", "mapping")),
    ("mapping", ("gateway", "protocols")),
    ("gateway/contract", ("gateway.edge", "gateway.central", "gateway.web", "gateway.roles", "gateway.cli")),
    ("gateway/mqtt", ("gateway.edge", "gateway.central", "gateway.web", "gateway.roles", "gateway.cli")),
    ("gateway/config", ("gateway.edge", "gateway.central", "gateway.web", "gateway.roles", "gateway.cli")),
    ("gateway/acts", ("gateway.edge", "gateway.central", "gateway.web", "gateway.roles", "gateway.cli")),
    ("gateway/lots", ("gateway.edge", "gateway.central", "gateway.web", "gateway.roles", "gateway.cli")),
    ("gateway/edge", ("gateway.central", "gateway.web", "gateway.roles", "gateway.cli", "gateway.config")),
    ("gateway/central", ("gateway.edge", "gateway.web", "gateway.roles", "gateway.cli", "gateway.config")),
    ("gateway/web", ("gateway.edge", "gateway.roles", "gateway.cli", "gateway.config", "gateway.mqtt")),
    ("gateway/roles", ("gateway.cli", "gateway.demo")),
    ("gateway/demo", ("gateway.cli",)),
    ("protocols/dlms", ("protocols.modbus", "protocols.simulator", "protocols.meters", "pymodbus")),
    ("protocols/modbus", ("protocols.dlms", "protocols.simulator", "protocols.meters")),
    ("protocols/lines", ("protocols.modbus", "protocols.simulator", "protocols.meters")),
]
PURE = (
    *(f"dlms/{room}" for room in ("data", "framing", "security", "profile", "apdu", "core", "trace")),
    *(f"modbus/{room}" for room in ("framing", "planning", "decoding")),
)
"""Folders of protocols that do no I/O: octets and values in, octets and values out."""
READ_MODELS = ("gateway.central.portal", "gateway.central.office", "gateway.central.campaign")
"""What of central the pages may know: its read models, the office, where changes come in, and slips and campaigns."""
IO_MODULES = {"asyncio", "socket", "threading", "subprocess", "pathlib", "os", "selectors", "ssl", "sqlite3"}


def modules() -> dict[str, Path]:
    """Every module of the product by its dotted name."""
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for top in TOPS
        for path in (ROOT / top).rglob("*.py")
    }


MODULES = modules()


@cache
def imported(path: Path) -> frozenset[str]:
    """Names that a module imports, anywhere in it: modules, and what is taken from them."""
    names: set[str] = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return frozenset(names)


@cache
def file_graph() -> dict[str, set[str]]:
    """Which module of ours imports which."""
    graph: dict[str, set[str]] = {}
    for name, path in MODULES.items():
        found = {n for n in imported(path) if n in MODULES}
        # `from a.b import c` names a.b too; where c is a module, that is what is meant.
        parents = {n.rpartition(".")[0] for n in found}
        graph[name] = {n for n in found if not (n in parents and MODULES[n].name == "__init__.py")} - {name}
    return graph


def folder_of(module: str) -> str:
    """The package that a module lies in; a package's own file lies in the package."""
    return module if MODULES[module].name == "__init__.py" else module.rpartition(".")[0]


def circles(graph: Mapping[str, Iterable[str]]) -> list[list[str]]:
    """Groups of nodes that reach each other."""
    reach: dict[str, set[str]] = {}
    for start in graph:
        seen: set[str] = set()
        todo = list(graph.get(start, ()))
        while todo:
            node = todo.pop()
            if node not in seen:
                seen.add(node)
                todo += graph.get(node, ())
        reach[start] = seen
    groups = {
        tuple(sorted({a} | {b for b in reach[a] if a in reach.get(b, ())})) for a in reach if a in reach[a]
    }
    return [list(group) for group in sorted(groups)]


@pytest.mark.parametrize(("folder", "banned"), FORBIDDEN)
def test_nobody_imports_what_the_design_forbids(folder: str, banned: tuple[str, ...]) -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in (ROOT / folder).rglob("*.py")
        for name in imported(path)
        if any(name == b or name.startswith(b + ".") for b in banned)
    ]
    assert wrong == []


def test_no_circle_of_files() -> None:
    assert circles(file_graph()) == []


def test_no_circle_of_folders() -> None:
    folders: dict[str, set[str]] = {}
    for name, known in file_graph().items():
        folders.setdefault(folder_of(name), set()).update(folder_of(k) for k in known)
    assert circles({f: known - {f} for f, known in folders.items()}) == []


def test_circles_are_found() -> None:
    assert circles({"a": ["b"], "b": ["c"], "c": ["b"], "d": []}) == [["b", "c"]]


@pytest.mark.parametrize("folder", PURE)
def test_the_pure_folders_of_the_protocols_do_no_io(folder: str) -> None:
    wrong: list[str] = []
    for path in (ROOT / "protocols" / folder).rglob("*.py"):
        wrong += [f"{path.name} imports {name}" for name in imported(path) & IO_MODULES]
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.AsyncFunctionDef | ast.Await | ast.AsyncFor | ast.AsyncWith):
                wrong.append(f"{path.name}:{node.lineno} is asynchronous")
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id in ("open", "print")
            ):
                wrong.append(f"{path.name}:{node.lineno} calls {node.func.id}")
    assert wrong == []


def test_the_pages_read_central_only_through_its_read_models() -> None:
    wrong = [
        f"{path.name} imports {name}"
        for path in (ROOT / "gateway" / "web").rglob("*.py")
        for name in imported(path)
        if name.startswith("gateway.central") and not name.startswith(READ_MODELS)
    ]
    assert wrong == []


def test_only_roles_and_commands_know_both_edge_and_central() -> None:
    both = {
        folder_of(name)
        for name, known in file_graph().items()
        if {"gateway.edge", "gateway.central"} <= {".".join(k.split(".")[:2]) for k in known}
    }
    assert both <= {"gateway.roles", "gateway.cli"}


def test_only_packages_named_in_the_build_exist() -> None:
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    found = {name for name, path in MODULES.items() if path.name == "__init__.py"}
    assert found == listed
    loose = {str(path.parent) for path in MODULES.values() if not (path.parent / "__init__.py").exists()}
    assert loose == set()


def test_every_module_says_what_it_is_for() -> None:
    silent = [
        str(path.relative_to(ROOT)) for path in MODULES.values() if not ast.get_docstring(tree_of(path))
    ]
    assert silent == []
