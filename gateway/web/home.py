"""Turns what an account may see into the words, icons and charts of its page."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any

from gateway.central.portal.usage import Use
from gateway.central.portal.view_models import BalanceSource, ConsumerView, Freshness, Supply
from gateway.web.charts import Bar, bar_chart, nice_top
from gateway.web.i18n import Words


def home_context(view: ConsumerView, t: Words) -> dict[str, Any]:
    """Return everything that home.html shows, in one language."""
    return {
        "view": view,
        "balance": _balance(view, t),
        "other_balance": _other_balance(view, t),
        "supply": view.supply.value,
        "supply_words": t(f"home.supply_{view.supply.value}"),
        "supply_as_of": _supply_as_of(view, t),
        "fresh": _fresh(view, t),
        "days_left": _days_left(view, t),
        "recharge": _recharge(view, t),
        "today_kwh": None if view.today.kwh is None else t.kwh(view.today.kwh),
        "today_until": t("home.today_until", time=t.clock(view.today.end)),
        "today_missing": _today_missing(view.today, t),
        "today_chart": _today_chart(view.today_slots, t),
        "today_rows": [
            (f"{t.clock(u.start)}–{t.clock(u.end)}", _kwh(u, t)) for u in _shown(view.today_slots)
        ],
        "today_has_chart": bool(_shown(view.today_slots)),
        "week_chart": _week_chart(view.days, t),
        "week_rows": [(t.day(u.start), _kwh(u, t)) for u in view.days],
        "week_missing": _week_missing(view.days, t),
        "week_total": _total(view.days, t),
        "has_partial": any(_partial(u) for u in (*view.days, *view.today_slots)),
    }


def _supply_as_of(view: ConsumerView, t: Words) -> str:
    if view.supply_as_of is None:
        return t("home.supply_never")
    when = t.when(view.supply_as_of, view.now)
    if view.supply is Supply.UNKNOWN and view.supply_seen is not Supply.UNKNOWN:
        return t(f"home.supply_was_{view.supply_seen.value}", when=when)
    return t("home.supply_as_of", when=when)


def _balance(view: ConsumerView, t: Words) -> dict[str, Any] | None:
    if view.balance is None:
        return None
    rupees = view.balance.rupees
    state = "owing" if rupees < 0 else "left" if rupees > 0 else "zero"
    by_billing = view.balance.source is BalanceSource.BILLING
    as_of = "home.as_of_billing" if by_billing else "home.as_of_meter"
    return {
        "text": t.rupees(rupees),
        "owing": rupees < 0,
        "spoken": f"{t('home.minus')} {t.rupees(abs(rupees))}" if rupees < 0 else t.rupees(rupees),
        "state": f"home.{state}",
        "as_of": t(as_of, when=t.when(view.balance.as_of, view.now)),
    }


def _other_balance(view: ConsumerView, t: Words) -> str | None:
    other = view.other_balance
    if other is None:
        return None
    return t("home.other_meter", amount=t.rupees(other.rupees), when=t.when(other.as_of, view.now))


def _fresh(view: ConsumerView, t: Words) -> str:
    if view.last_reading is None or view.age is None:
        return t("home.never")
    return t(f"home.{view.freshness.value}", when=t.when(view.last_reading, view.now), age=t.ago(view.age))


def _days_left(view: ConsumerView, t: Words) -> dict[str, str]:
    left = view.days_left
    if left is not None:
        about = t("home.days_one") if left.about < 1 else t("home.days_range", about=t.number(left.about))
        return {"big": about, "small": t("home.days_span", low=t.number(left.low), high=t.number(left.high))}
    if view.freshness in (Freshness.STALE, Freshness.NONE):
        return {"big": "", "small": t("home.days_stale")}
    owing = view.balance is not None and view.balance.rupees <= 0
    return {"big": "", "small": t("home.days_owing" if owing else "home.days_none")}


def _recharge(view: ConsumerView, t: Words) -> dict[str, str]:
    if view.recharge is None:
        return {"big": "", "small": t("home.recharge_none")}
    at = view.recharge.at
    small = t("home.recharge_undated") if at is None else t("home.recharge_when", when=t.when(at, view.now))
    return {"big": t.rupees(view.recharge.rupees), "small": small}


def _partial(use: Use) -> bool:
    return use.kwh is not None and not use.complete


def _kwh(use: Use, t: Words) -> str:
    if use.kwh is None:
        return t("home.no_data")
    return f"{t.kwh(use.kwh)} ({t('home.partial')})" if _partial(use) else t.kwh(use.kwh)


def _shown(slots: Sequence[Use]) -> Sequence[Use]:
    """Return the uses to draw: none where a chart would not have one value."""
    return slots if any(u.kwh is not None for u in slots) else ()


def _total(uses: Sequence[Use], t: Words) -> str | None:
    known = [u.kwh for u in uses if u.kwh is not None]
    return t.kwh(sum(known, Decimal(0))) if known else None


def _today_missing(use: Use, t: Words) -> str | None:
    if use.kwh is None or not use.missing:
        return None
    half_hours = round(use.missing / timedelta(minutes=30))
    span = t("home.half_hour") if half_hours < 2 else t.counted("home.hours", half_hours // 2)
    return t("home.today_missing", span=span)


def _week_missing(days: Sequence[Use], t: Words) -> str | None:
    complete = sum(1 for u in days if u.complete)
    return None if complete == len(days) else t("home.week_missing", count=complete, total=len(days))


def _summary(uses: Sequence[Use], t: Words) -> str:
    return t(
        "home.chart_summary",
        count=sum(1 for u in uses if u.kwh is not None),
        total=len(uses),
        sum=_total(uses, t) or "–",
    )


def _today_chart(slots: Sequence[Use], t: Words) -> Any:
    bars = [
        Bar(u.kwh, partial=_partial(u), label=t.clock(u.start) if index % 12 == 0 else "")
        for index, u in enumerate(slots)
    ]
    # The axis always has the whole day: what has not happened yet is empty, not "no data".
    top = nice_top([u.kwh for u in slots if u.kwh is not None])
    scale = t("home.today_hours", top=t.number(top))
    return bar_chart(bars, summary=_summary(slots, t), scale=scale, ticks=True, places=48)


def _week_chart(days: Sequence[Use], t: Words) -> Any:
    bars = [
        Bar(
            u.kwh,
            partial=_partial(u),
            label=t.day(u.start, "EEE"),
            above="" if u.kwh is None else t.kwh(round(u.kwh, 1)),
        )
        for u in days
    ]
    return bar_chart(bars, summary=_summary(days, t), scale="")
