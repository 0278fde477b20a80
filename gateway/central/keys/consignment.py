"""A maker's consignment file, deciphered: CSV or XML to the keys of meters, or mistakes by line. Pure; shows no key.

A CSV has a head line; an XML has one element for each meter (of any name), with children or attributes named like the
columns. No DTD and no entity is taken.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final
from xml.parsers import expat

from gateway.errors import UsageError
from mapping.account import is_canonical_meter

MAX_OCTETS: Final = 32 << 20
MAX_METERS: Final = 100_000
MAX_CELL: Final = 200
MAX_DEPTH: Final = 8
MAX_MISTAKES: Final = 1_000
CLIENTS: Final = (32, 48, 80)
"""Whose associations the global keys of a file are for, where it does not say: reader, utility, firmware."""
KEY_OCTETS: Final = (16, 32)

_NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "meter": ("meter", "meterid"),
    "serial": ("serial", "serialnumber", "meterserial", "meternumber", "meterno", "msn"),
    "maker": ("maker", "manufacturer", "make", "flag"),
    "client": ("client", "clientaddress"),
    "encryption": ("encryptionkey", "ek", "guek", "blockcipherkey", "globalencryptionkey", "gek"),
    "authentication": ("authenticationkey", "ak", "gak", "globalauthenticationkey"),
    "broadcast": ("broadcastkey", "gbek"),
    "master": ("masterkey", "mk", "kek", "keyencryptionkey"),
    "lls": ("lls", "llssecret", "llspassword", "password", "mrsecret", "mrpassword"),
    "hls": ("hls", "hlssecret", "hlskey", "ussecret", "uskey"),
    "firmware": ("fwsecret", "fwkey", "firmwaresecret", "hlsfirmware", "fotasecret"),
}
_COLUMN: Final = {name: column for column, names in _NAMES.items() for name in names}
_SECRET_CLIENT: Final = {"lls": 32, "hls": 48, "firmware": 80}
_SLOTS: Final = ("encryption", "authentication", "broadcast", "master", *_SECRET_CLIENT)
_WRONG: Final = "!"
"""The place in a row of what is wrong with the row as a whole."""
_DAMAGED: Final = re.compile(r"[0-9](?:[.,][0-9]+)?E\+[0-9]+")
Unwrap = Callable[[bytes], bytes]
"""Opens a key that is wrapped under a transport key; ValueError when it does not open."""


@dataclass(frozen=True, slots=True)
class Mistake:
    """What is wrong at a line of the file; never what stands there."""

    line: int
    meter: str
    problem: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Consigned:
    """The keys of one meter by slot (`48/encryption`), and the line that they stand at."""

    meter: str
    line: int
    keys: Mapping[str, bytes] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Consignment:
    """What a file holds: meters, mistakes, and how many lines said the same once more."""

    meters: tuple[Consigned, ...]
    mistakes: tuple[Mistake, ...]
    repeated: int


def read_consignment(
    content: bytes, *, maker: str | None = None, unwrap: Unwrap | None = None
) -> Consignment:
    """Return the keys in a deciphered file. `maker` is for files that give serials alone; `unwrap` opens each key.

    UsageError when the file as a whole is none: neither CSV nor XML, too large, without a column of keys.
    """
    if len(content) > MAX_OCTETS:
        raise UsageError(f"the file has {len(content)} octets; at most {MAX_OCTETS}")
    rows = (
        _xml_rows(content) if content.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<") else _csv_rows(content)
    )
    if not rows:
        raise UsageError("the file holds no meter")
    columns = {column for _, row in rows for column in row}
    if not columns & set(_SLOTS):
        raise UsageError(
            "the file has no column of keys: encryption_key, authentication_key, master_key, broadcast_key,"
            " lls_secret, hls_secret, fw_secret"
        )
    return _consignment(rows, maker, unwrap)


Row = tuple[int, dict[str, str]]


def _consignment(rows: list[Row], maker: str | None, unwrap: Unwrap | None) -> Consignment:
    found: list[Consigned] = []
    known: dict[str, dict[str, Consigned]] = {}
    mistakes: list[Mistake] = []
    repeated = 0
    for line, row in rows:
        meter = _meter(row, maker)
        one, problems = _row(line, meter, row, unwrap)
        own = known.setdefault(meter, {})
        before = {slot: own[slot] for slot in one.keys if slot in own}
        if other := next((was for slot, was in before.items() if was.keys[slot] != one.keys[slot]), None):
            problems.append(f"the meter stands at line {other.line} with other keys")
        if problems:
            mistakes += [Mistake(line, meter[:40], problem) for problem in problems]
            if len(mistakes) >= MAX_MISTAKES:
                break
        elif len(before) == len(one.keys):
            repeated += 1
        else:
            own |= dict.fromkeys(one.keys, one)
            found.append(one)
    return Consignment(meters=tuple(found), mistakes=tuple(mistakes), repeated=repeated)


def _row(line: int, meter: str, row: Mapping[str, str], unwrap: Unwrap | None) -> tuple[Consigned, list[str]]:
    problems = [] if is_canonical_meter(meter) else [f"`{meter[:40]}` is no meter (MANUFACTURER:SERIAL)"]
    if wrong := row.get(_WRONG):
        problems.append(wrong)
    keys, mistakes = _keys(row, unwrap)
    if not keys and not mistakes:
        mistakes.append("no key")
    return Consigned(meter=meter, line=line, keys=keys), problems + mistakes


def _meter(row: Mapping[str, str], maker: str | None) -> str:
    given = row.get("meter", "")
    if ":" not in given:
        given = f"{(row.get('maker') or maker or '')[:3]}:{given or row.get('serial', '')}"
    given = given[:MAX_CELL]
    # Other alphabets have letters whose capitals are Latin: `ß` is no `SS` of a serial.
    return given.upper() if given.isascii() else ascii(given)


def _keys(row: Mapping[str, str], unwrap: Unwrap | None) -> tuple[dict[str, bytes], list[str]]:
    keys: dict[str, bytes] = {}
    wrong: list[str] = []
    clients: tuple[int, ...] = CLIENTS
    if given := row.get("client", ""):
        if re.fullmatch(r"[1-9][0-9]{0,2}", given) is None or int(given) > 127:
            return {}, ["client is no address (1 to 127)"]
        clients = (int(given),)
    for column in _SLOTS:
        text = row.get(column, "")
        if not text:
            continue
        secret = column in _SECRET_CLIENT
        try:
            octets = _octets(text, secret=secret, unwrap=unwrap)
        except ValueError as error:
            wrong.append(f"{column}: {error}")
            continue
        if column == "master":
            keys["0/master"] = octets
        elif secret:
            keys[f"{_SECRET_CLIENT[column]}/secret"] = octets
        else:
            keys |= {f"{client}/{column}": octets for client in clients}
    return keys, wrong


def _octets(text: str, *, secret: bool, unwrap: Unwrap | None) -> bytes:
    """Read a key: hex digits, or as many characters as it has octets; ValueError says what is wrong, not with what."""
    if len(text) > MAX_CELL:
        raise ValueError(f"longer than {MAX_CELL} characters")
    digits = text.removeprefix("hex:").removeprefix("0x").replace(" ", "")
    is_hex = re.fullmatch(r"(?:[0-9A-Fa-f]{2})+", digits) is not None
    if unwrap is not None:
        if not is_hex:
            raise ValueError("wrapped keys are hex digits")
        octets = unwrap(bytes.fromhex(digits))
    elif is_hex and (
        text.startswith("hex:") or (len(digits) // 2 in KEY_OCTETS and not (secret and len(digits) < 32))
    ):
        octets = bytes.fromhex(digits)
    elif text.isascii() and text.isprintable():
        octets = text.encode("ascii")
    else:
        raise ValueError("neither hex digits nor plain characters")
    if secret and not is_hex and _DAMAGED.fullmatch(text):
        raise ValueError("a spreadsheet has rounded it: ask for the file as it was")
    if secret and not 1 <= len(octets) <= 64:
        raise ValueError(f"{len(octets)} octets; a secret has 1 to 64")
    if not secret and len(octets) not in KEY_OCTETS:
        raise ValueError(f"{len(octets)} octets; a key has 16, or 32 in suite 2")
    return octets


def _column(name: str) -> str | None:
    return _COLUMN.get(re.sub(r"[^a-z0-9]", "", name.rpartition("}")[2].rpartition(":")[2].lower()))


# ---- CSV and XML


def _csv_rows(content: bytes) -> list[Row]:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError("the file is neither XML nor CSV in UTF-8: is it enciphered still?") from error
    head, _, _ = text.partition("\n")
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=";" if ";" in head and "," not in head else ","
    )
    rows: list[Row] = []
    try:
        columns = [_column(name) for name in next(reader, [])]
        twice = [c for c in columns if c is not None and columns.count(c) > 1]
        if twice:
            raise UsageError(f"two columns of the head line are {twice[0]}")
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            row = {c: cell.strip() for c, cell in zip(columns, cells, strict=False) if c is not None}
            if len(cells) < len(columns) or any(cell.strip() for cell in cells[len(columns) :]):
                # With a delimiter too many or too few, one key stands in the place of another.
                row[_WRONG] = f"{len(cells)} cells; the head line has {len(columns)}"
            rows.append((reader.line_num, row))
            _check_count(rows)
    except csv.Error as error:
        raise UsageError(f"line {reader.line_num} is no CSV: {error}") from error
    return rows


def _check_count(rows: list[Row]) -> None:
    if len(rows) > MAX_METERS:
        raise UsageError(f"the file has more than {MAX_METERS} meters")


class _XmlRows:
    """Takes an element that has keys among its children or attributes for a meter."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.parser = expat.ParserCreate()
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._text
        self.parser.StartDoctypeDeclHandler = self._refuse
        self.parser.EntityDeclHandler = self._refuse
        self._stack: list[tuple[str, int, dict[str, str], list[str]]] = []

    def _refuse(self, *_: object) -> None:
        raise UsageError("a consignment has no DTD and no entities")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        if len(self._stack) >= MAX_DEPTH:
            raise UsageError(f"elements lie deeper than {MAX_DEPTH}")
        named = [(c, v.strip()) for n, v in attributes.items() if (c := _column(n)) is not None]
        own = dict(named)
        if len(own) < len(named):
            own[_WRONG] = "two attributes are one column"
        self._stack.append((name, self.parser.CurrentLineNumber, own, []))

    def _text(self, data: str) -> None:
        if self._stack:
            pieces = self._stack[-1][3]
            if sum(map(len, pieces)) <= MAX_CELL:
                pieces.append(data)

    def _end(self, _name: str) -> None:
        name, line, own, pieces = self._stack.pop()
        text = "".join(pieces).strip()
        column = _column(name)
        if column is not None and text and self._stack:
            holder = self._stack[-1][2]
            if column in holder:
                holder[_WRONG] = f"two elements are {column}"
            holder[column] = text
        elif own:
            self.rows.append((line, own))
            _check_count(self.rows)


def _xml_rows(content: bytes) -> list[Row]:
    reader = _XmlRows()
    try:
        reader.parser.Parse(content, True)
    except expat.ExpatError as error:
        raise UsageError(f"line {error.lineno} is no XML: {expat.ErrorString(error.code)}") from error
    except (ValueError, LookupError) as error:  # an encoding that nobody knows
        raise UsageError(f"the XML cannot be read: {error}") from error
    return reader.rows
