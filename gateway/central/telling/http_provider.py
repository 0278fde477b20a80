"""Hands messages to a provider over HTTP, as its settings describe it: address, fields, secrets, answers."""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import httpx

from gateway.central.telling.alphabet import Alphabet, size_of
from gateway.central.telling.answers import AnswerRules, outcome_of
from gateway.central.telling.messages import Doubtful, Handed, NotTaken, Outcome
from gateway.errors import ConfigError

MAX_ANSWER: Final = 64 * 1024
"""Octets of an answer; a provider's has some hundreds."""
PLACES: Final = frozenset(
    {"mobile", "text", "reference", "dlt_id", "entity_id", "header", "language", "coding"}
)
"""What a field's text may have in braces."""
_PLACE: Final = re.compile(r"\{([a-z_]+)\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpSettings:
    """One provider. `fields` are written from what is in PLACES: `{"to": "91{mobile}", "msg": "{text}"}`.

    A name with dots makes nested JSON (`sms.0.to`). `secret_fields` and `secret_headers` hold secrets themselves.
    `codings` is what `{coding}` says for GSM-7 and for UCS-2.
    """

    url: str
    method: Literal["POST", "GET"] = "POST"
    body: Literal["json", "form", "query"] = "json"
    fields: Mapping[str, str]
    headers: Mapping[str, str] = field(default_factory=dict)
    secret_fields: Mapping[str, str] = field(default_factory=dict, repr=False)
    secret_headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    codings: tuple[str, str] = ("0", "8")
    ca_file: Path | None = None
    seconds: float = 30.0
    rules: AnswerRules = field(default_factory=AnswerRules)
    reports: bool = False


class HttpProvider:
    """A provider over HTTP(S). Certificates are verified; no proxy of the environment is used, no redirect followed.

    Each message has a connection of its own: on one kept open, a provider that closes it at that moment leaves the
    message in doubt.
    """

    def __init__(self, settings: HttpSettings) -> None:
        """Prepare; ConfigError where `ca_file` holds no certificates."""
        self.reports = settings.reports
        self._settings = settings
        try:
            verify = ssl.create_default_context(cafile=settings.ca_file)
        except (OSError, ValueError) as error:
            raise ConfigError(f"[sms.http] ca_file {settings.ca_file}: {error}") from error
        self._client = httpx.AsyncClient(
            verify=verify,
            trust_env=False,
            follow_redirects=False,
            timeout=httpx.Timeout(settings.seconds, connect=min(10.0, settings.seconds)),
            limits=httpx.Limits(max_keepalive_connections=0),
        )

    async def hand(self, message: Handed) -> Outcome:
        """Ask the provider once; what the line did decides whether it may have the message."""
        settings = self._settings
        try:
            async with self._client.stream(
                settings.method,
                settings.url,
                headers={**settings.headers, **settings.secret_headers},
                **self._content(message),
            ) as response:
                body = b""
                async for part in response.aiter_bytes():
                    body += part
                    if len(body) > MAX_ANSWER:
                        return Doubtful(f"HTTP {response.status_code} with an endless answer")
        except (
            httpx.ConnectError,
            httpx.ConnectTimeout,
            httpx.PoolTimeout,
            httpx.UnsupportedProtocol,
        ) as error:
            return NotTaken(f"the provider cannot be reached: {type(error).__name__}", away=True)
        except httpx.HTTPError as error:  # from the first octet on the provider may have it
            return Doubtful(f"the line broke: {type(error).__name__}")
        except httpx.InvalidURL as error:
            return NotTaken(f"[sms.http] url: {error}", away=True)
        secrets = (*settings.secret_fields.values(), *settings.secret_headers.values())
        return outcome_of(settings.rules, response.status_code, body, secrets)

    def _content(self, message: Handed) -> dict[str, Any]:
        settings, rendered = self._settings, message.rendered
        coding = settings.codings[size_of(rendered.text).alphabet is Alphabet.UCS2]
        values = {
            "mobile": message.mobile,
            "text": rendered.text,
            "reference": message.id,
            "dlt_id": rendered.dlt_id or "",
            "entity_id": rendered.entity_id or "",
            "header": rendered.header or "",
            "language": rendered.language,
            "coding": coding,
        }
        written = {
            name: _PLACE.sub(lambda place: values.get(place[1], place[0]), text)
            for name, text in settings.fields.items()
        } | dict(settings.secret_fields)
        match settings.body:
            case "json":
                return {"json": nested(written)}
            case "form":
                return {"data": written}
            case "query":
                return {"params": written}

    async def close(self) -> None:
        """Close what is open."""
        await self._client.aclose()


def nested(fields: Mapping[str, str]) -> Any:
    """Return fields as a JSON document: `sms.0.to` is an entry of a list in `sms`.

    >>> nested({"key": "k", "sms.0.to": "91"})
    {'key': 'k', 'sms': [{'to': '91'}]}
    """
    tree: dict[str, Any] = {}
    for name, value in fields.items():
        *way, last = name.split(".")
        node = tree
        for step in way:
            node = node.setdefault(step, {})
        node[last] = value
    return _lists(tree)


def _lists(node: Any) -> Any:
    if not isinstance(node, dict):
        return node
    made = {name: _lists(value) for name, value in node.items()}
    numbered = sorted(made, key=lambda name: (len(name), name))
    return (
        [made[name] for name in numbered] if numbered == [str(i) for i in range(len(made))] and made else made
    )


def unknown_places(fields: Mapping[str, str]) -> list[str]:
    """Return the names of fields that have something in braces that no message has."""
    return [name for name, text in fields.items() if set(_PLACE.findall(text)) - PLACES]
