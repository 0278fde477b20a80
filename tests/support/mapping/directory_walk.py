"""The walks of `docs/`, run as they are written; `python -m tests.support.mapping.directory_walk` rewrites them.

A fence `csv NAME` is a file, a fence `console` has commands behind `$ ` and what they print. Fingerprints and account
ids are other ones in each run: they are matched in the order in which they come up.
"""

from __future__ import annotations

import re
import shlex
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.support.cli import Cli, command_line
from tests.support.paths import ROOT

PAGE = ROOT / "docs" / "directory.md"
PAGES = (PAGE, ROOT / "docs" / "campaign.md")
_FENCE = re.compile(r"```(csv|console)(?: (\S+))?\n(.*?)```", re.DOTALL)
_NAMED = re.compile(r"\b(?:acc-)?[0-9a-f]{16}\b")


class Walk:
    """Runs a page's commands in a folder; `names` maps what the page calls something to what this run calls it."""

    def __init__(self, cli: Cli) -> None:
        self.cli = cli
        self.names: dict[str, str] = {}

    def run(self, page: str) -> str:
        """Give the page with what the commands print now, under the page's own names where it has them."""
        return _FENCE.sub(self._fence, page)

    def _fence(self, fence: re.Match[str]) -> str:
        kind, name, body = fence.groups()
        if kind == "csv":
            (self.cli.folder / name).write_text(body, encoding="utf-8")
            return fence[0]
        said = "".join(self._said(command, told) for command, told in _commands(body))
        return f"```console\n{said}```"

    def _said(self, command: str, told: str) -> str:
        words = [self.names.get(word, word) for word in shlex.split(command)]
        assert words[0] == "meter-gateway", command
        got = self.cli.outcome(*words[1:])
        printed = "".join(f"{line.rstrip()}\n" for line in got.text.splitlines())
        before, now = (list(dict.fromkeys(_NAMED.findall(text))) for text in (told, printed))
        known = set(self.names.values())
        self.names |= dict(
            zip((n for n in before if n not in self.names), (n for n in now if n not in known), strict=False)
        )
        called = {actual: page for page, actual in self.names.items()}
        return f"$ {command}\n{_NAMED.sub(lambda m: called.get(m[0], m[0]), printed)}"


def _commands(body: str) -> Iterator[tuple[str, str]]:
    for part in re.split(r"^\$ ", body, flags=re.MULTILINE)[1:]:
        command, _, told = part.partition("\n")
        yield command, told


if __name__ == "__main__":
    for page in PAGES:
        with tempfile.TemporaryDirectory() as folder, command_line(Path(folder)) as given:
            page.write_text(Walk(given).run(page.read_text(encoding="utf-8")), encoding="utf-8")
