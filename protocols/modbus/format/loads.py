"""Load surveys in a meter's memory: records of equal length, each with its time, in registers or in a file."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import timedelta
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from protocols.modbus.format.encoding import NO_NUMBERS, TIMES, Address, Encoding, Int, ModelTable
from protocols.modbus.format.registers import Scaled, unknown_scales
from protocols.modbus.format.units import expected_unit
from protocols.reading import Quantity
from protocols.toml_lines import Path as Trail

FILE_RECORD = 20
"""Function "read file record": at most 122 registers fit into an answer, as its sub-answers have heads of their own."""
MAX_RECORDS = 65_536

Offset = Annotated[Int, Field(ge=0, le=124)]


class LogTime(Encoding):
    """The time of a record."""

    offset: Offset = Field(description="where it begins in the record, in registers")

    @model_validator(mode="after")
    def _time(self) -> Self:
        if self.type not in TIMES:
            raise ValueError(f"the time of a record is of type {', '.join(TIMES)}, not {self.type}")
        return self


class LogValue(Scaled):
    """One quantity of a record."""

    quantity: str = Field(description="OBIS code of the interval's value, `1-0:1.29.0*255`")
    offset: Offset = Field(description="where it begins in the record, in registers")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        wanted = expected_unit(Quantity.of(self.quantity))
        if wanted is not None and self.base_unit != wanted:
            raise ValueError(f"{self.quantity} is in {wanted or 'no unit'}; `unit` says `{self.unit}`")
        if self.type in (*NO_NUMBERS, "bit") or self.plus:
            raise ValueError("a value of a record is a number, without `plus`")
        return self


class LogHead(Encoding):
    """The register that says where the newest record is, or how many there are."""

    function: Literal[3, 4] = Field(description="3 holding, 4 input registers")
    address: Address = Field(description="0-based, as on the wire")

    @model_validator(mode="after")
    def _number(self) -> Self:
        if self.type not in ("u16", "u32"):
            raise ValueError(f"a number of records is u16 or u32, not {self.type}")
        return self


class LoadLog(ModelTable):
    """The load survey (profile `block_load`)."""

    function: Literal[3, 4, 20] = Field(description="3 or 4 registers, 20 records of a file")
    file: Annotated[Int, Field(ge=1, le=0xFFFF)] | None = Field(
        None, description="file number of function 20"
    )
    address: Address = Field(
        description="of the first record; with function 20 the record number in the file"
    )
    record: Annotated[Int, Field(ge=1, le=122)] = Field(description="registers of a record")
    stride: Annotated[Int, Field(ge=1, le=1000)] | None = Field(
        None, description="from one record to the next, in addresses, where that is not `record`"
    )
    records: Annotated[Int, Field(ge=1, le=MAX_RECORDS)] = Field(description="how many the memory holds")
    period: Annotated[Int, Field(ge=60, le=86_400)] = Field(description="seconds of an interval")
    stamp: Literal["end", "start"] = Field(
        "end", description="which end of the interval the time of a record is"
    )
    order: Literal["newest_first", "ring"] = Field(
        "ring",
        description="whether the first record is always the newest, or records stay where they were written",
    )
    newest: LogHead | None = Field(
        None, description="the register that has the number of a ring's newest record"
    )
    newest_from: Literal[0, 1] = Field(
        0, description="the number of the first record, as `newest` counts them"
    )
    newest_is_next: bool = Field(False, description="`newest` shows where the next record will be written")
    filled: LogHead | None = Field(None, description="the register that says how many records there are")
    time: LogTime = Field(description="the time of a record")
    values: tuple[LogValue, ...] = Field(
        min_length=1, max_length=32, description="the quantities of a record"
    )

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.function == FILE_RECORD) != (self.file is not None):
            raise ValueError("function 20 needs `file`, and no other function has one")
        if self.step < self.record and self.function != FILE_RECORD:
            raise ValueError(f"`stride` = {self.step} is less than the {self.record} registers of a record")
        if (
            self.address + self.step * (self.records - 1) + (self.record if self.file is None else 1)
            > 0x10000
        ):
            raise ValueError(f"{self.records} records from {self.address} pass the last address 65535")
        cells: list[LogTime | LogValue] = [self.time, *self.values]
        for cell in cells:
            if cell.offset + cell.size > self.record:
                raise ValueError(
                    f"a value of {cell.size} registers at {cell.offset} passes the record's {self.record}"
                )
        if self.order == "newest_first" and self.newest is not None:
            raise ValueError("`newest` is for a ring: with newest_first the newest record is the first")
        seen = [str(Quantity.of(value.quantity)) for value in self.values]
        if len(set(seen)) < len(seen):
            raise ValueError("two `values` of one quantity")
        return self

    def faults(self, max_read: int, scales: Collection[str]) -> Iterator[tuple[Trail, str]]:
        """Yield where and what does not fit the model that it is of."""
        if self.record > max_read and self.function != FILE_RECORD:
            yield ("log", "record"), f"{self.record} registers exceed max_read = {max_read}"
        for number, value in enumerate(self.values):
            for key, problem in unknown_scales(value, scales):
                yield ("log", "values", number, key), problem

    @property
    def length(self) -> timedelta:
        """How long an interval is."""
        return timedelta(seconds=self.period)

    @property
    def step(self) -> int:
        """Addresses from one record to the next."""
        return self.stride or self.record
