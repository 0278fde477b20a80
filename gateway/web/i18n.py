"""Words, numbers and times of the pages in English and Hindi: catalogues, lakh and crore grouping, ages."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache
from importlib import resources
from zoneinfo import ZoneInfo

from babel.dates import format_date
from babel.numbers import format_currency, format_decimal
from markupsafe import Markup, escape

LANGUAGES = ("en", "hi")
DEFAULT_LANGUAGE = "en"
_LOCALE = {"en": "en_IN", "hi": "hi_IN"}
_MINUS = "\u2212"


@cache
def catalogue(language: str) -> Mapping[str, str]:
    """Read one catalogue as flat keys, `me.number.title` → words."""
    text = resources.files("gateway.web").joinpath("locales", f"{language}.toml").read_text(encoding="utf-8")
    return dict(_flat("", tomllib.loads(text)))


def _flat(prefix: str, table: Mapping[str, object]) -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    for key, value in table.items():
        name = f"{prefix}{key}"
        pairs += _flat(f"{name}.", value) if isinstance(value, dict) else [(name, str(value))]
    return pairs


def choose_language(asked: str | None, cookie: str | None, accept: str | None) -> str:
    """Pick a language: what was asked, then the cookie, then the browser's order of preference."""
    for wish in (asked, cookie):
        if wish in LANGUAGES:
            return wish
    ranked: list[tuple[float, str]] = []
    for part in (accept or "")[:200].split(","):
        tag, _, quality = part.strip().partition(";q=")
        try:
            ranked.append((-float(quality or 1), tag.split("-")[0].lower()))
        except ValueError:
            continue
    return next((tag for _, tag in sorted(ranked, key=lambda r: r[0]) if tag in LANGUAGES), DEFAULT_LANGUAGE)


@dataclass(frozen=True, slots=True)
class Words:
    """One language for one page; times are shown in `zone`."""

    language: str
    zone: ZoneInfo

    def __call__(self, key: str, **values: object) -> str:
        """Return the words of a key with its placeholders filled; KeyError for a key that does not exist."""
        return catalogue(self.language)[key].format(**values)

    def has(self, key: str) -> bool:
        """Say whether there are words of a key."""
        return key in catalogue(self.language)

    def other(self) -> Words:
        """Return the same in the other language."""
        return Words("hi" if self.language == "en" else "en", self.zone)

    def counted(self, key: str, number: int) -> str:
        """Return `key.one` or `key.other` with {n}."""
        return self(f"{key}.{'one' if number == 1 else 'other'}", n=self.number(number))

    def number(self, value: int | Decimal) -> str:
        """Group as lakh and crore, Latin digits, the value's own decimals."""
        places = max(0, -_exponent(value)) if isinstance(value, Decimal) else 0
        text = format_decimal(value, format=f"#,##,##0{'.' + '0' * places if places else ''}", locale="en_IN")
        return text.replace("-", _MINUS)

    def rupees(self, value: Decimal) -> str:
        """`₹1,23,456.78`; a negative amount begins with a true minus sign."""
        text = format_currency(value, "INR", locale=_LOCALE[self.language])
        return text.replace("-", _MINUS)

    def kwh(self, value: Decimal) -> str:
        """Energy as it was measured, at most three decimals, at least one."""
        places = min(3, max(1, -_exponent(value.normalize())))
        return self.number(value.quantize(Decimal(1).scaleb(-places)))

    def ago(self, age: timedelta) -> str:
        """Say an age in one unit: minutes, then hours up to four days, then days."""
        minutes = max(0, int(age.total_seconds() // 60))
        if minutes < 1:
            return self("ago.now")
        if minutes < 60:
            return self.counted("ago.minutes", minutes)
        if minutes < 96 * 60:
            return self.counted("ago.hours", minutes // 60)
        return self.counted("ago.days", minutes // 1440)

    def wait(self, left: timedelta) -> str:
        """Say how long to wait, rounded up to minutes."""
        return self.counted("wait.minutes", max(1, -int(-left.total_seconds() // 60)))

    def clock(self, at: datetime) -> str:
        """`14:30` in the pages' zone."""
        return f"{at.astimezone(self.zone):%H:%M}"

    def when(self, at: datetime, now: datetime) -> str:
        """`today 14:30`, `yesterday 14:30` or `23 Nov 2026, 14:30`."""
        local, today = at.astimezone(self.zone), now.astimezone(self.zone).date()
        if local.date() == today:
            return self("when.today", time=self.clock(at))
        if local.date() == today - timedelta(days=1):
            return self("when.yesterday", time=self.clock(at))
        return f"{self.day(at, 'd MMM y')}, {self.clock(at)}"

    def day(self, at: datetime, pattern: str = "EEE d MMM") -> str:
        """Return a date in the page's language."""
        return format_date(at.astimezone(self.zone).date(), pattern, locale=_LOCALE[self.language])


def _exponent(value: Decimal) -> int:
    exponent = value.as_tuple().exponent
    return exponent if isinstance(exponent, int) else 0


def grouped(number: str) -> str:
    """Ten digits as 4-3-3 groups; anything else unchanged."""
    return f"{number[:4]} {number[4:7]} {number[7:]}" if len(number) == 10 and number.isascii() else number


def masked(number: str) -> str:
    """Only the last four characters; dots for the rest."""
    hidden = "\u2022" * max(0, len(number) - 4) + number[-4:]
    return f"{hidden[:4]} {hidden[4:6]} {hidden[6:]}" if len(hidden) == 10 else hidden


def iso(at: datetime) -> str:
    """Machine-readable instant for `<time datetime>`."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def with_commands(text: str) -> Markup:
    """Return words in which what stands between backticks is a command to type; everything is escaped."""
    parts = [escape(part) for part in text.split("`")]
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if n % 2 else part for n, part in enumerate(parts)
    )
