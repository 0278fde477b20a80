"""What a clerk reads: each verdict, repair and cause in English and Hindi, by its code; complete, and tested to be.

In braces stand facts of the row or cause: what was seen, at which position, what stands in the way.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

from mapping.rekey_plan import Cause
from mapping.rekey_rows import Row

Language = Literal["en", "hi"]
LANGUAGES: tuple[Language, ...] = ("en", "hi")


class Text(NamedTuple):
    """What was found, and what the reader can do."""

    en: str
    en_do: str
    hi: str
    hi_do: str

    def what(self, language: Language) -> str:
        """Return what was found."""
        return self.en if language == "en" else self.hi

    def advice(self, language: Language) -> str:
        """Return what to do; empty where nothing is to be done."""
        return self.en_do if language == "en" else self.hi_do


_EXPORT = "Export the column as text and send the file again."
_EXPORT_HI = "कॉलम को टेक्स्ट (Text) बनाकर फ़ाइल दोबारा निकालें और भेजें।"
_WRITE = "Look at the paper and write the number anew."
_WRITE_HI = "काग़ज़ देखकर नंबर दोबारा लिखें।"

VERDICTS: Mapping[str, tuple[str, str]] = {
    "applied": ("will be applied", "लागू होगा"),
    "unchanged": ("nothing to change", "कुछ बदलना नहीं"),
    "repaired": ("repaired, will be applied", "सुधारा गया, लागू होगा"),
    "conflict": ("contradiction", "टकराव"),
    "rejected": ("rejected", "अस्वीकृत"),
}
COLUMN_WORDS: Mapping[str, tuple[str, str]] = {
    "": ("", ""),
    "legacy_number": ("old number", "पुराना नंबर"),
    "account_number": ("new account number", "नया खाता नंबर"),
    "meter": ("meter", "मीटर"),
    "effective_from": ("date", "तारीख़"),
    "relation": ("relation", "संबंध (relation)"),
}
REPAIRS: Mapping[str, tuple[str, str]] = {
    "spaces": ("spaces at the ends taken off", "आगे-पीछे की ख़ाली जगह हटाई"),
    "nbsp": ("no-break spaces taken off", "छिपी ख़ाली जगह (NBSP) हटाई"),
    "bom": ("byte order mark taken off", "छिपा निशान (BOM) हटाया"),
    "wrapper": ('quotes, ="…", apostrophe or ₹ taken off', 'उद्धरण, ="…", \' या ₹ हटाया'),
    "point_zero": (".0 at the end taken off", "अंत का .0 हटाया"),
    "thousands": ("commas taken out", "अल्पविराम हटाए"),
    "grouping": ("gaps between groups of digits taken out", "अंकों के बीच की जगह हटाई"),
    "prefix": ("our company code taken off", "हमारी कंपनी का कोड हटाया"),
    "devanagari": ("Devanagari digits written as 0-9", "देवनागरी अंक 0-9 में लिखे"),
    "full_width": ("full-width digits written as 0-9", "चौड़े अंक 0-9 में लिखे"),
    "mixed_script": ("digits of several scripts written as 0-9", "मिली-जुली लिपि के अंक 0-9 में लिखे"),
    "case": ("letters written in capitals", "अक्षर बड़े (capital) किए"),
}
ROWS: Mapping[str, Text] = {
    "EMPTY": Text("The cell is empty.", "Write the number.", "ख़ाना ख़ाली है।", "नंबर लिखें।"),
    "TOO_LONG": Text("The cell is far too long for a number.", _WRITE, "ख़ाना नंबर के लिए बहुत लंबा है।", _WRITE_HI),
    "ZERO_WIDTH": Text(
        "An invisible character stands at position {position}.",
        "Delete the cell and type the number anew; do not copy it.",
        "स्थान {position} पर एक न दिखने वाला चिह्न है।",
        "ख़ाना मिटाकर नंबर हाथ से लिखें; कॉपी न करें।",
    ),
    "MIXED_SCRIPT": Text(
        "The digits are of several scripts or full-width: the number was damaged when it was copied.", _WRITE,
        "अंक अलग-अलग लिपियों के या चौड़े हैं: कॉपी करते समय नंबर बिगड़ा है।", _WRITE_HI,
    ),
    "EXCEL_SCIENTIFIC": Text(
        "Excel wrote it with an exponent and lost digits.", _EXPORT,
        "Excel ने इसे घातांक (E+) में लिखा और अंक खो गए।", _EXPORT_HI,
    ),
    "EXCEL_SCIENTIFIC_FULL": Text(
        "Excel wrote it with an exponent; all digits seem to be there.",
        "Compare it with the paper and write the ten digits.",
        "Excel ने इसे घातांक (E+) में लिखा; अंक पूरे लगते हैं।",
        "काग़ज़ से मिलाएँ और दसों अंक लिखें।",
    ),
    "PREFIX": Text(
        "The company code before the digits is not ours.",
        "Ask the sender: this may be another company's consumer.",
        "अंकों के आगे का कंपनी कोड हमारा नहीं है।",
        "भेजने वाले से पूछें: यह दूसरी कंपनी का उपभोक्ता हो सकता है।",
    ),
    "LOOKALIKE": Text(
        "At position {position} stands a letter that looks like a digit (O for 0, l for 1, S for 5).", _WRITE,
        "स्थान {position} पर अंक जैसा दिखने वाला अक्षर है (0 की जगह O, 1 की जगह l, 5 की जगह S)।", _WRITE_HI,
    ),
    "NOT_DIGITS": Text(
        "At position {position} stands something that is not a digit.", _WRITE,
        "स्थान {position} पर जो लिखा है वह अंक नहीं है।", _WRITE_HI,
    ),
    "LENGTH": Text(
        "A new account number has 10 digits; this has {other}.",
        "If a zero in front was lost, export the column as text; never add one without the paper.",
        "नए खाता नंबर में 10 अंक होते हैं; इसमें {other} हैं।",
        "आगे का शून्य कट गया हो तो कॉलम को टेक्स्ट बनाकर निकालें; बिना काग़ज़ देखे शून्य न जोड़ें।",
    ),
    "FORMULA": Text(
        "The cell is a formula, not a number.", "Write the number itself.",
        "ख़ाने में फ़ॉर्मूला है, नंबर नहीं।", "फ़ॉर्मूले की जगह नंबर लिखें।",
    ),
    "DATE_COERCED": Text("Excel made a date of it.", _EXPORT, "Excel ने इसे तारीख़ बना दिया।", _EXPORT_HI),
    "LEGACY_FORMAT": Text(
        "An old number has letters, digits and ' . / _ -', at most 32.", _WRITE,
        "पुराने नंबर में अक्षर, अंक और ' . / _ -' होते हैं, ज़्यादा से ज़्यादा 32।", _WRITE_HI,
    ),
    "COLUMNS": Text(
        "The row has {other} cells, which is not what the heading has.",
        "Put the row right: a comma in a name needs quotes around the name.",
        "पंक्ति में {other} ख़ाने हैं, शीर्षक में इतने नहीं।",
        "पंक्ति ठीक करें: नाम में अल्पविराम हो तो नाम को उद्धरण में लिखें।",
    ),
    "OTHER_COLUMN": Text(
        "The cell belongs into another column; what belongs here may be the candidate.",
        "Put the cells in the order of the heading.",
        "यह ख़ाना दूसरे कॉलम का है; यहाँ का नंबर सुझाव में दिखाया गया हो सकता है।",
        "ख़ानों को शीर्षक के क्रम में लगाएँ।",
    ),
    "MOBILE": Text(
        "This is a mobile number, not an account number.", _WRITE, "यह मोबाइल नंबर है, खाता नंबर नहीं।", _WRITE_HI,
    ),
    "METER_SERIAL": Text(
        "This is the number of the meter, not of the account.", _WRITE, "यह मीटर का नंबर है, खाते का नहीं।", _WRITE_HI,
    ),
    "DATE_AMBIGUOUS": Text(
        "The date can be read in two ways.",
        "Declare how the sender writes dates (--dates DD/MM/YYYY), or write 2026-04-05.",
        "तारीख़ दो तरह से पढ़ी जा सकती है।",
        "बताएँ कि भेजने वाला तारीख़ कैसे लिखता है (--dates DD/MM/YYYY), या 2026-04-05 लिखें।",
    ),
    "DATE_UNREADABLE": Text(
        "This is no date.", "Write it like 2026-04-05.", "यह तारीख़ नहीं है।", "2026-04-05 की तरह लिखें।"
    ),
    "DATE_IMPOSSIBLE": Text(
        "The date cannot be: before 2000, or more than a year ahead.", "Look at the year.",
        "यह तारीख़ हो नहीं सकती: 2000 से पहले, या एक साल से ज़्यादा आगे।", "साल जाँचें।",
    ),
    "RELATION": Text(
        "This column knows stays, splits and merges.", "Write one of them, or leave it empty.",
        "इस कॉलम में केवल stays, splits या merges लिखा जाता है।", "इनमें से एक लिखें, या ख़ाली छोड़ें।",
    ),
    "RELATION_INCOMPLETE": Text(
        "A split or merger needs one row that stays, one date in all rows, and for a split a meter for each branch "
        "({other}).",
        "Complete all rows of the group and send them together.",
        "विभाजन या विलय में एक पंक्ति stays, सबमें एक ही तारीख़, और विभाजन में हर शाखा का मीटर चाहिए ({other})।",
        "समूह की सभी पंक्तियाँ पूरी करके एक साथ भेजें।",
    ),
    "LEGACY_TWICE": Text(
        "This old number has several new numbers in the file (lines {other}).",
        "Keep the right row. If the connection was split, say so in the column relation, with date and meters.",
        "फ़ाइल में इस पुराने नंबर के कई नए नंबर हैं (पंक्तियाँ {other})।",
        "सही पंक्ति रखें। कनेक्शन बँटा हो तो relation कॉलम में तारीख़ और मीटर के साथ लिखें।",
    ),
    "ACCOUNT_TWICE": Text(
        "This new number has several old numbers in the file (lines {other}).",
        "Keep the right row. If consumers were merged, say so in the column relation, with a date.",
        "फ़ाइल में इस नए नंबर के कई पुराने नंबर हैं (पंक्तियाँ {other})।",
        "सही पंक्ति रखें। उपभोक्ता जोड़े गए हों तो relation कॉलम में तारीख़ के साथ लिखें।",
    ),
    "DUPLICATE": Text(
        "The same pair stands in line {other} already.", "Nothing is to be done.",
        "यही जोड़ी पंक्ति {other} में पहले से है।", "कुछ करना नहीं है।",
    ),
    "UNKNOWN_LEGACY": Text(
        "We have no consumer with this old number.",
        "Compare it with the bill. Is it a new connection, then load it with `directory import` first.",
        "इस पुराने नंबर का कोई उपभोक्ता हमारे पास नहीं है।",
        "बिल से मिलाएँ। नया कनेक्शन हो तो पहले `directory import` से चढ़ाएँ।",
    ),
    "SWAPPED": Text(
        "This is a consumer's new number already, standing where the old one belongs.",
        "Exchange the two cells, or the two columns.",
        "यह किसी उपभोक्ता का नया नंबर है, जो पुराने नंबर की जगह लिखा है।",
        "दोनों ख़ाने, या दोनों कॉलम, आपस में बदलें।",
    ),
    "METER_DISAGREES": Text(
        "The consumer with this old number has another meter: {other}.",
        "Look who has the meter of the row; the row may have slipped.",
        "इस पुराने नंबर के उपभोक्ता का मीटर दूसरा है: {other}।",
        "देखें कि पंक्ति वाला मीटर किसके यहाँ है; पंक्ति खिसकी हो सकती है।",
    ),
    "ALREADY_NAMED": Text(
        "The consumer has another new number already: {other}.",
        "If it shall be changed, plan the file again with --correct.",
        "इस उपभोक्ता का नया नंबर पहले से है: {other}।",
        "बदलना हो तो फ़ाइल को --correct के साथ फिर जाँचें।",
    ),
    "NUMBER_TAKEN": Text(
        "This new number belongs to another consumer, who keeps it.",
        "Ask who gave it out twice; it is free once the other consumer has given it up.",
        "यह नया नंबर किसी दूसरे उपभोक्ता का है और उसी के पास रहेगा।",
        "पूछें कि दो बार किसने दिया; दूसरा उपभोक्ता छोड़ दे तभी यह मिलेगा।",
    ),
    "CONTROL_DISAGREES": Text(
        "The control list says otherwise of this number.",
        "Compare both with the paper; one of the two lists is wrong.",
        "मिलान सूची में इस नंबर के बारे में कुछ और लिखा है।",
        "दोनों को काग़ज़ से मिलाएँ; दो में से एक सूची ग़लत है।",
    ),
    "NOT_IN_CONTROL": Text(
        "The control list does not have this number for this consumer.",
        "Ask whoever gave out the numbers.",
        "मिलान सूची में इस उपभोक्ता का यह नंबर नहीं है।",
        "नंबर बाँटने वाले से पूछें।",
    ),
}  # fmt: skip
_AGAIN = "Nothing was applied. Ask the sender for the file anew."
_AGAIN_HI = "कुछ भी लागू नहीं हुआ। भेजने वाले से फ़ाइल दोबारा मँगाएँ।"
CAUSES: Mapping[str, Text] = {
    "SHIFTED": Text(
        "Shifted by {slip}: {rows} of {of} rows disagree with what we know ({source}), and {fits} of them have what "
        "belongs to the row {slip} before or after. A column slipped.", _AGAIN,
        "{slip} पंक्ति खिसकी: {of} में से {rows} पंक्तियाँ हमारी जानकारी ({source}) से नहीं मिलतीं, और उनमें से {fits} में "
        "{slip} पंक्ति ऊपर या नीचे वाले का नंबर है। कोई कॉलम खिसक गया है।", _AGAIN_HI,
    ),
    "SHIFTED_PLANS": Text(
        "This file or {source}, which waits to be applied, is shifted by {slip}: {rows} of {of} consumers have another "
        "number in it, and {fits} of these have that of the row {slip} before or after.",
        "Find out which of the two is right; discard the other (`directory rekey discard`) and plan this one again.",
        "यह फ़ाइल या {source}, जो लागू होने की राह देख रही है, {slip} पंक्ति खिसकी है: {of} में से {rows} उपभोक्ताओं का नंबर "
        "अलग है, और उनमें से {fits} में {slip} पंक्ति ऊपर या नीचे वाले का है।",
        "पता करें कौन-सी सही है; दूसरी को हटाएँ (`directory rekey discard`) और इसे फिर जाँचें।",
    ),
    "CONTRADICTED": Text(
        "{rows} of {of} rows have another number than {source} has for the same consumer.",
        "Find out which of the two is right. Is this one, plan it with --correct, after discarding a plan that "
        "says otherwise (`directory rekey discard`).",
        "{of} में से {rows} पंक्तियों में वही नंबर नहीं है जो {source} में उसी उपभोक्ता का है।",
        "पता करें कौन-सा सही है। यही सही हो तो --correct के साथ जाँचें; जो योजना कुछ और कहती है उसे पहले हटाएँ "
        "(`directory rekey discard`)।",
    ),
    "DISAGREES": Text(
        "{rows} of {of} rows have another {source} than we know for the consumer.", _AGAIN,
        "{of} में से {rows} पंक्तियों में {source} हमारी जानकारी से अलग है।", _AGAIN_HI,
    ),
    "ROUNDED": Text(
        "Rounded: {rows} of {of} numbers end in {zeros} zeros (lines {lines}). A spreadsheet kept fewer digits.",
        _EXPORT,
        "नंबर गोल हो गए: {of} में से {rows} नंबर {zeros} शून्य पर ख़त्म होते हैं (पंक्तियाँ {lines})। Excel ने अंक कम रखे।",
        _EXPORT_HI,
    ),
    "ROUNDED_BINARY": Text(
        "Rounded: {rows} of {of} numbers are such as a short binary number holds. A program kept fewer digits.",
        _EXPORT,
        "नंबर गोल हो गए: {of} में से {rows} नंबर ऐसे हैं जैसे किसी प्रोग्राम ने अंक कम रखे हों।", _EXPORT_HI,
    ),
    "EXCEL_15_DIGITS": Text(
        "{rows} of {of} long numbers end in zeros after 15 digits (lines {lines}): Excel rounded them.", _EXPORT,
        "{of} में से {rows} लंबे नंबर 15 अंकों के बाद शून्य हैं (पंक्तियाँ {lines}): Excel ने गोल कर दिए।", _EXPORT_HI,
    ),
    "DATE_COERCED": Text(
        "Excel made dates of {rows} numbers (lines {lines}), for example {seen}.", _EXPORT,
        "Excel ने {rows} नंबरों को तारीख़ बना दिया (पंक्तियाँ {lines}), जैसे {seen}।", _EXPORT_HI,
    ),
    "DATE_AMBIGUOUS": Text(
        "{rows} dates can be read in two ways (lines {lines}), for example {seen}.",
        "Declare how the sender writes dates: `directory senders save NAME --dates DD/MM/YYYY`.",
        "{rows} तारीख़ें दो तरह से पढ़ी जा सकती हैं (पंक्तियाँ {lines}), जैसे {seen}।",
        "बताएँ कि भेजने वाला तारीख़ कैसे लिखता है: `directory senders save NAME --dates DD/MM/YYYY`।",
    ),
    "CUT_OFF": Text(
        "The file ends in the middle of line {line}: it was cut off on its way.", _AGAIN,
        "फ़ाइल पंक्ति {line} के बीच में ख़त्म हो जाती है: रास्ते में कट गई।", _AGAIN_HI,
    ),
    "TRUNCATED": Text(
        "The file ends early or is incomplete: {missing} of {of} consumers that should be in it ({source}) are not.",
        "Ask for the whole file. If it is one of several, say --part and how many rows it has (--rows).",
        "फ़ाइल अधूरी है: {of} में से {missing} उपभोक्ता ({source}) इसमें नहीं हैं।",
        "पूरी फ़ाइल मँगाएँ। यह कई में से एक हो तो --part और पंक्तियों की संख्या (--rows) बताएँ।",
    ),
    "ROW_COUNT": Text(
        "The file has {rows} rows, and should have {wanted}.", _AGAIN,
        "फ़ाइल में {rows} पंक्तियाँ हैं, होनी चाहिए {wanted}।", _AGAIN_HI,
    ),
    "HASH_TOTAL": Text(
        "The new numbers add up to {total}, and should to {wanted} ({damaged} numbers cannot be read).", _AGAIN,
        "नए नंबरों का जोड़ {total} है, होना चाहिए {wanted} ({damaged} नंबर पढ़े नहीं जा सके)।", _AGAIN_HI,
    ),
    "STALE": Text(
        "An old file: {rows} of {of} numbers that it would change are those we had before.",
        "Nothing was applied. If the former numbers are right, undo the later change set.",
        "पुरानी फ़ाइल: जो {of} नंबर बदलते, उनमें से {rows} वही हैं जो पहले थे।",
        "कुछ भी लागू नहीं हुआ। पहले वाले नंबर सही हों तो बाद का बदलाव वापस लें (undo)।",
    ),
    "STALE_FILE": Text(
        "An old file: it has sequence {sequence}, but {source} with sequence {last} was applied.",
        "Nothing was applied. Ask for the newest file.",
        "पुरानी फ़ाइल: इसका क्रमांक {sequence} है, पर क्रमांक {last} वाली {source} लागू हो चुकी है।",
        "कुछ भी लागू नहीं हुआ। सबसे नई फ़ाइल मँगाएँ।",
    ),
    "REPEATED": Text(
        "This very file was applied already, as version {version} of the directory; it brings nothing new.",
        "Nothing is to be done.",
        "यही फ़ाइल पहले लागू हो चुकी है (निर्देशिका संस्करण {version}); इसमें कुछ नया नहीं है।",
        "कुछ करना नहीं है।",
    ),
    "NOTHING_NEW": Text(
        "All {rows} rows say what we know already.", "Nothing is to be done.",
        "सभी {rows} पंक्तियाँ वही कहती हैं जो हम जानते हैं।", "कुछ करना नहीं है।",
    ),
    "REORDERED": Text(
        "The columns stand in another order than the heading says ({rows} rows, lines {lines}; for example {seen}).",
        _AGAIN,
        "कॉलम शीर्षक के क्रम में नहीं हैं ({rows} पंक्तियाँ, जैसे {lines}; उदाहरण {seen})।", _AGAIN_HI,
    ),
    "MOBILES": Text(
        "{rows} of {of} new numbers look like mobile numbers: the wrong column was exported.", _AGAIN,
        "{of} में से {rows} नए नंबर मोबाइल नंबर जैसे हैं: ग़लत कॉलम निकाला गया।", _AGAIN_HI,
    ),
    "WRONG_PREFIX": Text(
        "{rows} of {of} rows have a company code that is not ours, for example {seen}.",
        "Nothing was applied. Is the file for us, declare its code: `directory senders save NAME --prefix CODE`.",
        "{of} में से {rows} पंक्तियों में कंपनी कोड हमारा नहीं है, जैसे {seen}।",
        "कुछ भी लागू नहीं हुआ। फ़ाइल हमारी ही हो तो कोड बताएँ: `directory senders save NAME --prefix CODE`।",
    ),
    "REFUSED_RATE": Text(
        "{rows} of {of} rows are refused, more than {limit} percent; most often {most} ({count}).",
        "Nothing was applied. Put right what is common to them; a higher limit is --limit refused=PERCENT.",
        "{of} में से {rows} पंक्तियाँ अस्वीकृत हैं, {limit} प्रतिशत से ज़्यादा; सबसे ज़्यादा {most} ({count})।",
        "कुछ भी लागू नहीं हुआ। जो ग़लती सबमें है उसे ठीक करें; सीमा बढ़ाने के लिए --limit refused=PERCENT।",
    ),
    "CHANGED_RATE": Text(
        "{rows} of {of} rows would change a number that a consumer has already, more than {limit} percent.",
        "Nothing was applied. If it is meant, plan the file again with --correct.",
        "{of} में से {rows} पंक्तियाँ उपभोक्ता का मौजूदा नंबर बदल देंगी, {limit} प्रतिशत से ज़्यादा।",
        "कुछ भी लागू नहीं हुआ। यही करना हो तो फ़ाइल को --correct के साथ फिर जाँचें।",
    ),
    "NO_CONTROL": Text(
        "No second source says that each new number is that of its row: a column that slipped cannot be seen.",
        "Plan it again with a list from whoever gave out the numbers (--control FILE with new numbers), or let "
        "somebody else approve it: --without-control --approver NAME.",
        "कोई दूसरा स्रोत नहीं बताता कि हर नया नंबर अपनी ही पंक्ति का है: एक पंक्ति खिसका कॉलम दिख नहीं सकता।",
        "नंबर बाँटने वाले की सूची (--control FILE, नए नंबरों के साथ) से फिर जाँचें, या कोई दूसरा अधिकारी मंज़ूर करे: "
        "--without-control --approver NAME।",
    ),
}  # fmt: skip
SOURCES: Mapping[str, tuple[str, str]] = {
    "control": ("the control list", "मिलान सूची"),
    "directory": ("the directory", "निर्देशिका"),
    "meter": ("meter", "मीटर"),
    "name": ("name", "नाम"),
    "locality": ("locality", "मोहल्ला"),
}


def row_text(row: Row, language: Language) -> tuple[str, str]:
    """Return what was found of a row and what to do, both empty for a row that is plainly applied or unchanged."""
    pick = LANGUAGES.index(language)
    if row.verdict == "repaired":
        return "; ".join(REPAIRS[code][pick] for code in row.code.split()), ""
    if not row.code:
        return "", ""
    text = ROWS[row.code]
    facts = {"position": row.position or 1, "other": row.other}
    return text.what(language).format_map(facts), text.advice(language)


def cause_text(cause: Cause, language: Language) -> str:
    """Return why a file is refused, and what to do."""
    text, pick = CAUSES[cause.code], LANGUAGES.index(language)
    facts = dict(cause.facts)
    if source := facts.get("source"):
        # Another source than these is a plan that is kept, or the file that was applied: by its name.
        facts["source"] = SOURCES[source][pick] if source in SOURCES else source
    return f"{text.what(language).format_map(facts)} {text.advice(language)}"
