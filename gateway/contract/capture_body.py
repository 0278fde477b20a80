"""How the octets of a capture are laid out, known here alone: written, numbered, revised, cut out again.

A capture is encoded once, when it is stamped, and its octets then travel as they are:

    in the journal   {"capture_id":"…","value_rev":1,"meter":"…", … ,"raw":"…"}
    in a message     {"seq":17,"capture_id":"…","value_rev":2,"meter":"…", … ,"raw":"…"}
    in the ledger    as in the message, less `seq` (and `raw`, which is kept beside)

The first octets are fixed, so `seq` and a later `value_rev` are put in by splicing: nothing is parsed. A gap
is laid out alike, beginning with `gap_id`. The octets written here are those of
`Capture.model_dump_json(exclude_defaults=True)` (a test compares them). Messages of other makers may order
and space their members as they like: cutting reads any JSON, and keeps members that this version does not
know.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple

from gateway.contract.messages import rfc3339
from gateway.contract.messages.texts import MAX_HEADS, quoted, quoted_often
from gateway.errors import ContractError
from mapping.directory import Attribution, Unattributed
from protocols.reading import MeterTime

SEQ_ROOM = 24
"""Octets that `with_seq` and the comma between two entries add, for numbers below 10^16."""
_BEGINNING = b'{"capture_id":"'
_FIRST_REVISION = b'"value_rev":1,'
_SPACE = re.compile(r"[ \t\r\n]*")


class CutCapture(NamedTuple):
    """A capture cut out of a batch: its number (None where it is missing or no integer), and its octets.

    `decoded` holds the members that were asked for, as Python has them.
    """

    seq: int | None
    body: bytes
    decoded: tuple[Any, ...] = ()


def encode_capture(
    *,
    capture_id: str,
    meter: str,
    profile: str,
    at: str,
    start: datetime | None,
    meter_time: MeterTime | None,
    received_at: datetime,
    quality: str,
    values: str,
    accounts: tuple[Attribution, ...],
    reason: Unattributed | None,
    directory_version: int,
    raw: bytes | None,
    clock: str = "",
) -> bytes:
    """Return a capture's body with value_rev 1 and without seq.

    `at` is RFC 3339 text (`rfc3339`) and `values` a JSON array (`values_json`): whoever stamps needs both
    for the capture's identity and hash anyway. `raw` is what the meter sent, kept as evidence; `clock` a JSON
    object, what speaks of a time that is not trusted.
    """
    begin = f'"{rfc3339(start)}"' if start is not None else "null"
    why = f'"{reason.value}"' if reason is not None else "null"
    doubt = f',"clock":{clock}' if clock else ""
    evidence = f',"raw":"{b64encode(raw).decode()}"' if raw is not None else ""
    return (
        f'{{"capture_id":{quoted(capture_id)},"value_rev":1,"meter":{quoted_often(meter)},'
        f'"profile":"{profile}","at":"{at}","start":{begin},"meter_time":{_meter_time(meter_time)},'
        f'"received_at":"{rfc3339(received_at)}","quality":"{quality}","values":{values},'
        f'"attributions":[{",".join(map(_attribution, accounts))}],"reason":{why},'
        f'"directory_version":{directory_version}{doubt}{evidence}}}'
    ).encode()


def is_capture_body(body: bytes) -> bool:
    """Say whether a body begins as the layout demands, so that it can be numbered and revised."""
    return body.startswith(_BEGINNING)


def with_value_rev(body: bytes, revision: int) -> bytes:
    """Return a first revision's body as revision `revision`; ContractError when it is not a first one.

    The text sought cannot stand inside a JSON string (its quotes would be escaped), so its first place is
    the member itself.
    """
    if revision == 1:
        return body
    before, found, after = body.partition(_FIRST_REVISION)
    if not found:
        raise ContractError("$.value_rev: the body is not a first revision that could be raised")
    return b'%b"value_rev":%d,%b' % (before, revision, after)


def with_seq(body: bytes, seq: int) -> bytes:
    """Return the body of a capture or gap as an entry of a batch, numbered `seq`."""
    return b'{"seq":%d,%b' % (seq, body[1:])


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


def _meter_time(stamp: MeterTime | None) -> str:
    if stamp is None:
        return "null"
    deviation = "null" if stamp.deviation is None else str(stamp.deviation)
    status = "null" if stamp.status is None else str(stamp.status)
    trusted = "true" if stamp.trusted else "false"
    return f'{{"wall":{quoted(stamp.wall)},"deviation":{deviation},"status":{status},"trusted":{trusted}}}'


@lru_cache(maxsize=MAX_HEADS)
def _attribution(one: Attribution) -> str:
    number = "null" if one.account_number is None else quoted(one.account_number)
    legacy = "null" if one.legacy_number is None else quoted(one.legacy_number)
    return (
        f'{{"account_id":{quoted(one.account_id)},"account_number":{number},"legacy_number":{legacy},'
        f'"usage_point":{quoted(one.usage_point)},"role":"{one.role.value}"{_span(one)}}}'
    )


def _span(one: Attribution) -> str:
    if one.since is None or one.until is None:
        return ""
    return f',"from":"{rfc3339(one.since)}","to":"{rfc3339(one.until)}"'
