"""The topics of the contract under `{root}/v2` (and `v1`): built, parsed and filtered in one place."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Literal

from gateway.errors import ConfigError, ContractError

MAX_TOPIC = 1024
"""Longest topic that is looked at, in characters."""

_GATEWAY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
_LEVEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:~-]{0,127}", re.ASCII)
_ROOT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*", re.ASCII)
_RESERVED = frozenset({"attributions", "accounts", "verdicts", "history"})

TopicVersion = Literal[1, 2]


class TopicKind(StrEnum):
    """What travels on a topic."""

    READINGS = "readings"
    EVENTS = "events"
    GAPS = "gaps"
    STATUS = "status"
    STATUS_CHANGES = "status/changes"
    STATUS_REQUEST = "status/request"
    ACKS = "acks"
    REPLAY = "replay"
    ORDERS = "orders"
    ORDER_RESULTS = "orders/results"
    DIRECTORY = "directory"
    DIRECTORY_REQUEST = "directory/request"
    TIME = "time"
    TIME_REQUEST = "time/request"
    COUNTERS = "counters"
    KEYS = "keys"
    KEYS_REQUEST = "keys/request"
    KEYS_ESCROW = "keys/escrow"
    KEYS_RECEIPTS = "keys/receipts"
    ATTRIBUTIONS = "attributions"
    VERDICTS = "verdicts"
    BALANCE = "balance"
    HISTORY_REQUEST = "history/request"
    HISTORY_ANSWER = "history/answer"
    SYSTEM_CHANGES = "systems/changes"
    SYSTEM_RESULTS = "systems/results"


_OF_ALL = frozenset({TopicKind.ATTRIBUTIONS, TopicKind.VERDICTS})
_BY_CONSUMER = frozenset({TopicKind.ACKS, TopicKind.REPLAY})
_SYSTEMS = {"changes": TopicKind.SYSTEM_CHANGES, "results": TopicKind.SYSTEM_RESULTS}
_HISTORY = {"request": TopicKind.HISTORY_REQUEST, "answer": TopicKind.HISTORY_ANSWER}
NEW_IN_2 = frozenset(
    {
        TopicKind.STATUS_CHANGES,
        TopicKind.STATUS_REQUEST,
        TopicKind.TIME,
        TopicKind.TIME_REQUEST,
        TopicKind.COUNTERS,
        TopicKind.KEYS,
        TopicKind.KEYS_REQUEST,
        TopicKind.KEYS_ESCROW,
        TopicKind.KEYS_RECEIPTS,
        TopicKind.VERDICTS,
        TopicKind.HISTORY_REQUEST,
        TopicKind.HISTORY_ANSWER,
        TopicKind.SYSTEM_CHANGES,
        TopicKind.SYSTEM_RESULTS,
    }
)
_AFTER_GATEWAY = {
    tuple(kind.value.split("/")): kind
    for kind in TopicKind
    if kind not in {TopicKind.READINGS, TopicKind.BALANCE, *_OF_ALL, *_HISTORY.values(), *_SYSTEMS.values()}
}


@dataclass(frozen=True, slots=True)
class TopicName:
    """A parsed topic: `gateway`, `profile` (readings only) and `account_id` (balance only).

    `consumer` is whose acknowledgement or replay it is, `system` which master system it concerns (version 2 only).
    """

    kind: TopicKind
    gateway: str | None = None
    profile: str | None = None
    account_id: str | None = None
    consumer: str | None = None
    version: TopicVersion = 2
    system: str | None = None


def gateway_name(name: str) -> str:
    """Return `name` back when it may name a gateway; ConfigError says what is allowed."""
    if not _GATEWAY.fullmatch(name) or name in _RESERVED:
        raise ConfigError(
            f"{name!r} cannot name a gateway: use 1 to 64 of A-Z a-z 0-9 . _ - beginning with a letter or "
            f"digit, and not {' or '.join(sorted(_RESERVED))}"
        )
    return name


def topic_level(gateway: str) -> str:
    """Return a gateway's name as topics of version 2 and logins write it: `~` for each `.`; ConfigError as above.

    A `.` is a separator of subjects for brokers that are no MQTT brokers at heart: NATS 2.9 hangs up at it.
    """
    return gateway_name(gateway).replace(".", "~")


@dataclass(frozen=True, slots=True)
class Topics:
    """Builds and parses topics under one root, for example `Topics("kanpur")`.

    `version` is that of the contract whose topics are built; `parse` reads those of both. With `of_consumer` they are
    the topics of what this consumer alone is told again: those below `history/{consumer}` (see `history`).
    """

    root: str
    version: TopicVersion = 2
    of_consumer: str | None = None

    def __post_init__(self) -> None:
        if not _ROOT.fullmatch(self.root):
            raise ConfigError(
                f"{self.root!r} cannot be the root of topics: use levels of A-Z a-z 0-9 . _ - joined by /, "
                "without wildcards"
            )

    @property
    def base(self) -> str:
        """`{root}/v2`."""
        own = "" if self.of_consumer is None else f"/history/{_level(self.of_consumer)}"
        return f"{self.root}/v{self.version}{own}"

    def history(self, consumer: str) -> Topics:
        """Return the topics of what central sends again to one consumer: `history/{consumer}/{gateway}/readings/…`."""
        return replace(self, version=2, of_consumer=consumer)

    def history_request(self, consumer: str) -> str:
        """`history/{consumer}/request`: the broker's access rules bind the consumer."""
        return f"{self.history(consumer).base}/request"

    def history_answer(self, consumer: str) -> str:
        """`history/{consumer}/answer`."""
        return f"{self.history(consumer).base}/answer"

    def of_version(self, version: TopicVersion) -> Topics:
        """Return the topics of that version of the contract under the same root."""
        return Topics(self.root, version)

    def readings(self, gateway: str, profile: str) -> str:
        """`{gateway}/readings/{profile}`."""
        return f"{self._of(gateway)}/readings/{_level(profile)}"

    def events(self, gateway: str) -> str:
        """`{gateway}/events`."""
        return self.of(gateway, TopicKind.EVENTS)

    def gaps(self, gateway: str) -> str:
        """`{gateway}/gaps`."""
        return self.of(gateway, TopicKind.GAPS)

    def status(self, gateway: str) -> str:
        """`{gateway}/status`, retained."""
        return self.of(gateway, TopicKind.STATUS)

    def status_changes(self, gateway: str) -> str:
        """`{gateway}/status/changes`."""
        return self.of(gateway, TopicKind.STATUS_CHANGES)

    def status_request(self, gateway: str) -> str:
        """`{gateway}/status/request`."""
        return self.of(gateway, TopicKind.STATUS_REQUEST)

    def acks(self, gateway: str, consumer: str) -> str:
        """`{gateway}/acks/{consumer}`: the broker's access rules bind the consumer (`{gateway}/acks` in v1)."""
        return self._by_consumer(gateway, TopicKind.ACKS, consumer)

    def replay(self, gateway: str, consumer: str) -> str:
        """`{gateway}/replay/{consumer}` (`{gateway}/replay` in v1)."""
        return self._by_consumer(gateway, TopicKind.REPLAY, consumer)

    def from_consumers(self, gateway: str) -> tuple[str, str]:
        """Return what an edge subscribes to, to hear every consumer's acknowledgements and requests."""
        base = self._of(gateway)
        return f"{base}/acks/+", f"{base}/replay/+"

    def orders(self, gateway: str) -> str:
        """`{gateway}/orders`."""
        return self.of(gateway, TopicKind.ORDERS)

    def order_results(self, gateway: str) -> str:
        """`{gateway}/orders/results`."""
        return self.of(gateway, TopicKind.ORDER_RESULTS)

    def directory(self, gateway: str) -> str:
        """`{gateway}/directory`."""
        return self.of(gateway, TopicKind.DIRECTORY)

    def directory_request(self, gateway: str) -> str:
        """`{gateway}/directory/request`."""
        return self.of(gateway, TopicKind.DIRECTORY_REQUEST)

    def time(self, gateway: str) -> str:
        """`{gateway}/time`."""
        return self.of(gateway, TopicKind.TIME)

    def time_request(self, gateway: str) -> str:
        """`{gateway}/time/request`."""
        return self.of(gateway, TopicKind.TIME_REQUEST)

    def counters(self, gateway: str) -> str:
        """`{gateway}/counters`."""
        return self.of(gateway, TopicKind.COUNTERS)

    def keys(self, gateway: str) -> str:
        """`{gateway}/keys`."""
        return self.of(gateway, TopicKind.KEYS)

    def keys_request(self, gateway: str) -> str:
        """`{gateway}/keys/request`."""
        return self.of(gateway, TopicKind.KEYS_REQUEST)

    def keys_escrow(self, gateway: str) -> str:
        """`{gateway}/keys/escrow`."""
        return self.of(gateway, TopicKind.KEYS_ESCROW)

    def keys_receipts(self, gateway: str) -> str:
        """`{gateway}/keys/receipts`."""
        return self.of(gateway, TopicKind.KEYS_RECEIPTS)

    def verdicts(self) -> str:
        """`verdicts`: central's judgements on times."""
        return f"{self.base}/verdicts"

    def attributions(self) -> str:
        """`attributions`: changes of attribution and naming for billing."""
        return f"{self.base}/attributions"

    def balance(self, account_id: str) -> str:
        """`accounts/{account id}/balance`, retained."""
        return f"{self.base}/accounts/{_level(account_id)}/balance"

    def system_changes(self, system: str) -> str:
        """`systems/{system}/changes`: a master system asks for change sets."""
        return f"{self.base}/systems/{_level(system.replace('.', '~'))}/changes"

    def system_results(self, system: str) -> str:
        """`systems/{system}/results`: what became of them."""
        return f"{self.base}/systems/{_level(system.replace('.', '~'))}/results"

    def of(self, gateway: str, kind: TopicKind) -> str:
        """Build a gateway's topic of a kind that needs nothing else."""
        if tuple(kind.value.split("/")) not in _AFTER_GATEWAY or kind in _BY_CONSUMER:
            raise ConfigError(f"a topic of {kind.value} needs more than the gateway's name")
        return f"{self._of(gateway)}/{kind.value}"

    def filter(self, kind: TopicKind) -> str:
        """Return the subscription that matches the topics of one kind from every gateway."""
        if kind is TopicKind.READINGS:
            return f"{self.base}/+/readings/+"
        if kind in _OF_ALL:
            return f"{self.base}/{kind.value}"
        if kind in _BY_CONSUMER and self.version > 1:
            return f"{self.base}/+/{kind.value}/+"
        if kind is TopicKind.BALANCE:
            return f"{self.base}/accounts/+/balance"
        if kind in _SYSTEMS.values():
            return f"{self.base}/systems/+/{kind.value.removeprefix('systems/')}"
        if kind in _HISTORY.values():
            return f"{self.base}/history/+/{kind.value.removeprefix('history/')}"
        return f"{self.base}/+/{kind.value}"

    def parse(self, topic: str) -> TopicName:
        """Return what a topic is; ContractError when it is none of this contract."""
        if self.of_consumer is not None:
            return self._parse_own(topic, self.of_consumer)
        prefix = f"{self.root}/v"
        version = _VERSIONS.get(topic[len(prefix) : len(prefix) + 2])
        if len(topic) > MAX_TOPIC or not topic.startswith(prefix) or version is None:
            raise ContractError(f"topic {topic[:200]!r} is not under {self.base}/")
        first, *rest = topic[len(prefix) + 2 :].split("/")
        name = _name(first, rest, version)
        if name is None or (version == 1 and name.kind in NEW_IN_2):
            raise ContractError(f"topic {topic[:200]!r} is not in version {version} of the contract")
        return name

    def _parse_own(self, topic: str, consumer: str) -> TopicName:
        """Read a topic below `history/{consumer}`."""
        own, whole = f"{self.base}/", Topics(self.root)
        if not topic.startswith(own):
            raise ContractError(f"topic {topic[:200]!r} is not under {own}")
        rest = topic.removeprefix(own)
        if rest in _HISTORY:
            return TopicName(_HISTORY[rest], consumer=consumer)
        return replace(whole.parse(f"{whole.base}/{rest}"), consumer=consumer)

    def _by_consumer(self, gateway: str, kind: TopicKind, consumer: str) -> str:
        of_gateway = f"{self._of(gateway)}/{kind.value}"
        return of_gateway if self.version == 1 else f"{of_gateway}/{_level(consumer)}"

    def _of(self, gateway: str) -> str:
        level = gateway_name(gateway) if self.version == 1 else topic_level(gateway)
        return f"{self.base}/{level}"


