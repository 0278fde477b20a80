"""Makes event codes of their declarations: pairs, single ones, ranges of a vendor, and what is disputed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

from protocols.dlms.companion.declaration import DeclarationTable
from protocols.dlms.companion.model import EventCode

MAX_CODE = 0xFFFF
"""Codes are long-unsigned."""


def event_codes(
    codes: DeclarationTable, disputed: DeclarationTable, vendor: DeclarationTable, logs: Sequence[str]
) -> Mapping[int, EventCode]:
    """Read the codes of each log and of vendors; MeterConfigError when one is declared twice or has no log."""
    doubts = dict(disputed.numbered())
    found: dict[int, EventCode] = {}
    for code in (*_declared(codes, doubts, logs), *_vendor(vendor)):
        if code.code > MAX_CODE:
            raise codes.error(f"code {code.code} is more than {MAX_CODE}")
        if code.code in found:
            raise codes.error(f"code {code.code} is declared twice ({found[code.code].group}, {code.group})")
        found[code.code] = code
    if missing := sorted(set(doubts) - set(found)):
        raise disputed.error(f"code {missing[0]} is not declared")
    return MappingProxyType(found)


def _declared(codes: DeclarationTable, doubts: Mapping[int, str], logs: Sequence[str]) -> Iterator[EventCode]:
    for group, row in codes.each():
        if group not in logs:
            raise row.error(f"no such log; there are {', '.join(logs)}")
        log = logs.index(group)

        def made(code: int, name: str, kind: str, *, group: str = group, log: int = log) -> EventCode:
            return EventCode(
                code=code, log=log, group=group, name=name, kind=kind, disputed=doubts.get(code, "")
            )

        for code, name in row.table("pairs", optional=True).numbered().items():
            yield made(code, name, "occurrence")
            yield made(code + 1, name, "restoration")
        for code, name in row.table("single", optional=True).numbered().items():
            yield made(code, name, "single")
        row.refuse_unknown_keys()


def _vendor(vendor: DeclarationTable) -> Iterator[EventCode]:
    for span in vendor.all_parsed("ranges", _span, optional=True):
        for code in span:
            yield EventCode(code=code, log=None, group="vendor", name=f"vendor event {code}", kind="vendor")
    vendor.refuse_unknown_keys()


def _span(text: str) -> range:
    low, _, high = text.partition("-")
    if not (low.isdecimal() and high.isdecimal() and int(low) <= int(high) <= MAX_CODE):
        raise ValueError(f"a range is LOW-HIGH, at most {MAX_CODE}, not {text!r}")
    return range(int(low), int(high) + 1)
