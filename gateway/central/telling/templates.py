"""Templates of messages as data: the shipped ones, and those of a utility's file with its registration (DLT)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from gateway.central.people.contacts import Language
from gateway.errors import UsageError

MAX_VALUE: Final = 30
"""Characters of one variable's value: the operators refuse more (users.md §4, TRAI's rule for `{#var#}`)."""
PLACE: Final = re.compile(r"\{([^{}]*)\}")
"""A variable's place in a text."""
REGISTERED: Final = "{#var#}"
"""What stands in its place in the registered text."""
LANGUAGES: Final[tuple[Language, ...]] = ("en", "hi")
_HOST: Final = re.compile(
    r"(?:[a-z][a-z0-9+.-]*://|www\.)(?P<host>[^\s/?#:]+)|(?P<bare>\b(?:[a-z0-9-]+\.)+[a-z]{2,})(?=[/?#:\s]|\W|$)",
    re.IGNORECASE | re.ASCII,
)


class ValueRefused(UsageError):
    """A message cannot be made of what was given; `code` is stable, the message names template and variable."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Kind(StrEnum):
    """What a variable holds, which says what its value may be.

    `ACCOUNT_NUMBER` goes only to mobiles verified of late; `ENDING` is the masked number that anybody may see.
    """

    TEXT = "text"
    DIGITS = "digits"
    CODE = "code"
    AMOUNT = "amount"
    DATE = "date"
    ENDING = "ending"
    ACCOUNT_NUMBER = "account_number"


_FORMS: Final[Mapping[Kind, re.Pattern[str]]] = {
    Kind.DIGITS: re.compile(r"[0-9]+", re.ASCII),
    Kind.CODE: re.compile(r"[0-9A-Z]{4,8}", re.ASCII),
    Kind.AMOUNT: re.compile(r"-?[0-9,]+(?:\.[0-9]{2})?", re.ASCII),
    Kind.DATE: re.compile(r"[0-9A-Za-z :+./-]+", re.ASCII),
    Kind.ENDING: re.compile(r"X*[0-9A-Z ./_-]{1,4}", re.ASCII),
    Kind.ACCOUNT_NUMBER: re.compile(r"[0-9]{10}", re.ASCII),
}


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


TemplateId = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{1,47}$")]
DltId = Annotated[str, Field(pattern=r"^[0-9]{15,25}$")]
Header = Annotated[str, Field(pattern=r"^[A-Z]{6}$")]


class Variable(_Data):
    """One variable: `most` characters of its value at most, and an example of it."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,30}$")]
    kind: Kind = Kind.TEXT
    most: Annotated[int, Field(ge=1)]
    example: str


class Wording(_Data):
    """The text in one language; `dlt_id` is what the operators registered it under."""

    text: Annotated[str, Field(min_length=1, max_length=1000)]
    dlt_id: DltId | None = None


class Template(_Data):
    """One message. `purpose` `code` is what somebody just asked for: it goes at night, too, and to who opted out.

    The values of a code are forgotten once it was handed over.

    `unverified` is the template in place of this one for a mobile that was not verified of late.
    """

    id: TemplateId
    purpose: Literal["code", "service"] = "service"
    unverified: TemplateId | None = None
    variables: Annotated[tuple[Variable, ...], Field(max_length=10)] = ()
    en: Wording
    hi: Wording | None = None

    @property
    def names_account(self) -> bool:
        """Whether it says an account's whole new number."""
        return any(v.kind is Kind.ACCOUNT_NUMBER for v in self.variables)

    def wording(self, language: Language) -> Wording:
        """Return the text of a language; English where there is none."""
        return self.hi if language == "hi" and self.hi is not None else self.en

    def wordings(self) -> Iterator[tuple[Language, Wording]]:
        """Yield each text with its language."""
        yield "en", self.en
        if self.hi is not None:
            yield "hi", self.hi


