"""The sections [sms] and below: how messages reach people's phones."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import time
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from gateway.config.types import Name, Section
from gateway.config.web import is_loopback
from protocols.toml_lines import Path as Trail

_FIELD = re.compile(r"\{([a-z_]+)\}")
_PLACES = ("mobile", "text", "reference", "dlt_id", "entity_id", "header", "language", "coding")


class AnswerSection(Section):
    """How the provider's answer is read.

    An answer with one of `accepted_status` is looked into: at `where` (a way into its JSON such as `data.0.status`)
    stands one of `accepted`, or one of `busy`; anything else refuses the message for good. Without `where` the status
    alone decides. The provider's id stands at `id`, or is the first group of the pattern `id_pattern` in the text.
    `busy_status` say that nothing was taken: it is tried again. So do 401, 403, 404 and the like, which say nothing of
    the one message. Any other status from 500 on leaves it in doubt.
    """

    accepted_status: tuple[int, ...] = (200, 201, 202)
    busy_status: tuple[int, ...] = (429, 503)
    where: str | None = None
    accepted: tuple[str, ...] = ()
    busy: tuple[str, ...] = ()
    id: str | None = None
    id_pattern: str | None = None

    @field_validator("id_pattern")
    @classmethod
    def _pattern(cls, text: str | None) -> str | None:
        try:
            if text is not None and re.compile(text).groups < 1:
                raise ValueError("needs a group in ( ) around the id")
        except re.error as error:
            raise ValueError(f"is no pattern: {error}") from error
        return text

    @model_validator(mode="after")
    def _words(self) -> AnswerSection:
        if (self.where is None) != (not self.accepted):
            raise ValueError("`where` and `accepted` go together")
        return self


class SmsHttpSection(Section):
    """A provider over HTTP: where, what is sent, what its answer means.

    `fields` are written from `{mobile}` (ten digits), `{text}`, `{reference}` (ours: the same for each try),
    `{dlt_id}`, `{entity_id}`, `{header}`, `{language}` and `{coding}`, which is one of `codings`: for GSM-7, and for
    UCS-2. A name with dots makes nested JSON (`sms.0.to`). `secret_headers` and `secret_fields` name secrets, which
    hold the whole value (`Bearer …`). `ca_file` holds the certificates that are trusted in place of the system's.
    With `repeats_safe` the provider promises that a repeated reference is one message: then what is in doubt is handed
    over again.
    """

    url: str
    method: Literal["POST", "GET"] = "POST"
    body: Literal["json", "form", "query"] = "json"
    fields: Annotated[dict[str, str], Field(min_length=1, max_length=50)]
    headers: Annotated[dict[str, str], Field(max_length=20)] = {}
    secret_fields: Annotated[dict[str, Name], Field(max_length=10)] = {}
    secret_headers: Annotated[dict[str, Name], Field(max_length=10)] = {}
    codings: tuple[str, str] = ("0", "8")
    ca_file: Path | None = None
    seconds: Annotated[float, Field(ge=1, le=120)] = 30.0
    repeats_safe: bool = False
    answer: AnswerSection = AnswerSection()

    @field_validator("url")
    @classmethod
    def _url(cls, text: str) -> str:
        parts = urlsplit(text)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("is written like `https://sms.example/v1/send`")
        if parts.username is not None or parts.query or parts.fragment:
            raise ValueError("has no login and no query: use `fields`, `secret_fields` or `secret_headers`")
        if parts.scheme == "http" and not is_loopback(parts.hostname):
            raise ValueError("mobiles and codes go by TLS only: `https://…`")
        return text

    @field_validator("fields")
    @classmethod
    def _fields(cls, fields: dict[str, str]) -> dict[str, str]:
        for name, text in fields.items():
            for place in _FIELD.findall(text):
                if place not in _PLACES:
                    raise ValueError(f"`{name}`: there is no {{{place}}}; there are {', '.join(_PLACES)}")
        written = " ".join(fields.values())
        if "{mobile}" not in written or "{text}" not in written:
            raise ValueError("must have {mobile} and {text} somewhere")
        return fields

    @model_validator(mode="after")
    def _sent(self) -> SmsHttpSection:
        if self.method == "GET" and self.body != "query":
            raise ValueError('with `method = "GET"` the fields go into the query: `body = "query"`')
        return self


class SmsReportsSection(Section):
    """Delivery reports, which the provider sends to `PUBLIC_URL/sms/reports` (docs/sms.md).

    The secret comes as `Authorization: Bearer SECRET`, or as the last part of the address. `id`, `reference`, `status`
    and `reason` are names of a form or query, or ways into JSON; `list` is the way to a list of reports. `delivered`
    and `undelivered` are the final words of `status`; any other is passed over.
    """

    secret_ref: Name
    status: str
    delivered: Annotated[tuple[str, ...], Field(min_length=1)]
    undelivered: Annotated[tuple[str, ...], Field(min_length=1)]
    id: str | None = None
    reference: str | None = None
    reason: str | None = None
    list: str | None = None

    @model_validator(mode="after")
    def _found_by(self) -> SmsReportsSection:
        if self.id is None and self.reference is None:
            raise ValueError("name `id` or `reference`: by what a report's message is found")
        return self


class SmsSection(Section):
    """Messages to people's phones: one-time codes, and all others, by one queue (docs/sms.md).

    `provider` is `none` (nobody can log in), `console` (shown in this machine's log: demonstrations only), `file`
    (lines of JSON in `file`) or `http`. `templates` is the utility's own file beside the shipped templates, with
    header, entity id and DLT ids. `language` is that of contacts who have none. `per_second` messages are handed over
    at most; from `quiet_from` to `quiet_until`, Indian time, only codes that somebody just asked for. `tries` are made
    of a message that is not taken, within `give_up_hours`.
    """

    provider: Literal["none", "console", "file", "http"] = "none"
    templates: Path | None = None
    file: Path | None = None
    language: Literal["en", "hi"] = "hi"
    per_second: Annotated[int, Field(ge=1, le=1000)] = 10
    quiet_from: time = time(21)
    quiet_until: time = time(9)
    tries: Annotated[int, Field(ge=1, le=50)] = 6
    give_up_hours: Annotated[int, Field(ge=1, le=24 * 30)] = 72
    http: SmsHttpSection | None = None
    reports: SmsReportsSection | None = None


def check_sms(sms: SmsSection, *, public: bool) -> Iterator[tuple[Trail, str]]:
    """Yield what the sections below [sms] lack for its provider; `public`: people reach the pages from elsewhere."""
    if sms.provider == "http" and sms.http is None:
        yield ("sms", "provider"), "`http` needs a section [sms.http]"
    if sms.provider == "file" and sms.file is None:
        yield ("sms", "provider"), "`file` needs `file`, the path of the file"
    if sms.provider == "console" and public:
        yield (
            ("sms", "provider"),
            'with a `public_url` codes are not shown in a log: `provider = "none"` until there is one',
        )
    if sms.reports is not None and sms.provider != "http":
        yield ("sms", "reports"), 'delivery reports come from a provider: `provider = "http"`'
