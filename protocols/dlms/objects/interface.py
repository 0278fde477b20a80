"""Interface classes as declarations: an object has typed attributes and methods, each a request and its parser.

`Register(obis).value` is sans-IO: it makes requests and parses answers. Given an exchange, as
`Register(obis, exchange)`, the same attribute is read and written with `get` and `set`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Generic, Protocol, TypeVar, overload

from protocols.dlms.apdu.fields import Selection
from protocols.dlms.apdu.lists import Target
from protocols.dlms.apdu.services import ActionRequest, GetRequest, SetRequest
from protocols.dlms.data.types import Data, integer
from protocols.dlms.objects.catalogue import (
    UNNAMED,
    attribute_named,
    class_name,
    method_named,
    newest_version,
)
from protocols.dlms.objects.codec import Codec, Where
from protocols.errors import LocalError
from protocols.reading import Obis

T = TypeVar("T")


class Access(Protocol):
    """An association as the objects see it; `Exchange` is one."""

    async def get(self, target: Target) -> Data:
        """Read one attribute."""

    async def set(self, target: Target, value: Data) -> None:
        """Write one attribute."""

    async def action(self, target: Target, parameter: Data) -> Data | None:
        """Run one method."""


class CosemObject:
    """An object of an interface class at an OBIS code, perhaps reached through an exchange.

    A subclass declares CLASS_ID, attributes and methods under their catalogue names; nothing inherits from
    a subclass. `version` None stands for the newest version in the catalogue.
    """

    CLASS_ID: ClassVar[int]

    def __init__(self, obis: Obis, exchange: Access | None = None, *, version: int | None = None) -> None:
        self.obis = obis
        self.exchange = exchange
        self.version = newest_version(self.CLASS_ID) if version is None else version

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.obis})"


@dataclass(frozen=True, slots=True)
class AttributeRef(Generic[T]):
    """One attribute of one object: what to ask for, and how to read the answer."""

    class_id: int
    obis: Obis
    number: int
    name: str
    where: Where
    codec: Codec[T] = field(repr=False)
    exchange: Access | None = field(default=None, repr=False)

    def request(self, selection: Selection | None = None) -> GetRequest:
        """Return the GET request."""
        return GetRequest(target=Target(self.class_id, self.obis, self.number, selection))

    def set_request(self, value: T) -> SetRequest:
        """Return the SET request; LocalError when the value does not fit."""
        return SetRequest(target=Target(self.class_id, self.obis, self.number), value=self.build(value))

    def parse(self, data: Data) -> T:
        """Read the value; MeterProtocolError names class, attribute, what was expected and got."""
        return self.codec.parse(data, self.where)

    def build(self, value: T) -> Data:
        """Return the value to send; LocalError when it does not fit."""
        return self.codec.build(value)

    async def data(self, selection: Selection | None = None) -> Data:
        """Read the attribute and leave it as it came; raises what the exchange raises."""
        return await reached(self.exchange).get(Target(self.class_id, self.obis, self.number, selection))

    async def get(self, selection: Selection | None = None) -> T:
        """Read and parse the attribute; raises what the exchange raises, and MeterProtocolError."""
        return self.parse(await self.data(selection))

    async def set(self, value: T) -> None:
        """Write the attribute; raises what the exchange raises, and LocalError."""
        await reached(self.exchange).set(Target(self.class_id, self.obis, self.number), self.build(value))


@dataclass(frozen=True, slots=True)
class MethodRef(Generic[T]):
    """One method of one object."""

    class_id: int
    obis: Obis
    number: int
    name: str
    where: Where
    codec: Codec[T] = field(repr=False)
    exchange: Access | None = field(default=None, repr=False)

    def request(self, parameter: T) -> ActionRequest:
        """Return the ACTION request; LocalError when the parameter does not fit."""
        return ActionRequest(
            target=Target(self.class_id, self.obis, self.number), parameter=self.codec.build(parameter)
        )

    def parse(self, data: Data) -> T:
        """Read a parameter, as the meter's side does."""
        return self.codec.parse(data, self.where)

    async def run(self, parameter: T) -> Data | None:
        """Run the method; returns what it returns; raises what the exchange raises."""
        exchange = reached(self.exchange)
        return await exchange.action(
            Target(self.class_id, self.obis, self.number), self.codec.build(parameter)
        )


def reached(exchange: Access | None) -> Access:
    """Return the exchange; LocalError when an object was made without one."""
    if exchange is None:
        raise LocalError(
            "this object was made without an exchange: it makes requests and parses answers only"
        )
    return exchange


class Attribute(Generic[T]):
    """Declares an attribute by its catalogue name: its codec, and those of later versions that differ."""

    def __init__(self, codec: Codec[T], *, later: Mapping[int, Codec[T]] | None = None) -> None:
        self._codecs = {0: codec, **(later or {})}
        self.member = UNNAMED

    def __set_name__(self, owner: type[CosemObject], name: str) -> None:
        self.member = attribute_named(owner.CLASS_ID, name)

    def codec(self, version: int) -> Codec[T]:
        """Return the codec that a version of the class has."""
        return self._codecs[max(v for v in self._codecs if v <= max(version, 0))]

    @overload
    def __get__(self, instance: None, owner: type) -> Attribute[T]: ...
    @overload
    def __get__(self, instance: CosemObject, owner: type) -> AttributeRef[T]: ...
    def __get__(self, instance: CosemObject | None, owner: type) -> Attribute[T] | AttributeRef[T]:
        if instance is None:
            return self
        number, name = self.member.number, self.member.name
        return AttributeRef(
            instance.CLASS_ID,
            instance.obis,
            number,
            name,
            Where(f"{class_name(instance.CLASS_ID)} {instance.obis} #{number} {name}"),
            self.codec(instance.version),
            instance.exchange,
        )


class Method(Generic[T]):
    """Declares a method by its catalogue name: the codec of its parameter."""

    def __init__(self, codec: Codec[T]) -> None:
        self.codec = codec
        self.member = UNNAMED

    def __set_name__(self, owner: type[CosemObject], name: str) -> None:
        self.member = method_named(owner.CLASS_ID, name)

    @overload
    def __get__(self, instance: None, owner: type) -> Method[T]: ...
    @overload
    def __get__(self, instance: CosemObject, owner: type) -> MethodRef[T]: ...
    def __get__(self, instance: CosemObject | None, owner: type) -> Method[T] | MethodRef[T]:
        if instance is None:
            return self
        number, name = self.member.number, self.member.name
        return MethodRef(
            instance.CLASS_ID,
            instance.obis,
            number,
            name,
            Where(f"{class_name(instance.CLASS_ID)} {instance.obis} method {number} {name}"),
            self.codec,
            instance.exchange,
        )


NOTHING: Codec[None] = Codec(
    kind="nothing", parse=lambda _data, _where: None, build=lambda _: integer(0), show=lambda _: None
)
"""The parameter of a method that needs none: integer 0 is sent; whatever comes is taken, as meters do."""
