"""What is logged: loggers named after their package, events in snake_case, one word for one thing."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from tests.support.paths import ROOT
from tests.support.sources import tree_of

LEVELS = {"debug", "info", "warning", "error", "exception", "critical"}
SYNONYMS = {"exc", "err", "exception", "detail", "gateway_id", "gateway_name", "meter_id", "line_name"}
"""Keys that another name is used for: error, gateway, meter, line."""


def modules() -> Iterator[tuple[str, ast.Module]]:
    for top in ("gateway", "protocols", "mapping"):
        for path in sorted((ROOT / top).rglob("*.py")):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            yield name, tree_of(path)


def calls(tree: ast.Module) -> Iterator[tuple[str, ast.Call]]:
    """Each call of a name or an attribute, with `log` or `log.info` as it is written."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
            yield ast.unparse(node.func), node


def texts(node: ast.expr) -> list[str]:
    """The literal texts that an argument may be: one, or either of `a if … else b`."""
    if isinstance(node, ast.IfExp):
        return texts(node.body) + texts(node.orelse)
    return [str(ast.literal_eval(node))]


LOGGERS = [
    (module, call) for module, tree in modules() for name, call in calls(tree) if name.endswith("get_logger")
]
EVENTS = [
    (module, call)
    for module, tree in modules()
    for name, call in calls(tree)
    if re.fullmatch(rf"_?log(\.({'|'.join(LEVELS)}))?", name)
]


def test_logging_is_found() -> None:
    assert len(LOGGERS) >= 10
    assert len(EVENTS) >= 30


@pytest.mark.parametrize(("module", "call"), LOGGERS, ids=[module for module, _ in LOGGERS])
def test_a_logger_has_the_name_of_its_package(module: str, call: ast.Call) -> None:
    assert [ast.literal_eval(argument) for argument in call.args] == [module.rpartition(".")[0]]


@pytest.mark.parametrize(("module", "call"), EVENTS, ids=[f"{m}:{c.lineno}" for m, c in EVENTS])
def test_an_event_is_snake_case_and_its_keys_are_the_usual_words(module: str, call: ast.Call) -> None:
    for event in texts(call.args[0]):
        assert re.fullmatch(r"[a-z0-9]+(_[a-z0-9]+)+", event)
    assert not SYNONYMS & {keyword.arg for keyword in call.keywords}
