"""The import rules of the house: who may know whom."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

FORBIDDEN = [
    ("protocols", ("gateway", "mapping")),
    ("mapping", ("gateway", "protocols")),
    ("gateway/edge", ("gateway.central", "gateway.web", "gateway.app", "gateway.cli")),
    ("gateway/central", ("gateway.edge", "gateway.web", "gateway.app", "gateway.cli")),
    ("gateway/web", ("gateway.edge", "gateway.app", "gateway.cli")),
    ("gateway/contract", ("gateway.edge", "gateway.central", "gateway.web", "gateway.app", "gateway.cli")),
    ("protocols/dlms", ("protocols.modbus", "protocols.simulator", "pymodbus")),
    ("protocols/modbus", ("protocols.dlms", "protocols.simulator")),
]


def imported(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


@pytest.mark.parametrize(("folder", "banned"), FORBIDDEN)
def test_nobody_imports_what_the_design_forbids(folder: str, banned: tuple[str, ...]) -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in (ROOT / folder).rglob("*.py")
        for name in imported(path)
        if any(name == b or name.startswith(b + ".") for b in banned)
    ]
    assert wrong == []


def test_the_dlms_core_does_no_io() -> None:
    shells = {"session.py", "exchange.py", "keeper.py", "server_asyncio.py", "push_listener.py"}
    wrong = [
        path.name
        for path in (ROOT / "protocols/dlms").rglob("*.py")
        if path.name not in shells and {"asyncio", "socket"} & imported(path)
    ]
    assert wrong == []


def test_only_packages_named_in_the_build_exist() -> None:
    import tomllib

    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    found = {
        str(path.parent.relative_to(ROOT)).replace("/", ".")
        for top in ("gateway", "protocols", "mapping")
        for path in (ROOT / top).rglob("__init__.py")
    }
    assert found == listed


def test_every_module_says_what_it_is_for() -> None:
    silent = [
        str(path.relative_to(ROOT))
        for top in ("gateway", "protocols", "mapping")
        for path in (ROOT / top).rglob("*.py")
        if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert silent == []
