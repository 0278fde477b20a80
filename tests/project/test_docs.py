"""Documentation is tested: references are what the code says, headings are there, links and commands exist."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.cli.commands import COMMANDS as LISTED
from gateway.cli.commands import every_command, import_command
from gateway.cli.reference import PARTS, REFERENCES
from gateway.config.file import Config
from gateway.config.types import Section, section_in
from gateway.contract.topics import TopicKind
from gateway.roles.app import Running
from tests.support.paths import ROOT

DOCS = ROOT / "docs"
PAGES = sorted(
    [*ROOT.glob("README.md"), *DOCS.glob("*.md"), *DOCS.glob("contract/*.md"), *DOCS.glob("decisions/*.md")]
)
METRIC_PARTS = (
    "journal",
    "mqtt",
    "status",
    "poller",
    "field",
    "clock",
    "push",
    "line",
    "influx",
    "central",
    "ledger",
    "fleet",
    "sms",
)


def headings(page: str) -> set[str]:
    text = (DOCS / page).read_text(encoding="utf-8")
    return {line.lstrip("#").strip() for line in text.splitlines() if line.startswith("#")}


@pytest.mark.parametrize("page", REFERENCES)
def test_a_generated_reference_is_what_the_code_gives(page: str) -> None:
    assert (DOCS / page).read_text(encoding="utf-8") == REFERENCES[page](), "run `make docs`"


@pytest.mark.parametrize("page", PARTS)
def test_a_generated_part_is_what_the_code_gives(page: str) -> None:
    text = (DOCS / page).read_text(encoding="utf-8")
    assert PARTS[page](text) == text, "run `make docs`"


COMMANDS = every_command()


@pytest.mark.parametrize("name", LISTED)
def test_the_list_of_commands_says_what_each_command_says(name: str) -> None:
    assert import_command(name).help.splitlines()[0] == LISTED[name].help


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_has_heading_example_and_json_or_none_to_give(path: tuple[str, ...]) -> None:
    assert f"meter-gateway {' '.join(path)}" in headings("commands.md")
    assert "Example: meter-gateway " + " ".join(path) in COMMANDS[path].help


def settings_of(model: type[Section], prefix: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        if (inner := section_in(field)) is not None:
            yield from settings_of(inner, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def test_every_setting_has_its_heading() -> None:
    wanted = set(settings_of(Config, ""))
    assert len(wanted) > 40
    assert wanted <= headings("settings.md")


def test_every_error_code_has_its_heading() -> None:
    import gateway.errors
    import mapping.errors
    import protocols.errors

    def code(name: str) -> str:
        return re.sub(r"(?<=.)([A-Z])", r"_\1", name).lower()

    for module in (gateway.errors, mapping.errors, protocols.errors):
        for error in vars(module).values():
            if (
                isinstance(error, type)
                and issubclass(error, Exception)
                and error.__module__ == module.__name__
            ):
                assert code(error.__name__) in headings("errors.md")


@pytest.mark.parametrize("kind", TopicKind)
def test_every_topic_has_its_heading(kind: TopicKind) -> None:
    assert kind.value in headings("topics.md")


@pytest.mark.parametrize("part", METRIC_PARTS)
def test_every_metric_family_has_its_heading(part: str) -> None:
    assert f"meter_gateway_{part}" in headings("metrics.md")


def test_the_metric_families_are_those_of_the_program() -> None:
    source = (ROOT / "gateway" / "roles" / "app.py").read_text(encoding="utf-8")
    named = set(
        re.findall(
            r'\(f?"([a-z]+)(?:_\{[^"]*)?", (?:edge\.|central\.|line\.|portal\.|self\.telling\.)', source
        )
    )
    assert named == set(METRIC_PARTS)
    assert Running().statistics() == []


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        aim = (page.parent / path).resolve() if path else page
        assert aim.exists(), f"{page.name}: {target}"
        if anchor and aim.suffix == ".md":
            slugs = {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in _all_headings(aim)}
            assert anchor in slugs, f"{page.name}: {target}"


def _all_headings(page: Path) -> set[str]:
    return {
        line.lstrip("#").strip() for line in page.read_text(encoding="utf-8").splitlines() if line[:1] == "#"
    }


def shown(page: Path) -> Iterator[str]:
    """Each `meter-gateway …` in code, with continued lines joined and comments cut."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    for block in re.findall(r"```[a-z]*\n(.*?)```", text, flags=re.DOTALL):
        for line in block.splitlines():
            command = line.strip().removeprefix("$ ").removeprefix(".venv/bin/").removeprefix("Example: ")
            if command.startswith("meter-gateway "):
                yield command
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    yield from (c for c in re.findall(r"`(?:\.venv/bin/)?(meter-gateway [^`]+)`", prose))


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_commands_shown_exist_with_their_options(page: Path) -> None:
    for text in shown(page):
        words = shlex.split(text, comments=True)[1:]
        if words[:1] == ["--version"]:
            continue
        path = max((p for p in COMMANDS if tuple(words[: len(p)]) == p), key=len, default=None)
        if path is None:
            groups = {p[: len(words)] for p in COMMANDS}
            assert tuple(words) in groups, f"{page.name}: no such command: {text}"
            continue
        options = {o for parameter in COMMANDS[path].params for o in parameter.opts} | {"--help"}
        used = {w.partition("=")[0] for w in words[len(path) :] if re.match(r"--?[a-z]", w)}
        assert used <= options, f"{page.name}: {text}: {used - options}"


def test_examples_in_help_use_existing_options() -> None:
    for path, command in COMMANDS.items():
        options = {o for parameter in command.params for o in parameter.opts}
        example = command.help.split("Example: ")[1].splitlines()[0]
        assert {w for w in shlex.split(example) if w.startswith("-")} <= options, path


def test_each_threat_names_tests_that_exist() -> None:
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    rows = [
        row for row in text[text.index("## Threats to a reading") :].splitlines() if row.startswith("| ")
    ][1:]
    assert len(rows) > 20
    tests = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    for row in rows:
        named = re.findall(r"`(test_\w+)`", row)
        assert named, row
        assert [name for name in named if f"def {name}(" not in tests] == []
