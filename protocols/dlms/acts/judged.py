"""A write that is read back and judged: as asked, in another form, put back, or an error that says what stands.

A meter's "success" is its word that a request arrived. What it made of it shows when the attribute is read: some
take a time's deviation the other way round, cut a text, round a number, or change nothing.

    await write_judged(session.exchange, target, Wish.of(long_unsigned(900)))

A write is never repeated into silence. Where no answer came the attribute is read first; only a meter that still
holds what it held before is asked once more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import NoReturn, Protocol

from protocols.dlms.apdu.lists import Target
from protocols.dlms.data.types import Data
from protocols.dlms.data.values import text_of
from protocols.dlms.objects.describe import describe
from protocols.errors import (
    AssociationLost,
    LocalError,
    MeterProtocolError,
    MeterRefused,
    NotSupported,
    ProtocolError,
    WriteNotKept,
    WriteUnproven,
)

TYPE_UNMATCHED, OTHER_REASON = 12, 250
"""Results of a meter that may take the same value in another form: it refused the form, not the client."""

Holds = Callable[[Data], bool]
"""Says whether a value that was read is the one that was wanted; may raise MeterProtocolError: it is not."""
Form = Callable[[], Data]
"""Makes the value to write at the moment of writing: a clock runs on."""


class ReadsAndWrites(Protocol):
    """An association that reads and writes; `ResumingExchange` opens a new one for the reading back after a fault."""

    async def get(self, target: Target) -> Data:
        """Read one attribute."""

    async def set(self, target: Target, value: Data) -> None:
        """Write one attribute, once."""


class Verdict(StrEnum):
    """What stands in the meter after a write."""

    AS_ASKED = "as asked"
    ANOTHER_FORM = "as asked, written in another form"


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What came of a write: the verdict, the values before and after, which form of the wish was taken (from 0)."""

    verdict: Verdict
    before: Data
    found: Data
    form: int
    repeated: bool = False

    def __str__(self) -> str:
        return f"{self.verdict}{', after a repetition' if self.repeated else ''}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What is to stand in an attribute: the forms to write it in, the likeliest first, and what reading it may give."""

    forms: Sequence[Form]
    holds: Holds

    @classmethod
    def of(cls, value: Data, *others: Data, holds: Holds | None = None) -> Wish:
        """Wish for a value, perhaps written in `others`; by default exactly one of them must be read back."""
        values = (value, *others)
        return cls(forms=[_constant(one) for one in values], holds=holds or one_of(*values))


def exactly(value: Data) -> Holds:
    """Accept the same value of the same type."""
    return lambda found: found == value


def one_of(*values: Data) -> Holds:
    """Accept each of the normal forms in which a meter may keep a value."""
    return lambda found: found in values


def same_text(value: Data) -> Holds:
    """Accept the same text, of whatever string type, without what pads it."""
    return lambda found: text_of(found) == text_of(value)


def within(number: int, tolerance: int) -> Holds:
    """Accept a whole number that is at most `tolerance` away."""
    return lambda found: found.integer is not None and abs(found.integer - number) <= tolerance


async def write_judged(
    exchange: ReadsAndWrites,
    target: Target,
    wish: Wish | Callable[[Data], Wish],
    *,
    restore: Callable[[Data], Wish | None] = Wish.of,
    show: Callable[[Data], str] | None = None,
) -> Judgement:
    """Read the attribute, write it, read it back, and judge.

    A wish may be made of the value that stood before. Where something else stands afterwards its other forms are
    tried, and then what `restore` makes of the value before is put back (None: nothing can be). `show` makes a value
    readable for the error; by default as `explore` does, which shows no secret.

    Returns the judgement where the meter holds what was wished for. Raises WriteNotKept where it does not, after
    putting back what was: the error says what stands now; WriteUnproven where a fault of the line left it open;
    MeterRefused or NotSupported where the meter refused the first writing, or the reading before it: nothing is
    changed then. A cancelled task leaves the attribute as the request that was on its way left it.
    """
    before = await exchange.get(target)
    wanted = wish(before) if callable(wish) else wish
    act = _JudgedWrite(exchange, target, restore(before), show or _shower(target), before)
    form = await act.write(wanted)
    if form is None:
        await act.put_back()
    return Judgement(
        verdict=Verdict.ANOTHER_FORM if form else Verdict.AS_ASKED,
        before=before,
        found=act.found,
        form=form,
        repeated=act.repeated,
    )


