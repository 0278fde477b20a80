"""Where things stand in a TOML file that `tomllib` has read: it tells no lines, and people need them."""

from __future__ import annotations

import re

Path = tuple[str | int, ...]
"""The way to a value: names of tables and keys, numbers of list entries from 0: ("meters", 0, "dlms", "client")."""
_TOKEN = re.compile(
    r'"""(?:[^\\]|\\.)*?"""|\'\'\'.*?\'\'\'|"(?:[^"\\\n]|\\.)*"|\'[^\'\n]*\'|#[^\n]*|\n|[ \t\r]+|[\[\]{},=.]'
    r'|[^\s\[\]{},=."\'#]+',
    re.DOTALL,
)
MAX_DEPTH = 32
"""Names and numbers on the way to a value, at most."""
_QUOTES = "\"'"


class TomlLines:
    """Lines of the keys and list entries of a TOML text; what they are of one that is not valid is not said."""

    def __init__(self, text: str) -> None:
        self._lines: dict[Path, int] = {}
        self._counts: dict[Path, int] = {}
        self._tokens = [(m[0], m.start()) for m in _TOKEN.finditer(text)]
        self._text = text
        self._at = 0
        self._line = 1
        self._read()

    def line(self, path: Path) -> int | None:
        """Return the line of a key or entry, or of the nearest table around it; None outside of everything."""
        while path:
            if path in self._lines:
                return self._lines[path]
            path = path[:-1]
        return None

    # One pass over the tokens: headers and keys at the top level, values by recursion.

    def _read(self) -> None:
        table: Path = ()
        while (sign := self._peek()) is not None:
            if sign == "[":
                table = self._header()
            else:
                self._pair(table)

    def _peek(self) -> str | None:
        """Return the next sign that means something; line ends, spaces and comments are passed over."""
        while self._at < len(self._tokens):
            sign, _ = self._tokens[self._at]
            if not sign.isspace() and not sign.startswith("#"):
                return sign
            self._take()
        return None

    def _take(self) -> str:
        sign, _ = self._tokens[self._at]
        self._at += 1
        self._line += sign.count("\n")
        return sign

    def _names(self, end: str) -> tuple[str, ...]:
        """Read a dotted name up to `end`."""
        names: list[str] = []
        while (sign := self._peek()) not in (end, None):
            self._take()
            # Names beyond the depth are passed over: a text of dots or brackets alone must not take for ever.
            if sign != "." and sign is not None and len(names) < MAX_DEPTH:
                names.append(sign[1:-1] if sign[0] in _QUOTES else sign)
        return tuple(names)

    def _header(self) -> Path:
        line = self._line
        self._take()
        listed = self._peek() == "["
        if listed:
            self._take()
        path = self._known(self._names("]"))
        for _ in range(2 if listed else 1):
            if self._peek() == "]":
                self._take()
        if listed:
            number = self._counts.get(path, 0)
            self._counts[path] = number + 1
            self._lines.setdefault(path, line)
            path = (*path, number)
        self._lines.setdefault(path, line)
        return path

    def _known(self, names: tuple[str, ...]) -> Path:
        """Return the way to a table by its name: in a list of tables that is the last of them."""
        path: Path = ()
        for number, name in enumerate(names):
            path = (*path, name)
            if number < len(names) - 1 and path in self._counts:
                path = (*path, self._counts[path] - 1)
        return path

    def _pair(self, table: Path) -> None:
        line = self._line
        path = (*table, *self._names("="))
        if self._peek() is not None:
            self._take()
        self._lines.setdefault(path, line)
        self._value(path)

    def _value(self, path: Path) -> None:
        sign = self._peek()
        if len(path) > MAX_DEPTH:
            self._at = len(self._tokens)  # nobody writes that: the rest has no lines
        elif sign == "[":
            self._entries(path)
        elif sign == "{":
            self._inline(path)
        else:
            self._scalar()

    def _scalar(self) -> None:
        """Pass over a number, date or text: all that is left of the value on its line."""
        while self._at < len(self._tokens):
            sign, _ = self._tokens[self._at]
            if sign in ("\n", ",", "]", "}") or sign.startswith("#"):
                return
            self._take()

    def _entries(self, path: Path) -> None:
        self._take()
        number = 0
        while (sign := self._peek()) not in ("]", None):
            if sign == ",":
                self._take()
                number += 1
                continue
            self._lines[(*path, number)] = self._line
            before = self._at
            self._value((*path, number))
            if self._at == before:  # a sign that can stand in no list: the text is not valid
                self._take()
        if sign is not None:
            self._take()

    def _inline(self, path: Path) -> None:
        self._take()
        while (sign := self._peek()) not in ("}", None):
            if sign == ",":
                self._take()
                continue
            self._pair(path)
        if sign is not None:
            self._take()
