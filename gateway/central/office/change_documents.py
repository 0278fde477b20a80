"""Change sets as JSON: one model for each kind of change, made from `mapping.changes`, so that new kinds appear here.

`{"change": "move_out", "usage_point": "UP-1", "at": "2026-11-23T10:00:00+05:30"}`: the name of the kind, then the
members of its dataclass. Numbers with a fraction are text, times carry a zone, unknown members are refused.
"""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, create_model
from pydantic import Field as Member

from mapping import changes as kinds
from mapping.changes import Change

MAX_CHANGES: Final = 10_000
"""In one change set over the API; larger ones are files (`directory import`, `directory rekey plan`)."""
MAX_TEXT: Final = 512
TAG: Final = "change"
_OWN: Final = {"row"}
"""Members that the door fills in itself: the change's place in its list, from 1."""


class Document(BaseModel):
    """Base of all documents of the API: what is not known is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _plain(text: str) -> str:
    if not text.isprintable() or text != text.strip():
        raise ValueError("holds invisible signs, or white space at an end")
    return text


def _no_number(given: Any) -> Any:
    if not isinstance(given, str):
        raise ValueError('a time is text with a zone, like "2026-11-23T10:00:00+05:30"')  # noqa: TRY004
    return given


def _utc(given: datetime) -> datetime:
    try:
        return given.astimezone(UTC)
    except OverflowError:
        raise ValueError("no calendar has this time in UTC") from None


def _exact(given: Any) -> Any:
    if isinstance(given, float | bool):
        raise ValueError('a number with a fraction is text, like "2.5": nothing is lost on the way')  # noqa: TRY004
    return given


Text = Annotated[str, Member(min_length=1, max_length=MAX_TEXT, strict=True), AfterValidator(_plain)]
Time = Annotated[AwareDatetime, BeforeValidator(_no_number), AfterValidator(_utc)]
Exact = Annotated[Decimal, Member(allow_inf_nan=False, max_digits=28), BeforeValidator(_exact)]
_AS: Final[dict[Any, Any]] = {str: Text, datetime: Time, Decimal: Exact}


def kind_name(kind: type) -> str:
    """Return what a kind of change is called in JSON.

    >>> kind_name(kinds.CorrectHoldings)
    'correct_holdings'
    """
    return re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower()


def _type(hint: Any) -> Any:
    """Return the type of a member of a document for that of a dataclass."""
    if hint in _AS:
        return _AS[hint]
    if is_dataclass(hint) and isinstance(hint, type):
        return _model(hint)
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return Union[tuple(_type(one) for one in inner)]  # noqa: UP007  # made at run time
    if origin is tuple:
        return tuple[_type(inner[0]), ...]  # type: ignore[misc]  # made at run time
    if inner and isinstance(origin, type) and issubclass(origin, Mapping):
        return dict[_type(inner[0]), _type(inner[1])]  # type: ignore[misc]  # made at run time
    return hint


def _member(field: Field[Any], hint: Any) -> tuple[Any, Any]:
    default = ... if field.default is MISSING and field.default_factory is MISSING else field.default
    if field.default_factory is not MISSING:
        default = field.default_factory()
    return _type(hint), default


_MODELS: Final[dict[type, type[Document]]] = {}


def _model(kind: type, **more: Any) -> type[Document]:
    """Return the document of a dataclass, made once."""
    if kind not in _MODELS:
        hints = get_type_hints(kind, vars(kinds))
        members = {f.name: _member(f, hints[f.name]) for f in fields(kind) if f.name not in _OWN}
        doc = inspect.cleandoc(kind.__doc__ or "").replace("`row` is the line of the file that says so.", "")
        _MODELS[kind] = create_model(  # type: ignore[call-overload]  # made at run time
            kind.__name__, __base__=Document, __doc__=doc.strip(), **more, **members
        )
    return _MODELS[kind]


KINDS: Final[dict[str, type[Change]]] = {kind_name(kind): kind for kind in get_args(Change)}
"""Every kind of change by its name in JSON."""
MODELS: Final = {name: _model(kind, **{TAG: (Literal[name], ...)}) for name, kind in KINDS.items()}
AnyChange: Any = Annotated[Union[tuple(MODELS.values())], Member(discriminator=TAG)]  # noqa: UP007  # made at run time


class ChangeSetRequest(Document):
    """A change set that is asked for: all of its changes are applied, or none.

    With `dry_run` nothing is changed: the answer says what would be, and its `fingerprint`. With a `fingerprint`
    exactly what was shown is applied, or nothing. `reference` is the sender's own, an order's number for example; it
    stands in the directory's history for ever, so it names no person.
    """

    changes: Annotated[tuple[AnyChange, ...], Member(min_length=1, max_length=MAX_CHANGES)]
    dry_run: Annotated[bool, Member(strict=True)] = False
    fingerprint: Annotated[str, Member(pattern=r"^[0-9]{1,10}-[0-9a-f]{32}$")] | None = None
    reference: Annotated[Text, Member(max_length=100)] | None = None


def changes_of(documents: Iterable[Document]) -> list[Change]:
    """Return the changes that documents say, each with its place from 1 as `row`."""
    made = []
    for place, document in enumerate(documents, 1):
        kind = KINDS[getattr(document, TAG)]
        made.append(_made(kind, document, row=place))
    return made


def _made(kind: type, document: BaseModel, **more: Any) -> Any:
    names = {f.name for f in fields(kind)}
    given = {name: _value(getattr(document, name)) for name in type(document).model_fields if name in names}
    return kind(**given, **{name: value for name, value in more.items() if name in names})


def _value(value: Any) -> Any:
    if isinstance(value, Document):
        kind = next(kind for kind, model in _MODELS.items() if type(value) is model)
        return _made(kind, value)
    if isinstance(value, tuple):
        return tuple(_value(one) for one in value)
    return value


def written(documents: Iterable[Document]) -> str:
    """Return changes as they are kept: one JSON array, the same for the same changes."""
    return "[" + ",".join(one.model_dump_json() for one in documents) + "]"
