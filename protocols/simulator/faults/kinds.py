"""What can go wrong with a simulated meter: every kind of fault, where it strikes and what its value means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum


class FaultKind(StrEnum):
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
    CLOSES_AFTER_RLRE = "closes-after-rlre"
    CLOSES_AFTER_DISC = "closes-after-disc"
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
    ACTION_UNANSWERED = "action-unanswered"
    ACTION_CUT = "action-cut"
    ONE_CLIENT = "one-client"
    SMALL_PDU = "small-pdu"
    SMALL_FRAMES = "small-frames"
    WRITE_UNANSWERED = "write-unanswered"
    LEFT_OVER = "left-over"
    # in the model
    CLOCK_SIGN = "clock-sign"
    CLOCK_ADDS = "clock-adds"
    CLOCK_STUCK = "clock-stuck"
    CLOCK_SLOW = "clock-slow"
    DEVIATION = "deviation"
    CLOCK_TYPE = "clock-type"
    SWAPPED_MONEY = "swapped-money"
    MISSING_ROWS = "missing-rows"
    DOUBLE_ROWS = "double-rows"
    TWIN_ROWS = "twin-rows"
    NULL_TIMES = "null-times"
    NULL_COLUMNS = "null-columns"
    DELTAS = "deltas"
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
    PUSH_COUNTER_RESET = "push-counter-reset"
    PUSH_COUNTER_STUCK = "push-counter-stuck"
    RELAY_STUCK = "relay-stuck"
    KEEP_OLD_PERIOD = "keep-old-period"
    KEYS_REFUSED = "keys-refused"
    KEYS_PARTLY = "keys-partly"
    KEYS_LATE = "keys-late"
    IMAGE_BLOCK_REFUSED = "image-block-refused"
    IMAGE_BLOCK_LOST = "image-block-lost"
    IMAGE_FORGETS = "image-forgets"
    IMAGE_BLOCK_SIZE = "image-block-size"
    IMAGE_VERIFY_BUSY = "image-verify-busy"
    IMAGE_NOT_VERIFIED = "image-not-verified"
    IMAGE_WRONG_NAME = "image-wrong-name"
    IMAGE_ACTIVATES_ITSELF = "image-activates-itself"
    IMAGE_ACTIVATION_FAILS = "image-activation-fails"
    IMAGE_NEVER_ACTIVATES = "image-never-activates"
    IMAGE_ACTIVATES_LATE = "image-activates-late"
    IMAGE_ROLLS_BACK = "image-rolls-back"
    # of Modbus meters
    ECHO = "echo"
    LEAD_IN = "lead-in"
    FOREIGN_UNIT = "foreign-unit"
    SECOND_MASTER = "second-master"
    OWN_TRANSACTION = "own-transaction"
    OWN_UNIT = "own-unit"
    CLOSES = "closes"
    DEAF = "deaf"
    DEAF_AFTER_OTHERS = "deaf-after-others"
    EXCEPTION = "exception"
    HOLES_SILENT = "holes-silent"
    ZEROS = "zeros"
    WORD_ORDER = "word-order"
    ENERGY_OFF = "energy-off"
    WRITE_REFUSED = "write-refused"
    CREDIT_STUCK = "credit-stuck"


class Place(Enum):
    """Where a fault is applied."""

    WIRE = "wire"
    CONVERSATION = "conversation"
    MODEL = "model"
    PUSH = "push"
    MODBUS = "modbus"


@dataclass(frozen=True, slots=True)
class FaultKindInfo:
    """What a kind means: place, opportunity, meaning of `value` and its default."""

    place: Place
    about: str
    value: int = 0


FAULT_KINDS: Mapping[FaultKind, FaultKindInfo] = {
    FaultKind.NOISE: FaultKindInfo(Place.WIRE, "random octets before an answer; value = how many", 8),
    FaultKind.NOISE_INSIDE: FaultKindInfo(
        Place.WIRE, "random octets in the middle of an answer; value = how many", 3
    ),
    FaultKind.FLIP: FaultKindInfo(Place.WIRE, "one bit of an answer is wrong"),
    FaultKind.DROP: FaultKindInfo(Place.WIRE, "an answer is lost"),
    FaultKind.DUPLICATE: FaultKindInfo(Place.WIRE, "an answer comes twice"),
    FaultKind.DELAY: FaultKindInfo(Place.WIRE, "an answer is late; value = milliseconds", 200),
    FaultKind.SPLIT: FaultKindInfo(
        Place.WIRE, "an answer comes in pieces with pauses; value = milliseconds", 5
    ),
    FaultKind.HANG_UP: FaultKindInfo(Place.WIRE, "half an answer comes, then the connection drops"),
    FaultKind.NOT_READY: FaultKindInfo(Place.WIRE, "HDLC: receive-not-ready instead of an answer"),
    FaultKind.CLOSES_AFTER_RLRE: FaultKindInfo(
        Place.WIRE,
        "TCP is closed after RLRE; value 1 = only the meter's direction (FIN), and it stays deaf",
        0,
    ),
    FaultKind.CLOSES_AFTER_DISC: FaultKindInfo(
        Place.WIRE, "HDLC over TCP: closed after the UA to DISC; value 1 = only the meter's direction", 0
    ),
    FaultKind.REBOOT: FaultKindInfo(
        Place.CONVERSATION, "asked for a further block, the meter forgets everything and hangs up"
    ),
    FaultKind.SILENT: FaultKindInfo(Place.CONVERSATION, "a request draws no answer"),
    FaultKind.ENDLESS: FaultKindInfo(
        Place.CONVERSATION, "a buffer asked for without selection draws no answer"
    ),
    FaultKind.BUSY: FaultKindInfo(Place.CONVERSATION, "a request draws temporary failure"),
    FaultKind.RELEASE_SILENT: FaultKindInfo(Place.CONVERSATION, "RLRQ draws no answer"),
    FaultKind.RELEASE_REFUSED: FaultKindInfo(Place.CONVERSATION, "RLRQ draws an exception-response"),
    FaultKind.LLC_TWICE: FaultKindInfo(Place.CONVERSATION, "HDLC: the LLC header comes twice"),
    FaultKind.AARE_ORDER: FaultKindInfo(
        Place.CONVERSATION, "AARE: the system title comes after the challenge"
    ),
    FaultKind.AARE_MECHANISM: FaultKindInfo(
        Place.CONVERSATION, "AARE: the mechanism's name begins with 85 instead of 60"
    ),
    FaultKind.AARE_CONFORMANCE: FaultKindInfo(
        Place.CONVERSATION, "AARE grants a wrong conformance; value = its 24 bits"
    ),
    FaultKind.AARE_ERROR: FaultKindInfo(
        Place.CONVERSATION, "AARQ draws a confirmed-service-error instead of AARE"
    ),
    FaultKind.REFUSED_BARE: FaultKindInfo(Place.CONVERSATION, "AARQ is refused without user information"),
    FaultKind.REFUSED_BAD: FaultKindInfo(
        Place.CONVERSATION, "AARQ is refused with user information that cannot be read"
    ),
    FaultKind.BLOCKS_FROM_ZERO: FaultKindInfo(Place.CONVERSATION, "blocks are numbered from 0"),
    FaultKind.HOSTILE_LENGTH: FaultKindInfo(
        Place.CONVERSATION, "a value claims a length of 2^32-1; value 1 = an octet-string"
    ),
    FaultKind.PLAIN_EXCEPTION: FaultKindInfo(
        Place.CONVERSATION, "a plain exception-response in a ciphered association"
    ),
    FaultKind.PLAIN_ERROR: FaultKindInfo(
        Place.CONVERSATION, "a plain confirmed-service-error in a ciphered association"
    ),
    FaultKind.PLAIN_DATA: FaultKindInfo(
        Place.CONVERSATION, "plain data in a ciphered association (must be refused)"
    ),
    FaultKind.WRONG_TAG: FaultKindInfo(
        Place.CONVERSATION, "a ciphered answer with a wrong authentication tag"
    ),
    FaultKind.EMPTY_TITLE: FaultKindInfo(
        Place.CONVERSATION, "answers are general-glo with an empty system title"
    ),
    FaultKind.DEDICATED_ONLY: FaultKindInfo(
        Place.CONVERSATION, "after a dedicated key was sent, global ciphering is an error"
    ),
    FaultKind.HLS_ELSEWHERE: FaultKindInfo(
        Place.CONVERSATION, "HLS is answered only at the association's own object"
    ),
    FaultKind.ACTION_UNANSWERED: FaultKindInfo(
        Place.CONVERSATION, "a method or write is carried out and draws no answer"
    ),
    FaultKind.ACTION_CUT: FaultKindInfo(
        Place.CONVERSATION, "a method or write is carried out, then the power fails: the connection drops"
    ),
    FaultKind.ONE_CLIENT: FaultKindInfo(
        Place.CONVERSATION, "HDLC: another client is refused (DM) until DISC"
    ),
    FaultKind.SMALL_PDU: FaultKindInfo(Place.CONVERSATION, "largest APDU; value = octets", 64),
    FaultKind.SMALL_FRAMES: FaultKindInfo(
        Place.CONVERSATION, "HDLC: largest information field; value = octets", 32
    ),
    FaultKind.WRITE_UNANSWERED: FaultKindInfo(
        Place.CONVERSATION, "SET draws no answer; value 1 = it is carried out all the same", 1
    ),
    FaultKind.LEFT_OVER: FaultKindInfo(
        Place.CONVERSATION, "octets are left over behind each answer; value = how many", 3
    ),
    FaultKind.CLOCK_SIGN: FaultKindInfo(
        Place.MODEL,
        "a clock that is set takes the deviation by its sign, whatever it shows; value 1 = minutes from UTC, "
        "-1 = to UTC (Blue Book)",
        -1,
    ),
    FaultKind.CLOCK_ADDS: FaultKindInfo(Place.MODEL, "a clock that is set goes wrong by value seconds", 3600),
    FaultKind.CLOCK_STUCK: FaultKindInfo(Place.MODEL, "a clock that is set says yes and goes on as before"),
    FaultKind.CLOCK_SLOW: FaultKindInfo(
        Place.MODEL, "a clock that is set moves by value seconds at most", 900
    ),
    FaultKind.DEVIATION: FaultKindInfo(
        Place.MODEL, "deviation in every time; value = minutes, -32768 unspecified", -330
    ),
    FaultKind.CLOCK_TYPE: FaultKindInfo(
        Place.MODEL, "times come as date-time (tag 25) instead of octet-string"
    ),
    FaultKind.SWAPPED_MONEY: FaultKindInfo(
        Place.MODEL, "prepayment: dates stand where amounts belong, amounts where dates do"
    ),
    FaultKind.MISSING_ROWS: FaultKindInfo(Place.MODEL, "every value-th row of a buffer is not there", 5),
    FaultKind.DOUBLE_ROWS: FaultKindInfo(Place.MODEL, "every value-th row of a buffer is there twice", 4),
    FaultKind.TWIN_ROWS: FaultKindInfo(
        Place.MODEL, "every value-th row is followed by another under its stamp", 4
    ),
    FaultKind.NULL_TIMES: FaultKindInfo(Place.MODEL, "stamps after the first are null-data"),
    FaultKind.NULL_COLUMNS: FaultKindInfo(
        Place.MODEL, "cells equal to those of the row before are null-data"
    ),
    FaultKind.DELTAS: FaultKindInfo(Place.MODEL, "numbers are written as their change since the row before"),
    FaultKind.COMPACT: FaultKindInfo(Place.MODEL, "buffers come as compact-array"),
    FaultKind.NEWEST_FIRST: FaultKindInfo(Place.MODEL, "buffers come newest first, and say so"),
    FaultKind.UNSORTED: FaultKindInfo(Place.MODEL, "buffers come in no order"),
    FaultKind.SELECTION_REFUSED: FaultKindInfo(
        Place.MODEL, "selective access is refused; value = the result code", 3
    ),
    FaultKind.SELECTION_IGNORED: FaultKindInfo(
        Place.MODEL, "selective access is ignored: the whole buffer comes"
    ),
    FaultKind.RANGE_ON_HOUR: FaultKindInfo(Place.MODEL, "a range that is not on the hour is refused"),
    FaultKind.RANGE_EXCLUSIVE: FaultKindInfo(Place.MODEL, "a range's start is exclusive"),
    FaultKind.TRUNCATED: FaultKindInfo(Place.MODEL, "at most value rows in one answer, the oldest", 200),
    FaultKind.ZERO_DEMAND_TIME: FaultKindInfo(
        Place.MODEL, "the time of a maximum demand has month and day 0"
    ),
    FaultKind.NO_SCALERS: FaultKindInfo(
        Place.MODEL, "scaler profiles are empty; value 1 = they capture nothing either"
    ),
    FaultKind.FEW_COLUMNS: FaultKindInfo(Place.MODEL, "profiles capture only the first value columns", 5),
    FaultKind.COLUMNS_CHANGED: FaultKindInfo(
        Place.MODEL, "as few-columns, after value requests (a firmware update)", 60
    ),
    FaultKind.ODD_CAPTURES: FaultKindInfo(
        Place.MODEL, "capture list reversed, with a data index and attribute -1"
    ),
    FaultKind.ODD_OBJECT_LIST: FaultKindInfo(
        Place.MODEL, "the object list is in odd order, associations last"
    ),
    FaultKind.OTHER_CLASS: FaultKindInfo(Place.MODEL, "the billing date is of class 1 in capture lists"),
    FaultKind.FLAG_TEXT: FaultKindInfo(Place.MODEL, "the firmware's name is full of octets 7E"),
    FaultKind.PUSH_COUNTER_RESET: FaultKindInfo(
        Place.PUSH, "a push: the counter of pushes falls to 0, as after a power cut"
    ),
    FaultKind.PUSH_COUNTER_STUCK: FaultKindInfo(Place.PUSH, "a push: its counter is that of the last one"),
    FaultKind.COUNTER_RESET: FaultKindInfo(
        Place.MODEL, "invocation counters fall to 0 (opportunity: an association)"
    ),
    FaultKind.COUNTER_LOW: FaultKindInfo(
        Place.MODEL, "counter objects show too little; value = by how much", 1000
    ),
    FaultKind.RELAY_STUCK: FaultKindInfo(Place.MODEL, "a relay order is accepted and nothing moves"),
    FaultKind.KEEP_OLD_PERIOD: FaultKindInfo(
        Place.MODEL, "a new capture period keeps the old history beside it"
    ),
    FaultKind.KEYS_REFUSED: FaultKindInfo(
        Place.MODEL, "a change of keys is refused; value = the result code", 250
    ),
    FaultKind.KEYS_PARTLY: FaultKindInfo(
        Place.MODEL, "of the keys of one transfer the first alone is taken, and the answer is success"
    ),
    FaultKind.KEYS_LATE: FaultKindInfo(
        Place.MODEL, "new keys and secrets count after the next value associations", 1
    ),
    FaultKind.IMAGE_BLOCK_REFUSED: FaultKindInfo(Place.MODEL, "a block of an image is refused"),
    FaultKind.IMAGE_BLOCK_LOST: FaultKindInfo(
        Place.MODEL, "a block of an image is answered with success and not kept"
    ),
    FaultKind.IMAGE_FORGETS: FaultKindInfo(
        Place.MODEL, "at a block of an image the meter forgets the whole transfer (a power cut)"
    ),
    FaultKind.IMAGE_BLOCK_SIZE: FaultKindInfo(
        Place.MODEL, "asked for its block size the meter wants value octets, and forgets what it has", 128
    ),
    FaultKind.IMAGE_VERIFY_BUSY: FaultKindInfo(
        Place.MODEL, "verification draws temporary failure and is over after value looks at the status", 2
    ),
    FaultKind.IMAGE_NOT_VERIFIED: FaultKindInfo(Place.MODEL, "verification of an image fails"),
    FaultKind.IMAGE_WRONG_NAME: FaultKindInfo(Place.MODEL, "a verified image is named as another one"),
    FaultKind.IMAGE_ACTIVATES_ITSELF: FaultKindInfo(
        Place.MODEL, "a verified image is activated at once, untold"
    ),
    FaultKind.IMAGE_ACTIVATION_FAILS: FaultKindInfo(
        Place.MODEL, "activation is answered with success, and fails"
    ),
    FaultKind.IMAGE_NEVER_ACTIVATES: FaultKindInfo(
        Place.MODEL, "activation is answered with success, and nothing happens"
    ),
    FaultKind.IMAGE_ACTIVATES_LATE: FaultKindInfo(
        Place.MODEL, "activation is answered with success, and comes after value looks at the version", 2
    ),
    FaultKind.IMAGE_ROLLS_BACK: FaultKindInfo(
        Place.MODEL, "asked for its version after an activation, the meter comes back on the old one"
    ),
    FaultKind.ECHO: FaultKindInfo(
        Place.MODBUS, "RTU: the request comes back before the answer; value = its last octets only, 0 = all"
    ),
    FaultKind.LEAD_IN: FaultKindInfo(
        Place.MODBUS, "RTU: two octets before an answer, of a line without bias; value = the octet, 0 or 255"
    ),
    FaultKind.FOREIGN_UNIT: FaultKindInfo(
        Place.MODBUS, "RTU: another unit sends the same answer first; value = the unit", 99
    ),
    FaultKind.SECOND_MASTER: FaultKindInfo(
        Place.MODBUS,
        "RTU: another master's request and its answer come before the answer; value = the unit that it asks",
        98,
    ),
    FaultKind.OWN_TRANSACTION: FaultKindInfo(
        Place.MODBUS, "TCP: an answer has a transaction of its own; value = which"
    ),
    FaultKind.OWN_UNIT: FaultKindInfo(Place.MODBUS, "TCP: an answer has another unit; value = which"),
    FaultKind.CLOSES: FaultKindInfo(Place.MODBUS, "TCP: the connection is closed after an answer"),
    FaultKind.DEAF: FaultKindInfo(
        Place.MODBUS, "after a request the meter restarts, without an answer; value = milliseconds", 5000
    ),
    FaultKind.DEAF_AFTER_OTHERS: FaultKindInfo(
        Place.MODBUS, "RTU: deaf after a request to another unit; value = milliseconds", 200
    ),
    FaultKind.EXCEPTION: FaultKindInfo(
        Place.MODBUS, "a request draws an exception; value = its code (2 address, 4 failure, 6 busy …)", 4
    ),
    FaultKind.HOLES_SILENT: FaultKindInfo(
        Place.MODBUS, "a request across registers that are not there draws no answer"
    ),
    FaultKind.ZEROS: FaultKindInfo(
        Place.MODBUS, "all registers but the serial are zero, as just after power-up"
    ),
    FaultKind.WORD_ORDER: FaultKindInfo(Place.MODBUS, "numbers of several registers come in the other order"),
    FaultKind.ENERGY_OFF: FaultKindInfo(
        Place.MODBUS, "energies are off; value = Wh that are added, fewer than none = they fall", -100
    ),
    FaultKind.WRITE_REFUSED: FaultKindInfo(
        Place.MODBUS, "a write draws an exception and does nothing; value = its code", 3
    ),
    FaultKind.CREDIT_STUCK: FaultKindInfo(
        Place.MODBUS, "a recharge or balance is accepted and nothing comes of it"
    ),
}
