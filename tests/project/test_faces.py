"""The faces that others import: what they show, what importing them needs, how they are described."""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
FACES = ("protocols.dlms", "protocols.modbus", "protocols.meters", "mapping")
OF_OTHERS: dict[str, set[str]] = {
    "protocols.dlms": {"cryptography", "_cffi_backend", "_openssl"},
    "mapping": {"sqlalchemy", "typing_extensions"},
}
"""What a face needs beside the standard library; `_cffi_backend` and `_openssl` are parts of cryptography."""

PUBLIC = [(face, name) for face in FACES for name in importlib.import_module(face).__all__]
NAMES = [".".join(names) for names in PUBLIC]


def imports_for_types(face: ModuleType) -> set[str]:
    """Names that a face imports for type checkers only."""
    assert face.__file__ is not None
    tree = ast.parse(Path(face.__file__).read_text(encoding="utf-8"))
    return {
        alias.name
        for node in tree.body
        if isinstance(node, ast.If)
        for statement in node.body
        if isinstance(statement, ast.ImportFrom)
        for alias in statement.names
    }


@pytest.mark.parametrize("name", FACES)
def test_a_face_shows_what_all_says_and_type_checkers_see_the_same(name: str) -> None:
    face = importlib.import_module(name)
    assert list(face.__all__) == sorted(set(face.__all__), key=lambda n: (n[0].islower(), n))
    assert imports_for_types(face) == set(face.__all__)
    shown: dict[str, object] = {}
    exec(f"from {name} import *", shown)
    assert set(shown) - {"__builtins__"} == set(face.__all__)
    with pytest.raises(AttributeError, match=f"module '{name}' has no attribute 'nothing'"):
        face.nothing  # noqa: B018 - it is asked for on purpose


@pytest.mark.parametrize("name", OF_OTHERS)
def test_importing_a_face_needs_no_more_than_it_says(name: str) -> None:
    """All public names are used, not only the package imported: they come at their first use."""
    program = (
        f"from {name} import *; import sys; print(*sorted({{m.partition('.')[0] for m in sys.modules}}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    bare = subprocess.run(
        [sys.executable, "-c", "import sys; print(*{m.partition('.')[0] for m in sys.modules})"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    there = set(done.stdout.split()) - set(bare.stdout.split()) - set(sys.stdlib_module_names)
    there -= {name.partition(".")[0]}
    parts = ("_sysconfigdata", "_cython_", "cython_runtime")
    assert {module for module in there if not module.startswith(parts)} == OF_OTHERS[name]


@pytest.mark.parametrize("name", FACES)
def test_importing_a_face_alone_imports_nothing_of_others(name: str) -> None:
    program = f"import {name}, sys; print('asyncio' in sys.modules, 'cryptography' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split() == ["False", "False"]


@pytest.mark.parametrize(("face", "name"), PUBLIC, ids=NAMES)
def test_a_public_name_is_described_in_full(face: str, name: str) -> None:
    """What it is, its arguments, what it returns or holds, what it raises, and an example where it is called."""
    found = getattr(importlib.import_module(face), name)
    text = inspect.getdoc(found) or ""
    assert len(text.splitlines()) >= 3, text
    if inspect.isfunction(found):
        wanted = [p for p in inspect.signature(found).parameters if p not in ("self",)]
        assert [p for p in wanted if f"`{p}`" not in text] == []
        assert re.search(r"\bRaises\b|\braises\b|Error\b", text), text
        assert "Example" in text or ">>>" in text, text
        assert re.search(r"\b(Return|Yield|Open|Hold|Read|Load|Ask)", text), text


@pytest.mark.parametrize(("face", "name"), PUBLIC, ids=NAMES)
def test_the_examples_of_a_public_name_give_what_they_say(face: str, name: str) -> None:
    found = getattr(importlib.import_module(face), name)
    home = importlib.import_module(found.__module__)
    for test in doctest.DocTestFinder(recurse=False).find(found, name, module=home, globs=dict(vars(home))):
        assert doctest.DocTestRunner().run(test).failed == 0


@pytest.mark.parametrize("face", FACES)
def test_no_example_speaks_of_the_gateway(face: str) -> None:
    module = importlib.import_module(face)
    texts = [module.__doc__ or "", *(inspect.getdoc(getattr(module, name)) or "" for name in module.__all__)]
    texts.append((ROOT / "docs" / "library.md").read_text(encoding="utf-8"))
    assert [t for t in texts if re.search(r"\b(import|from) gateway\b|gateway\.", t)] == []


def test_the_types_are_shipped() -> None:
    data = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    for package in ("protocols", "mapping"):
        assert "py.typed" in data[package]
        assert (ROOT / package / "py.typed").exists()