class _JudgedWrite:
    """One write and what it takes to know what came of it. `found` is what stood at the last look."""

    def __init__(
        self,
        exchange: ReadsAndWrites,
        target: Target,
        back: Wish | None,
        show: Callable[[Data], str],
        before: Data,
    ) -> None:
        self.found = before
        self.repeated = False
        self._exchange = exchange
        self._target = target
        self._back = back
        self._show = show
        self._refusal: ProtocolError | None = None
        self._lost: AssociationLost | None = None
        self._taken = self._unanswered = self._touched = False

    async def write(self, wish: Wish) -> int | None:
        """Write the forms of a wish until it is read back; return which it was, None when none was kept."""
        for number, form in enumerate(wish.forms):
            answered = await self._write_form(form)
            if answered is None:
                continue
            await self._look()
            if not answered and not _holds(wish, self.found) and self._as_before():
                self.repeated = True  # the request, not its answer, was lost
                if await self._write_form(form) is None:
                    continue
                await self._look()
            if _holds(wish, self.found):
                return number
            if (self._unanswered or self._lost) and self._as_before():
                return None  # another form would be met with the same silence
        return None

    async def put_back(self) -> NoReturn:
        """Put back what was, and raise what says how it stands now."""
        restored = self._as_before()
        refusal = self._refusal or self._lost
        if refusal is not None and not self._taken and (restored or not self._touched):
            raise refusal
        wrong = self.found
        if not restored and self._back is not None:
            try:
                restored = await self.write(self._back) is not None
            except WriteUnproven as error:
                raise WriteUnproven(
                    f"{self._target} showed {self._show(wrong)} after the write, and putting it back was cut short:"
                    f" {error}"
                ) from error
        raise WriteNotKept(
            what=str(self._target),
            answered=self._taken,
            found=self._show(wrong),
            now=self._show(self.found),
            restored=restored,
        )

    async def _write_form(self, form: Form) -> bool | None:
        """Write once and say whether it was answered; None when the form was refused."""
        try:
            await self._exchange.set(self._target, form())
        except (MeterRefused, NotSupported) as error:
            if isinstance(error, AssociationLost):
                self._lost, self._touched = error, True
                return False
            if not self._touched and not _form_may_matter(error):
                raise
            self._refusal = self._refusal or error
            return None
        except LocalError:
            raise
        except ProtocolError:
            self._unanswered = self._touched = True
            return False
        self._taken = self._touched = True
        self._unanswered, self._lost = False, None
        return True

    async def _look(self) -> None:
        try:
            self.found = await self._exchange.get(self._target)
        except ProtocolError as error:
            raise WriteUnproven(
                f"{self._target} was written and could not be read back ({error}): what stands there is not known"
            ) from error

    def _as_before(self) -> bool:
        return self._back is not None and _holds(self._back, self.found)


def _constant(value: Data) -> Form:
    return lambda: value


def _holds(wish: Wish, found: Data) -> bool:
    with suppress(MeterProtocolError):
        return wish.holds(found)
    return False


def _form_may_matter(error: ProtocolError) -> bool:
    return isinstance(error, MeterRefused) and error.reason_code in (TYPE_UNMATCHED, OTHER_REASON)


def _shower(target: Target) -> Callable[[Data], str]:
    return lambda data: str(describe(target.class_id, 0, target.index, data))
