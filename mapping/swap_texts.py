"""What is said of the rows of a contractor's file of replaced meters, in English and Hindi, as a clerk speaks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from mapping.rekey_texts import LANGUAGES, Language

_LOOK: Final = ("Look at the job sheet and write the row anew.", "काम का पर्चा देखकर पंक्ति दोबारा लिखें।")
TEXTS: Final[Mapping[str, tuple[tuple[str, str], tuple[str, str]]]] = {
    "COLUMNS": (
        ("The row has {other} cells and does not fit the heading.", "पंक्ति में {other} खाने हैं, शीर्षक से मेल नहीं।"),
        _LOOK,
    ),
    "METER_FORMAT": (
        (
            "{other} is not a meter: write make and serial, GEN:12345678.",
            "{other} मीटर नहीं है: कंपनी और नंबर लिखें, GEN:12345678।",
        ),
        _LOOK,
    ),
    "SAME_METER": (("Old and new meter are the same.", "पुराना और नया मीटर एक ही है।"), _LOOK),
    "TIME": (
        (
            "{other} may mean several times, or none: write 2026-11-10 11:30.",
            "{other} का समय साफ़ नहीं है: 2026-11-10 11:30 लिखें।",
        ),
        _LOOK,
    ),
    "DATE_IMPOSSIBLE": (
        (
            "{other} cannot be: before 2000, or ahead of today.",
            "{other} हो नहीं सकता: 2000 से पहले या आज के बाद का समय है।",
        ),
        _LOOK,
    ),
    "READING": (("{other} is not a reading in kWh.", "{other} kWh की रीडिंग नहीं है।"), _LOOK),
    "NO_READING": (
        (
            "The final reading is missing and no reason is given; missing is never zero.",
            "आख़िरी रीडिंग नहीं है और कारण भी नहीं; ख़ाली का मतलब शून्य नहीं।",
        ),
        (
            "Write the reading, or why there is none into no_final (no_display, burnt, missing).",
            "रीडिंग लिखें, या no_final में कारण लिखें (no_display, burnt, missing)।",
        ),
    ),
    "NO_OPENING": (
        ("The opening reading of the new meter is missing.", "नए मीटर की पहली रीडिंग नहीं है।"),
        ("Read the new meter and write what it shows.", "नया मीटर पढ़कर जो दिखे वही लिखें।"),
    ),
    "NAMES": (("{other} cannot name a seal or a photo.", "{other} सील या फ़ोटो का नाम नहीं हो सकता।"), _LOOK),
    "METER_TWICE": (
        ("{other} stands in several rows of this file.", "{other} इस फ़ाइल की कई पंक्तियों में है।"),
        ("Only one of them can be right: look at both job sheets.", "एक ही सही हो सकती है: दोनों पर्चे देखें।"),
    ),
    "SEAL_TWICE": (
        ("Seal {other} was used before.", "सील {other} पहले लग चुकी है।"),
        (
            "Look at the seal on the wall: each has its own number.",
            "लगी हुई सील देखें: हर सील का नंबर अलग होता है।",
        ),
    ),
    "FINAL_BELOW": (
        (
            "The final reading is below {other} kWh, which the meter sent before (RDF).",
            "आख़िरी रीडिंग {other} kWh से कम है, जो मीटर पहले भेज चुका है (RDF)।",
        ),
        ("Look at the photo of the old meter's display.", "पुराने मीटर के डिस्प्ले की फ़ोटो देखें।"),
    ),
    "MULTIPLIER_DIFFERS": (
        (
            "The multiplier of the place is {other}, the row has another.",
            "इस जगह का गुणक {other} है, पंक्ति में दूसरा है।",
        ),
        (
            "If transformers were changed, say so: `directory multiplier`.",
            "ट्रांसफ़ॉर्मर बदले हों तो बताएँ: `directory multiplier`।",
        ),
    ),
    "METER_NOT_FITTED": (
        ("The old meter {other} is fitted nowhere then.", "पुराना मीटर {other} उस समय कहीं लगा नहीं है।"),
        ("Look whether the time or the meter is mistyped.", "देखें कि समय या मीटर नंबर ग़लत तो नहीं लिखा।"),
    ),
    "OTHER_USAGE_POINT": (
        ("The old meter is fitted at {other} then.", "पुराना मीटर उस समय {other} पर लगा है।"),
        ("Is it the right house? Look at the job sheet.", "क्या घर सही है? काम का पर्चा देखें।"),
    ),
    "METER_IN_USE": (
        ("The new meter is fitted at {other} already.", "नया मीटर पहले से {other} पर लगा है।"),
        ("Look at the serial on the new meter's face.", "नए मीटर पर लिखा नंबर देखें।"),
    ),
    "CONTRADICTS": (
        ("The directory contradicts it: {other}", "यह निर्देशिका से मेल नहीं खाता।"),
        _LOOK,
    ),
}


def swap_text(code: str, other: str, language: Language) -> tuple[str, str]:
    """Return what was found of a row and what to do; both empty for a row that is plainly applied."""
    if not code:
        return "", ""
    pick = LANGUAGES.index(language)
    what, to_do = TEXTS.get(code, TEXTS["CONTRADICTS"])
    return what[pick].format_map({"other": other}), to_do[pick]
