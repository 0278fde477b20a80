"""Meters of any protocol: by URL for scripts and notebooks, by settings for programs.

`open_meter` needs no `await` and no setting up; `open_meter_async` is its twin for programs with an event loop;
`open_session` is what both stand on: a line, a spec, secrets, counters and a clock of the caller's own.

    from protocols.meters import open_meter

    with open_meter("dlms+tcp://10.0.0.7:4059?client=48", keys="keys.toml") as meter:
        print(meter.identify().serial)
"""

from typing import TYPE_CHECKING

from protocols.lazy_imports import lazy_names

if TYPE_CHECKING:
    from protocols.meters.counters import FileCounters
    from protocols.meters.key_file import KeyFile
    from protocols.meters.meter import Meter, Row, open_meter, open_meter_async
    from protocols.meters.open import open_session
    from protocols.meters.secrets import FileSecrets

__all__ = [
    "FileCounters",
    "FileSecrets",
    "KeyFile",
    "Meter",
    "Row",
    "open_meter",
    "open_meter_async",
    "open_session",
]

__getattr__ = lazy_names(
    __name__,
    {
        "FileCounters": "protocols.meters.counters",
        "FileSecrets": "protocols.meters.secrets",
        "KeyFile": "protocols.meters.key_file",
        "Meter": "protocols.meters.meter",
        "Row": "protocols.meters.meter",
        "open_meter": "protocols.meters.meter",
        "open_meter_async": "protocols.meters.meter",
        "open_session": "protocols.meters.open",
    },
)
