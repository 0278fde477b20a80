"""The topics of the contract under `{root}/v1`: built, parsed and filtered in one place."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from gateway.errors import ConfigError, ContractError

VERSION_LEVEL = "v1"
MAX_TOPIC = 1024
"""Longest topic that is looked at, in characters."""

_GATEWAY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
_LEVEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:~-]{0,127}", re.ASCII)
_ROOT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*", re.ASCII)
_RESERVED = frozenset({"attributions", "accounts"})


class TopicKind(StrEnum):
    """What travels on a topic."""

    READINGS = "readings"
    EVENTS = "events"
    GAPS = "gaps"
    STATUS = "status"
    ACKS = "acks"
    REPLAY = "replay"
    ORDERS = "orders"
    ORDER_RESULTS = "orders/results"
    DIRECTORY = "directory"
    DIRECTORY_REQUEST = "directory/request"
    ATTRIBUTIONS = "attributions"
    BALANCE = "balance"


_AFTER_GATEWAY = {
    tuple(kind.value.split("/")): kind
    for kind in TopicKind
    if kind not in {TopicKind.READINGS, TopicKind.ATTRIBUTIONS, TopicKind.BALANCE}
}


@dataclass(frozen=True, slots=True)
class TopicName:
    """A parsed topic: `gateway`, `profile` (readings only) and `account_id` (balance only)."""

    kind: TopicKind
    gateway: str | None = None
    profile: str | None = None
    account_id: str | None = None


def gateway_name(name: str) -> str:
    """Return `name` back when it may name a gateway; ConfigError says what is allowed."""
    if not _GATEWAY.fullmatch(name) or name in _RESERVED:
        raise ConfigError(
            f"{name!r} cannot name a gateway: use 1 to 64 of A-Z a-z 0-9 . _ - beginning with a letter or "
            f"digit, and not {' or '.join(sorted(_RESERVED))}"
        )
    return name


@dataclass(frozen=True, slots=True)
class Topics:
    """Builds and parses topics under one root, for example `Topics("kanpur")`."""

    root: str

    def __post_init__(self) -> None:
        if not _ROOT.fullmatch(self.root):
            raise ConfigError(
                f"{self.root!r} cannot be the root of topics: use levels of A-Z a-z 0-9 . _ - joined by /, "
                "without wildcards"
            )

    @property
    def base(self) -> str:
        """`{root}/v1`."""
        return f"{self.root}/{VERSION_LEVEL}"

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

    def acks(self, gateway: str) -> str:
        """`{gateway}/acks`."""
        return self.of(gateway, TopicKind.ACKS)

    def replay(self, gateway: str) -> str:
        """`{gateway}/replay`."""
        return self.of(gateway, TopicKind.REPLAY)

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

    def attributions(self) -> str:
        """`attributions`: changes of attribution and naming for billing."""
        return f"{self.base}/attributions"

    def balance(self, account_id: str) -> str:
        """`accounts/{account id}/balance`, retained."""
        return f"{self.base}/accounts/{_level(account_id)}/balance"

    def of(self, gateway: str, kind: TopicKind) -> str:
        """Build a gateway's topic of a kind that needs nothing else."""
        if tuple(kind.value.split("/")) not in _AFTER_GATEWAY:
            raise ConfigError(f"a topic of {kind.value} needs more than the gateway's name")
        return f"{self._of(gateway)}/{kind.value}"

    def filter(self, kind: TopicKind) -> str:
        """Return the subscription that matches the topics of one kind from every gateway."""
        if kind is TopicKind.READINGS:
            return f"{self.base}/+/readings/+"
        if kind is TopicKind.ATTRIBUTIONS:
            return self.attributions()
        if kind is TopicKind.BALANCE:
            return f"{self.base}/accounts/+/balance"
        return f"{self.base}/+/{kind.value}"

    def parse(self, topic: str) -> TopicName:
        """Return what a topic is; ContractError when it is none of this contract."""
        prefix = f"{self.base}/"
        if len(topic) > MAX_TOPIC or not topic.startswith(prefix):
            raise ContractError(f"topic {topic[:200]!r} is not under {prefix}")
        first, *rest = topic[len(prefix) :].split("/")
        if first == "attributions" and not rest:
            return TopicName(TopicKind.ATTRIBUTIONS)
        if first == "accounts" and len(rest) == 2 and rest[1] == "balance" and _LEVEL.fullmatch(rest[0]):
            return TopicName(TopicKind.BALANCE, account_id=rest[0])
        if _GATEWAY.fullmatch(first) and first not in _RESERVED:
            if len(rest) == 2 and rest[0] == "readings" and _LEVEL.fullmatch(rest[1]):
                return TopicName(TopicKind.READINGS, gateway=first, profile=rest[1])
            if kind := _AFTER_GATEWAY.get(tuple(rest)):
                return TopicName(kind, gateway=first)
        raise ContractError(f"topic {topic[:200]!r} is not in version 1 of the contract")

    def _of(self, gateway: str) -> str:
        return f"{self.base}/{gateway_name(gateway)}"


def _level(text: str) -> str:
    if not _LEVEL.fullmatch(text):
        raise ContractError(f"{text[:200]!r} cannot be a level of a topic")
    return text
