"""What can go wrong with a simulated meter: every kind of fault, where it strikes and what its value means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum


class Kind(StrEnum):
    """What can go wrong."""

    # on the wire
    NOISE = "noise"
    NOISE_INSIDE = "noise-inside"
    FLIP = "flip"
    DROP = "drop"
    DUPLICATE = "duplicate"
    DELAY = "delay"
    SPLIT = "split"
    HANG_UP = "hang-up"
    NOT_READY = "not-ready"
    # in the conversation
    REBOOT = "reboot"
    SILENT = "silent"
    ENDLESS = "endless"
    BUSY = "busy"
    RELEASE_SILENT = "release-silent"
    RELEASE_REFUSED = "release-refused"
    LLC_TWICE = "llc-twice"
    AARE_ORDER = "aare-order"
    AARE_MECHANISM = "aare-mechanism"
    AARE_CONFORMANCE = "aare-conformance"
    AARE_ERROR = "aare-error"
    REFUSED_BARE = "refused-bare"
    REFUSED_BAD = "refused-bad"
    BLOCKS_FROM_ZERO = "blocks-from-zero"
    HOSTILE_LENGTH = "hostile-length"
    PLAIN_EXCEPTION = "plain-exception"
    PLAIN_ERROR = "plain-error"
    PLAIN_DATA = "plain-data"
    WRONG_TAG = "wrong-tag"
    EMPTY_TITLE = "empty-title"
    DEDICATED_ONLY = "dedicated-only"
    HLS_ELSEWHERE = "hls-elsewhere"
    ONE_CLIENT = "one-client"
    SMALL_PDU = "small-pdu"
    SMALL_FRAMES = "small-frames"
    # in the model
    DEVIATION = "deviation"
    CLOCK_TYPE = "clock-type"
    MISSING_ROWS = "missing-rows"
    DOUBLE_ROWS = "double-rows"
    TWIN_ROWS = "twin-rows"
    NULL_TIMES = "null-times"
    NULL_COLUMNS = "null-columns"
    COMPACT = "compact"
    NEWEST_FIRST = "newest-first"
    UNSORTED = "unsorted"
    SELECTION_REFUSED = "selection-refused"
    SELECTION_IGNORED = "selection-ignored"
    RANGE_ON_HOUR = "range-on-hour"
    RANGE_EXCLUSIVE = "range-exclusive"
    TRUNCATED = "truncated"
    ZERO_DEMAND_TIME = "zero-demand-time"
    NO_SCALERS = "no-scalers"
    FEW_COLUMNS = "few-columns"
    COLUMNS_CHANGED = "columns-changed"
    ODD_CAPTURES = "odd-captures"
    ODD_OBJECT_LIST = "odd-object-list"
    OTHER_CLASS = "other-class"
    FLAG_TEXT = "flag-text"
    COUNTER_RESET = "counter-reset"
    COUNTER_LOW = "counter-low"
    RELAY_STUCK = "relay-stuck"
    KEEP_OLD_PERIOD = "keep-old-period"


class Place(Enum):
    """Where a fault is applied."""

    WIRE = "wire"
    TALK = "conversation"
    MODEL = "model"


@dataclass(frozen=True, slots=True)
class KindInfo:
    """What a kind means: place, opportunity, meaning of `value` and its default."""

    place: Place
    about: str
    value: int = 0


KINDS: Mapping[Kind, KindInfo] = {
    Kind.NOISE: KindInfo(Place.WIRE, "random octets before an answer; value = how many", 8),
    Kind.NOISE_INSIDE: KindInfo(Place.WIRE, "random octets in the middle of an answer; value = how many", 3),
    Kind.FLIP: KindInfo(Place.WIRE, "one bit of an answer is wrong"),
    Kind.DROP: KindInfo(Place.WIRE, "an answer is lost"),
    Kind.DUPLICATE: KindInfo(Place.WIRE, "an answer comes twice"),
    Kind.DELAY: KindInfo(Place.WIRE, "an answer is late; value = milliseconds", 200),
    Kind.SPLIT: KindInfo(Place.WIRE, "an answer comes in pieces with pauses; value = milliseconds", 5),
    Kind.HANG_UP: KindInfo(Place.WIRE, "half an answer comes, then the connection drops"),
    Kind.NOT_READY: KindInfo(Place.WIRE, "HDLC: receive-not-ready instead of an answer"),
    Kind.REBOOT: KindInfo(Place.TALK, "asked for a further block, the meter forgets everything and hangs up"),
    Kind.SILENT: KindInfo(Place.TALK, "a request draws no answer"),
    Kind.ENDLESS: KindInfo(Place.TALK, "a buffer asked for without selection draws no answer"),
    Kind.BUSY: KindInfo(Place.TALK, "a request draws temporary failure"),
    Kind.RELEASE_SILENT: KindInfo(Place.TALK, "RLRQ draws no answer"),
    Kind.RELEASE_REFUSED: KindInfo(Place.TALK, "RLRQ draws an exception-response"),
    Kind.LLC_TWICE: KindInfo(Place.TALK, "HDLC: the LLC header comes twice"),
    Kind.AARE_ORDER: KindInfo(Place.TALK, "AARE: the system title comes after the challenge"),
    Kind.AARE_MECHANISM: KindInfo(Place.TALK, "AARE: the mechanism's name begins with 85 instead of 60"),
    Kind.AARE_CONFORMANCE: KindInfo(Place.TALK, "AARE grants a wrong conformance; value = its 24 bits"),
    Kind.AARE_ERROR: KindInfo(Place.TALK, "AARQ draws a confirmed-service-error instead of AARE"),
    Kind.REFUSED_BARE: KindInfo(Place.TALK, "AARQ is refused without user information"),
    Kind.REFUSED_BAD: KindInfo(Place.TALK, "AARQ is refused with user information that cannot be read"),
    Kind.BLOCKS_FROM_ZERO: KindInfo(Place.TALK, "blocks are numbered from 0"),
    Kind.HOSTILE_LENGTH: KindInfo(Place.TALK, "a value claims a length of 2^32-1; value 1 = an octet-string"),
    Kind.PLAIN_EXCEPTION: KindInfo(Place.TALK, "a plain exception-response in a ciphered association"),
    Kind.PLAIN_ERROR: KindInfo(Place.TALK, "a plain confirmed-service-error in a ciphered association"),
    Kind.PLAIN_DATA: KindInfo(Place.TALK, "plain data in a ciphered association (must be refused)"),
    Kind.WRONG_TAG: KindInfo(Place.TALK, "a ciphered answer with a wrong authentication tag"),
    Kind.EMPTY_TITLE: KindInfo(Place.TALK, "answers are general-glo with an empty system title"),
    Kind.DEDICATED_ONLY: KindInfo(Place.TALK, "after a dedicated key was sent, global ciphering is an error"),
    Kind.HLS_ELSEWHERE: KindInfo(Place.TALK, "HLS is answered only at the association's own object"),
    Kind.ONE_CLIENT: KindInfo(Place.TALK, "HDLC: another client is refused (DM) until DISC"),
    Kind.SMALL_PDU: KindInfo(Place.TALK, "largest APDU; value = octets", 64),
    Kind.SMALL_FRAMES: KindInfo(Place.TALK, "HDLC: largest information field; value = octets", 32),
    Kind.DEVIATION: KindInfo(
        Place.MODEL, "deviation in every time; value = minutes, -32768 unspecified", -330
    ),
    Kind.CLOCK_TYPE: KindInfo(Place.MODEL, "times come as date-time (tag 25) instead of octet-string"),
    Kind.MISSING_ROWS: KindInfo(Place.MODEL, "every value-th row of a buffer is not there", 5),
    Kind.DOUBLE_ROWS: KindInfo(Place.MODEL, "every value-th row of a buffer is there twice", 4),
    Kind.TWIN_ROWS: KindInfo(Place.MODEL, "every value-th row is followed by another under its stamp", 4),
    Kind.NULL_TIMES: KindInfo(Place.MODEL, "stamps after the first are null-data"),
    Kind.NULL_COLUMNS: KindInfo(Place.MODEL, "cells equal to those of the row before are null-data"),
    Kind.COMPACT: KindInfo(Place.MODEL, "buffers come as compact-array"),
    Kind.NEWEST_FIRST: KindInfo(Place.MODEL, "buffers come newest first, and say so"),
    Kind.UNSORTED: KindInfo(Place.MODEL, "buffers come in no order"),
    Kind.SELECTION_REFUSED: KindInfo(Place.MODEL, "selective access is refused; value = the result code", 3),
    Kind.SELECTION_IGNORED: KindInfo(Place.MODEL, "selective access is ignored: the whole buffer comes"),
    Kind.RANGE_ON_HOUR: KindInfo(Place.MODEL, "a range that is not on the hour is refused"),
    Kind.RANGE_EXCLUSIVE: KindInfo(Place.MODEL, "a range's start is exclusive"),
    Kind.TRUNCATED: KindInfo(Place.MODEL, "at most value rows in one answer, the oldest", 200),
    Kind.ZERO_DEMAND_TIME: KindInfo(Place.MODEL, "the time of a maximum demand has month and day 0"),
    Kind.NO_SCALERS: KindInfo(
        Place.MODEL, "scaler profiles are empty; value 1 = they capture nothing either"
    ),
    Kind.FEW_COLUMNS: KindInfo(Place.MODEL, "profiles capture only the first value columns", 5),
    Kind.COLUMNS_CHANGED: KindInfo(
        Place.MODEL, "as few-columns, after value requests (a firmware update)", 60
    ),
    Kind.ODD_CAPTURES: KindInfo(Place.MODEL, "capture list reversed, with a data index and attribute -1"),
    Kind.ODD_OBJECT_LIST: KindInfo(Place.MODEL, "the object list is in odd order, associations last"),
    Kind.OTHER_CLASS: KindInfo(Place.MODEL, "the billing date is of class 1 in capture lists"),
    Kind.FLAG_TEXT: KindInfo(Place.MODEL, "the firmware's name is full of octets 7E"),
    Kind.COUNTER_RESET: KindInfo(Place.MODEL, "invocation counters fall to 0 (opportunity: an association)"),
    Kind.COUNTER_LOW: KindInfo(Place.MODEL, "counter objects show too little; value = by how much", 1000),
    Kind.RELAY_STUCK: KindInfo(Place.MODEL, "a relay order is accepted and nothing moves"),
    Kind.KEEP_OLD_PERIOD: KindInfo(Place.MODEL, "a new capture period keeps the old history beside it"),
}
