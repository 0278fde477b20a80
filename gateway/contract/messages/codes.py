"""The contract's code lists: every word with its meaning. A list may grow; a word never changes its meaning.

A reader must take a word that it does not know: the schemas name those known today and let others pass.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from pydantic import GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from mapping.directory import Unattributed
from protocols.names import NAMES
from protocols.reading import MissingReason, Quality, RemarkWord

Codes = Mapping[str, str]
"""Word and meaning."""

MISSING_REASONS: Final[Codes] = MappingProxyType(
    {
        MissingReason.NOT_SUPPORTED: "the meter does not have it",
        MissingReason.NOT_MEASURED: "the meter has it and did not measure it",
        MissingReason.METER_REFUSED: "the meter refused to give it",
        MissingReason.METER_SILENT: "the meter did not answer",
        MissingReason.SENTINEL: "the meter gave the value that stands for no value",
        MissingReason.NOT_SPECIFIED: "the meter gave it as not specified",
        MissingReason.NO_DISPLAY: "the meter was told not to show it",
        MissingReason.OUT_OF_RANGE: "the value lies outside what can be",
    }
)
UNATTRIBUTED_REASONS: Final[Codes] = MappingProxyType(
    {
        Unattributed.NO_ACCOUNT: "nobody is known to hold the meter then, or who holds it has no number yet",
        Unattributed.NOT_A_CONSUMER: "the meter stands for no consumer then: vacant, feeder, transformer, stock",
        Unattributed.UNTRUSTED_TIME: "the time of the capture is not trusted; a verdict settles it",
        Unattributed.IDENTITY_MISMATCH: "another meter answered than the one that was expected",
    }
)
QUALITY_CODES: Final[Codes] = MappingProxyType(
    {
        Quality.VALID: "valid",
        Quality.CLOCK_ERROR: "the clock of the meter or gateway was in doubt",
        Quality.TEST_DATA: "test data",
        Quality.CONFIGURATION_CHANGED: "the meter's configuration changed",
        Quality.MANUAL_READ: "read by hand",
        Quality.SUSPECT: "suspect",
        Quality.KNOWN_MISSING: "known to be incomplete",
    }
)
GATEWAY_EVENTS: Final[Codes] = MappingProxyType(
    {
        RemarkWord.FELL: "a register that only grows fell: its values are suspect from here on",
        RemarkWord.JUMPED: "a register grew by more than can have flowed: its values are suspect from here on",
        RemarkWord.ZEROED: "values fell to zero, as after power-up: they are suspect from here on",
        RemarkWord.BEYOND_LIMITS: "values lie beyond what can be: they are suspect from here on",
        RemarkWord.UNSET: "registers have all bits set: their values are suspect from here on",
        RemarkWord.UNREADABLE: "what should be numbers are none: the values are missing from here on",
        RemarkWord.MODEL_DOUBTED: "the model's probe does not fit: the values are suspect from here on",
        RemarkWord.RETURNED: "values are believed again",
        RemarkWord.ROLLED_OVER: "a register began again at zero after its last number",
        RemarkWord.WENT_BACK: "a register stayed at a lower value, which is believed from here on",
        RemarkWord.WENT_AHEAD: "a register stayed at a far higher value, which is believed from here on",
        RemarkWord.METER_CHANGED: "another meter answers: what was read since the last proof is nobody's",
        RemarkWord.METER_UPDATED: "a meter without a serial shows another mark, and its energy goes on: the same meter",
        RemarkWord.CLOCK_CORRECTED: "the gateway moved the meter's clock: how far it was ahead before, and is now",
        RemarkWord.CLOCK_NOT_CORRECTED: "the meter did not take a correction of its clock, or made another time of it",
    }
)
GAP_REASONS: Final[Codes] = MappingProxyType(
    {
        "not_in_meter": "the meter's memory gave no rows of this span",
        "not_read": "the meter was not read when it was due; what it keeps is read when it answers again",
        "no_memory": "what was not read when it was due; the meter keeps none of it: it never comes",
        "refused_entry": "an entry that was refused for good; the gap stands under its number",
        "damaged_entry": "an entry that was damaged in the edge's file; the gap stands under its number",
    }
)
ALARM_CODES: Final[Codes] = MappingProxyType(
    {
        "ack_refused": "an acknowledgement was refused: of a stranger, or above the journal's end",
        "backlog": "many entries wait for the broker",
        "capture_list_full": "the list of captures is at its bound and forgets some that a meter may still hold",
        "message_refused": "the broker does not take messages on a topic, or grant a subscription; all others go on",
        "lost_on_the_way": "the broker takes entries and does not deliver them: its access rules or limits drop them",
        "captures_revised": "what a meter stored was read again and is not what it had been: revisions were delivered",
        "captures_refused": "captures were refused since they lie where the list of captures was forgotten",
        "clock_drift": "clocks of meters are further off than is corrected by itself: they are set by order",
        "clock_not_corrected": "meters did not take a correction of their clock",
        "counter_not_believed": "a meter showed an invocation counter far above ours, which was not followed",
        "dead_letters": "a peer refused entries for good",
        "disk_low": "the disk of the journal is nearly full",
        "disk_reserve_missing": "the reserve that lets a full disk heal could not be made",
        "field_work": "a line is lent to field work for long: its meters wait",
        "influx": "InfluxDB cannot be written",
        "influx_skipped": "InfluxDB was away for so long that entries were given up for it; billing has them",
        "journal_entry_damaged": "an entry of the journal does not have its checksum",
        "journal_file_lost": "the journal's file was deleted or damaged under the running edge",
        "journal_floor_short": "acknowledged entries go before their days are over: a bound is too small",
        "journal_full": "the journal is at its bound or its disk is full: nothing is read",
        "journal_quarantined": "a damaged journal was put aside; the edge goes on with what could be saved",
        "journal_set_back": "the journal is an older copy of itself and goes on under another name",
        "meter_silent": "a meter does not answer",
        "no_directory": "no part of the directory has come from central yet",
        "not_acknowledged": "a consumer has not acknowledged for long",
        "push_refused": "pushed messages were refused",
        "reading_paused": "no meter is read",
        "reload_refused": "a changed configuration was not taken: it has mistakes, and the edge goes on as before",
        "status_refused": "the broker does not take the status",
        "too_few_files": "the operating system allows too few open files for these meters",
        "twin": "two gateways run under one name",
    }
)
UNITS: Final[Codes] = MappingProxyType(
    {
        "a": "years",
        "mo": "months",
        "wk": "weeks",
        "d": "days",
        "h": "hours",
        "min": "minutes",
        "s": "seconds",
        "deg": "degrees of angle",
        "degC": "degrees Celsius",
        "INR": "Indian rupees",
        "m": "metres",
        "m/s": "metres a second",
        "m3": "cubic metres",
        "l": "litres",
        "kg": "kilograms",
        "N": "newtons",
        "Nm": "newton metres",
        "Pa": "pascals",
        "bar": "bars",
        "J": "joules",
        "J/h": "joules an hour",
        "W": "watts, active power",
        "VA": "volt-amperes, apparent power",
        "var": "reactive power",
        "Wh": "watt hours, active energy",
        "VAh": "volt-ampere hours, apparent energy",
        "varh": "reactive energy",
        "A": "amperes",
        "C": "coulombs",
        "V": "volts",
        "V/m": "volts a metre",
        "F": "farads",
        "ohm": "ohms",
        "H": "henries",
        "Hz": "hertz",
        "V2h": "volt-squared hours",
        "A2h": "ampere-squared hours",
        "K": "kelvins",
        "%": "per cent",
        "Ah": "ampere hours",
        "dBm": "decibels over a milliwatt",
        "dBuV": "decibels over a microvolt",
        "dB": "decibels",
    }
)
"""Units of values: decimal, not scaled (`Wh`, never `kWh`). Another code of a meter is `unit(N)`."""


def _quantity_names() -> Codes:
    found: dict[str, str] = {}
    for quantity, name in NAMES.items():
        found[name] = f"{found[name]}, {quantity}" if name in found else quantity
    return MappingProxyType(found)


QUANTITY_NAMES: Final[Codes] = _quantity_names()
"""Names of quantities with the OBIS codes that bear them; a quantity without a name is named by its code."""

CODE_LISTS: Final[Mapping[str, Codes]] = MappingProxyType(
    {
        "alarm_code": ALARM_CODES,
        "gap_reason": GAP_REASONS,
        "gateway_event": GATEWAY_EVENTS,
        "missing_reason": MISSING_REASONS,
        "quality_code": QUALITY_CODES,
        "quantity_name": QUANTITY_NAMES,
        "unattributed_reason": UNATTRIBUTED_REASONS,
        "unit": UNITS,
    }
)


@dataclass(frozen=True, slots=True)
class FromList:
    """Puts a code list into the schema of a text: each word with its meaning, and others that look alike."""

    codes: Codes

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {"anyOf": [*words(self.codes), handler(schema)]}

    def __hash__(self) -> int:
        return id(self.codes)


def words(codes: Codes) -> list[dict[str, Any]]:
    """Return a code list as JSON Schema has it."""
    return [{"const": str(word), "description": meaning} for word, meaning in codes.items()]