class TemplateFile(_Data):
    """What a file of templates may say. `registered` gives DLT ids to templates by id and language."""

    header: Header | None = None
    entity_id: DltId | None = None
    helpline: Annotated[str, Field(pattern=r"^[0-9]{3,15}$")] = "1912"
    links: Annotated[tuple[str, ...], Field(max_length=50)] = ()
    templates: Annotated[tuple[Template, ...], Field(max_length=200)] = ()
    registered: dict[TemplateId, dict[Literal["en", "hi"], DltId]] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    """A message's text as it is sent, with its registration."""

    text: str
    template: str
    dlt_id: str | None
    header: str | None
    entity_id: str | None
    language: Language


@dataclass(frozen=True, slots=True, kw_only=True)
class Library:
    """The templates of one utility by id, and what is the same for all of them."""

    templates: Mapping[str, Template]
    header: str | None = None
    entity_id: str | None = None
    helpline: str = "1912"
    links: tuple[str, ...] = ()
    language: Language = "en"

    def template(self, name: str) -> Template:
        """Return a template; ValueRefused (TEMPLATE) where there is none."""
        found = self.templates.get(name)
        if found is None:
            raise ValueRefused(
                "TEMPLATE", f"no template is called `{name}`: `meter-gateway sms templates list` shows them"
            )
        return found

    def check_values(self, template: Template, values: Mapping[str, str]) -> None:
        """Raise ValueRefused unless the values are those of a template, each of its kind and short enough.

        Values of `unverified`'s variables may stand beside; no value may hold a link or a control character.
        """
        other = None if template.unverified is None else self.template(template.unverified)
        for one in filter(None, (template, other)):
            for variable in one.variables:
                _check(one, variable, values.get(variable.name), self.links)
        known = {v.name for one in filter(None, (template, other)) for v in one.variables}
        for name in values:
            if name not in known:
                raise ValueRefused("UNKNOWN", f"template `{template.id}` has no variable `{name}`")

    def render(self, template: Template, values: Mapping[str, str], language: Language | None) -> Rendered:
        """Return the text for a recipient's language; the values were checked."""
        wording = template.wording(language or self.language)
        return Rendered(
            text=PLACE.sub(lambda place: values[place[1]], wording.text),
            template=template.id,
            dlt_id=wording.dlt_id,
            header=self.header,
            entity_id=self.entity_id,
            language="hi" if wording is template.hi else "en",
        )


def registered_text(wording: Wording) -> str:
    """Return a text as it is registered with the operators: `{#var#}` in each variable's place."""
    return PLACE.sub(REGISTERED, wording.text)


def hosts_in(text: str) -> list[str]:
    """Return the hosts of all links in a text, in small letters; a bare `name.in` is made a link by phones, too.

    >>> hosts_in("Pay at HTTPS://Pay.Example/x or kesco.co.in. Rs. 10.50 by 1.2.2027")
    ['pay.example', 'kesco.co.in']
    """
    return [(found["host"] or found["bare"]).lower() for found in _HOST.finditer(text)]


def _check(template: Template, variable: Variable, value: str | None, links: tuple[str, ...]) -> None:
    where = f"template `{template.id}`, variable `{variable.name}`"
    if value is None or not value.strip():
        raise ValueRefused("MISSING", f"{where}: no value was given")
    most = min(variable.most, MAX_VALUE)
    if len(value) > most:
        raise ValueRefused("TOO_LONG", f"{where}: {len(value)} characters, and at most {most} are allowed")
    if not value.isprintable():
        raise ValueRefused("CHARACTER", f"{where}: a line end, tab or invisible character")
    form = _FORMS.get(variable.kind)
    if form is not None and form.fullmatch(value) is None:
        raise ValueRefused("FORM", f"{where}: the value is no {variable.kind.value.replace('_', ' ')}")
    if any(host not in links for host in hosts_in(value)):
        raise ValueRefused("LINK", f"{where}: a link that is not in the file's `links`")
