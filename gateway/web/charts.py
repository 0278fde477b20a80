"""Bar charts as inline SVG made on the server: no script, no inline style; a table says the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from markupsafe import Markup

WIDTH = 336
HEIGHT = 132
_TOP = 16
_BASE = 108


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar: its value (None: no data), whether only part of its span has data, and a label under it."""

    value: Decimal | None
    partial: bool = False
    label: str = ""
    above: str = ""


def nice_top(values: Sequence[Decimal]) -> Decimal:
    """Return the least round number (1, 1.2, 1.5, 2 … 8 × a power of ten) that no value exceeds."""
    highest = max(values, default=Decimal(0))
    if highest <= 0:
        return Decimal(1)
    power = Decimal(1).scaleb(highest.adjusted())
    steps = [Decimal(step).scaleb(-1) for step in (10, 12, 15, 20, 25, 30, 40, 50, 60, 80, 100)]
    return next(step * power for step in steps if step * power >= highest)


_OPEN = Markup('<svg class="chart" viewBox="0 0 {w} {h}" role="img" aria-label="{summary}">')
_LINE = Markup('<line class="{kind}" x1="0" x2="{w}" y1="{y}" y2="{y}"/>')
_RECT = Markup('<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{w:.1f}" height="{h:.1f}" rx="1.5"/>')
_TEXT = Markup('<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{text}</text>')


def bar_chart(
    bars: Sequence[Bar], *, summary: str, scale: str, ticks: bool = False, places: int = 0
) -> Markup:
    """Draw bars from left to right. `summary` is the spoken text, `scale` the words at the upper line.

    With `ticks` a label begins at its bar's left edge (hours of a day), else it stands below the middle.
    `places` keeps room for bars that are still to come; `scale` is left out when empty, like its line.
    """
    top = nice_top([b.value for b in bars if b.value is not None])
    step = WIDTH / max(1, len(bars), places)
    gap = min(12.0, step * 0.28)
    parts = [
        _OPEN.format(w=WIDTH, h=HEIGHT, summary=summary),
        _LINE.format(kind="axis", w=WIDTH, y=_BASE),
    ]
    if scale:
        parts.append(_LINE.format(kind="grid", w=WIDTH, y=_TOP))
        parts.append(_TEXT.format(kind="scale", x=0, y=_TOP - 5, anchor="start", text=scale))
    for index, bar in enumerate(bars):
        parts += _bar(bar, index * step + gap / 2, step - gap, top)
        if bar.label:
            x, anchor = (index * step, "start") if ticks else (index * step + step / 2, "middle")
            parts.append(_TEXT.format(kind="tick", x=x, y=_BASE + 16, anchor=anchor, text=bar.label))
    return Markup("").join([*parts, Markup("</svg>")])


def _bar(bar: Bar, x: float, width: float, top: Decimal) -> list[Markup]:
    if bar.value is None:
        return [_RECT.format(kind="none", x=x, y=_BASE - 5, w=width, h=4)]
    # Where something was used a sliver stays visible; a true zero is a thin line, unlike "no data".
    height = max(1.5, float(bar.value / top) * (_BASE - _TOP)) if bar.value > 0 else 1.0
    drawn = [
        _RECT.format(kind="bar part" if bar.partial else "bar", x=x, y=_BASE - height, w=width, h=height)
    ]
    if bar.above:
        y = max(_TOP - 4, _BASE - height - 4)
        drawn.append(_TEXT.format(kind="above", x=x + width / 2, y=y, anchor="middle", text=bar.above))
    return drawn
