"""A small meter that lists its objects, so that they have short names."""

from __future__ import annotations

from protocols.dlms.objects.object_list import READ_ONLY, ObjectEntry, build_object_list
from protocols.dlms.server.model import AssociationPolicy
from tests.support.dlms.bench import SmallMeter, o

CLASSES = {
    "0-0:96.1.0*255": 1,
    "0-0:96.13.0*255": 1,
    "0-0:10.0.98*255": 1,
    "1-0:1.8.0*255": 3,
    "0-0:1.0.0*255": 8,
    "1-0:99.1.0*255": 7,
    "0-0:96.3.10*255": 70,
}


def named_meter(policy: AssociationPolicy) -> SmallMeter:
    """Serve client 48 with an object list."""
    meter = SmallMeter({48: policy})
    entries = [
        ObjectEntry(
            class_id=class_id,
            version=1,
            obis=o(name[:-4]),
            attributes=dict.fromkeys(range(1, 9), READ_ONLY),
        )
        for name, class_id in CLASSES.items()
    ]
    meter.attributes["0-0:40.0.0*255", 2] = build_object_list(entries)
    return meter
