"""Captures of version 1 cut out of the messages they came in, octet for octet.

Messages of other makers may order and space their members as they like: cutting reads any JSON, and keeps
members that this version does not know.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

from gateway.errors import ContractError

_SPACE = re.compile(r"[ \t\r\n]*")


class CutCapture(NamedTuple):
    """A capture cut out of a batch: its number (None where it is missing or no integer), and its octets.

    `decoded` holds the members that were asked for, as Python has them.
    """

    seq: int | None
    body: bytes
    decoded: tuple[Any, ...] = ()


def cut_captures(
    payload: bytes, *, leave_out: Collection[str] = ("seq",), decode: Sequence[str] = ()
) -> list[CutCapture]:
    """Cut the captures out of a batch message as they came, in the order of the message.

    A body holds the octets of each member that was sent, but for those named in `leave_out`: unknown
    members, their order and the spelling of numbers stay. White space between members may go. The members
    named in `decode` are returned decoded, too (None where one is missing).

    The message should have passed `parse_batch`. Whatever the octets, nothing but ContractError is raised: also
    for text that two readers may read in two ways, since it names a member twice (RFC 8259 §4) or holds a
    NaN. So what was cut out says to every reader what `parse_batch` read.

    >>> [(seq, body, _)] = cut_captures(b'{"data": {"captures": [{"seq": 7, "capture_id": "a", "new": 1.50}]}}')
    >>> seq, body
    (7, b'{"capture_id": "a","new": 1.50}')
    """
    cut: list[CutCapture] = []
    try:
        text = payload.decode()

        def in_message(name: str, _: int, at: int) -> int:
            return _walk_object(text, at, in_data) if name == "data" else _end(text, at)

        def in_data(name: str, _: int, at: int) -> int:
            return _cut_array(text, at, leave_out, decode, cut) if name == "captures" else _end(text, at)

        _walk_object(text, _after_space(text, 0), in_message)
    except (ValueError, IndexError, RecursionError) as error:
        raise ContractError(f"$.data.captures: cannot be cut out: {error}") from error
    return cut


def _cut_array(
    text: str, at: int, leave_out: Collection[str], decode: Sequence[str], found: list[CutCapture]
) -> int:
    """Cut the captures of the array at `at` into `found`; return where it ends."""
    at = _after_space(text, _expect(text, at, "["))
    while text[at] != "]":
        if found:
            at = _after_space(text, _expect(text, at, ","))
        _expect(text, at, "{")
        capture, end = _read_value(text, at)
        seq = capture.get("seq")
        body = _less(text, at, end, capture, leave_out)
        # What was decoded goes again at once: kept for a whole batch it would set the collector to work.
        decoded = tuple(capture.get(name) for name in decode)
        found.append(CutCapture(seq if type(seq) is int else None, body, decoded))
        at = _after_space(text, end)
    return at + 1


def _less(text: str, at: int, end: int, capture: Mapping[str, Any], leave_out: Collection[str]) -> bytes:
    """Return the octets of the capture at `at` without the members that are left out."""
    unwanted = [name for name in leave_out if name in capture]
    ours = f'{{"seq":{capture.get("seq")},'
    if unwanted == ["seq"] and text.startswith(ours, at):  # as `with_seq` put it: nothing to look for
        return f"{{{text[at + len(ours) : end]}".encode()
    kept: list[str] = []

    def keep(name: str, begin: int, value: int) -> int:
        stop = _end(text, value)
        if name not in unwanted:
            kept.append(text[begin:stop])
        return stop

    _walk_object(text, at, keep)
    return f"{{{','.join(kept)}}}".encode()


def _walk_object(text: str, at: int, visit: Callable[[str, int, int], int]) -> int:
    """Call `visit(name, where the member begins, where its value begins)` for each member of an object.

    `visit` returns where the value ends; the end of the object is returned.
    """
    names: set[str] = set()
    at = _after_space(text, _expect(text, at, "{"))
    while text[at] != "}":
        begin = at
        _expect(text, at, '"')
        name, at = _read_value(text, at)
        if name in names:
            raise ValueError(f"the member {name!r} stands twice")
        names.add(name)
        value = _after_space(text, _expect(text, _after_space(text, at), ":"))
        at = _after_space(text, visit(name, begin, value))
        if text[at] != "}":
            at = _after_space(text, _expect(text, at, ","))
    return at + 1


def _named_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError(f"a member stands twice in an object with {', '.join(found)}"[:200])
    return found


def _refuse_constant(text: str) -> Any:
    raise ValueError(f"{text} is no JSON")


_read_value: Callable[[str, int], tuple[Any, int]] = json.JSONDecoder(
    object_pairs_hook=_named_once, parse_constant=_refuse_constant
).raw_decode


def _end(text: str, at: int) -> int:
    return _read_value(text, at)[1]


def _expect(text: str, at: int, mark: str) -> int:
    if not text.startswith(mark, at):
        raise ValueError(f"{mark!r} is missing at character {at}")
    return at + 1


def _after_space(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return at if match is None else match.end()