_VERSIONS: dict[str, TopicVersion] = {"1/": 1, "2/": 2}


def _name(first: str, rest: list[str], version: TopicVersion) -> TopicName | None:
    if not rest:
        return next((TopicName(kind, version=version) for kind in _OF_ALL if kind.value == first), None)
    if version > 1 and first == "history" and len(rest) == 2 and rest[1] in _HISTORY:
        return TopicName(_HISTORY[rest[1]], consumer=rest[0]) if _LEVEL.fullmatch(rest[0]) else None
    if version > 1 and first == "systems" and len(rest) == 2 and rest[1] in _SYSTEMS:
        good = _LEVEL.fullmatch(rest[0]) and "." not in rest[0]
        return TopicName(_SYSTEMS[rest[1]], system=rest[0].replace("~", ".")) if good else None
    if first == "accounts" and len(rest) == 2 and rest[1] == "balance" and _LEVEL.fullmatch(rest[0]):
        return TopicName(TopicKind.BALANCE, account_id=rest[0], version=version)
    if version > 1:
        if "." in first:
            return None  # two ways to write one name would be two names for access rules
        first = first.replace("~", ".")
    if not _GATEWAY.fullmatch(first) or first in _RESERVED:
        return None
    if len(rest) == 2 and rest[0] == "readings" and _LEVEL.fullmatch(rest[1]):
        return TopicName(TopicKind.READINGS, gateway=first, profile=rest[1], version=version)
    consumer = None
    if version > 1 and len(rest) == 2 and rest[0] in _BY_CONSUMER:
        consumer = rest.pop()
        if not _LEVEL.fullmatch(consumer):
            return None
    kind = _AFTER_GATEWAY.get(tuple(rest))
    if kind is None or (version > 1 and (kind in _BY_CONSUMER) != (consumer is not None)):
        return None
    return TopicName(kind, gateway=first, consumer=consumer, version=version)


def _level(text: str) -> str:
    if not _LEVEL.fullmatch(text):
        raise ContractError(f"{text[:200]!r} cannot be a level of a topic")
    return text
