"""Values that the tests of COSEM objects share."""

from __future__ import annotations

from hypothesis import settings

from protocols.dlms.data.cosem_dates import CosemDateTime
from protocols.reading import Obis

FAST = settings(max_examples=60)

RELAY = Obis(0, 0, 96, 3, 10)

MASTER = bytes(range(16))

WRAPPED = bytes.fromhex("1FA68B0A8112B447AEF34BD8FB5A7B829D3E862371D2CFE5")

JUNE = CosemDateTime.decode(bytes.fromhex("07EA0601FF0E0F00FF014AFF"))
