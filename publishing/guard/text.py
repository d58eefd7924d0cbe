"""Second net of the privacy guard: identifiers, shifted dates, paths and secrets in text and JSON."""

import re
import unicodedata
from collections.abc import Iterator
from typing import Any

MIMIC_IDENTIFIERS = (
    10_000_001,
    40_000_000,
)  # subject_id, hadm_id and stay_id share eight digits, 1, 2 or 3 first
SHIFTED_SECONDS = (4_102_444_800, 8_200_000_000)  # Unix time of the years 2100-2229
SHIFTED_YEAR = r"2(?:1\d\d|2[0-2]\d)"
MONTH = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*"

ROW_KEYS = frozenset(
    [
        "subjectid",
        "hadmid",
        "stayid",
        "transferid",
        "noteid",
        "pharmacyid",
        "emarid",
        "poeid",
        "specimenid",
        "microspecimenid",
        "labeventid",
        "orderid",
        "linkorderid",
        "caregiverid",
        "providerid",
        "orderproviderid",
        "admitproviderid",
        "enterproviderid",
        "charttime",
        "chartdate",
        "storetime",
        "starttime",
        "stoptime",
        "endtime",
        "intime",
        "outtime",
        "admittime",
        "dischtime",
        "deathtime",
        "edregtime",
        "edouttime",
        "onsettime",
        "dod",
        "anchoryear",
        "anchoryeargroup",
        "anchorage",
        "dateofbirth",
        "dateofdeath",
        "mrn",
    ]
)

PATTERNS = {
    "a date in MIMIC's shifted range": re.compile(
        rf"(?<!\d){SHIFTED_YEAR}[-/.](?:0?[1-9]|1[0-2])(?!\d)"
        rf"|(?<!\d)\d{{1,2}}[-/. ](?:\d{{1,2}}|{MONTH})[-/. ]{SHIFTED_YEAR}(?!\d)"
        rf"|{MONTH}\.? (?:\d{{1,2}},? )?{SHIFTED_YEAR}(?!\d)"
        rf"|(?<!\d){SHIFTED_YEAR}(?:0[1-9]|1[0-2])(?:[0-2]\d|3[01])\d{{0,6}}(?!\d)",
        re.IGNORECASE,
    ),
    "an absolute or home path": re.compile(
        r"(?:^|[\s\"'`(=\[])/[\w.-]+/[\w./-]+|(?:^|[\s\"'`(=])/(?:home|root|tmp|Users|mnt)\b"
        r"|\b[A-Za-z]:\\|\\\\\w+\\|file://|(?:^|[\s\"'`(=])~/",
        re.MULTILINE,
    ),
    "a token or password": re.compile(
        r"\bhf_[A-Za-z0-9]{16,}|\bgh[pousr]_[A-Za-z0-9]{16,}|\bgithub_pat_\w{16,}|\bAKIA[0-9A-Z]{12,}"
        r"|\bsk-[A-Za-z0-9_-]{16,}|\bxox[abp]-\S+|\beyJ[\w-]{8,}\.[\w-]+|-----BEGIN [A-Z ]+KEY"
        r"|(?i:\b(?:password|passwd|secret|api[_-]?key|access[_-]?token|bearer)\b\s*[:=]?\s+?\S{8,})"
        r"|(?i:\b(?:password|passwd|secret|api[_-]?key|access[_-]?token)\s*[:=]\s*\S+)"
    ),
    "a long encoded text": re.compile(r"[A-Za-z0-9+/]{60,}|data:[a-z]+/[a-z]+;base64"),
}
HASH = re.compile(r"(?<![0-9a-f])(?:[0-9a-f]{64}|[0-9a-f]{40})(?![0-9a-f])")
GROUPED = re.compile(r"(?<=\d)[,_ '\u2009\u00a0](?=\d{3}(?!\d))|(?<=\d{4})[_ ](?=\d{4}(?!\d))")
NUMBER = re.compile(r"\d+(?:\.\d+)?(?:[eE][+-]?\d{1,3}(?!\d))?")


def scan_text(text: str) -> Iterator[str]:
    """Yield what `text` holds that must not be published; never the matched text itself."""
    if any(
        unicodedata.category(character) in ("Cc", "Cf", "Co") for character in text if character not in "\n\t"
    ):
        yield "invisible or control characters"
    plain = HASH.sub("", _plain_digits(text))
    ungrouped = GROUPED.sub("", plain)
    if any(is_identifier(float(match.group())) for match in NUMBER.finditer(ungrouped)):
        yield "a number in the range of MIMIC identifiers or of shifted times"
    for problem, pattern in PATTERNS.items():
        if pattern.search(plain):
            yield problem


def scan_json(value: Any) -> Iterator[str]:
    """Yield what a parsed JSON value holds that must not be published: in keys, numbers and strings."""
    if isinstance(value, dict):
        for key, item in value.items():
            if re.sub(r"[^a-z]", "", key.lower()) in ROW_KEYS:
                yield "a key that names a patient, a stay or a time"
            yield from scan_text(key)
            yield from scan_json(item)
    elif isinstance(value, list):
        for item in value:
            yield from scan_json(item)
    elif isinstance(value, str):
        yield from scan_text(value)
    elif isinstance(value, (int, float)) and is_identifier(value):
        yield "a number in the range of MIMIC identifiers or of shifted times"


def is_identifier(number: float) -> bool:
    """Whether a number lies where MIMIC's identifiers or the Unix times of its shifted dates lie."""
    low, high = MIMIC_IDENTIFIERS
    shifted = any(
        SHIFTED_SECONDS[0] * unit <= abs(number) < SHIFTED_SECONDS[1] * unit for unit in (1, 1e3, 1e6, 1e9)
    )
    return low <= abs(number) < high or shifted


def _plain_digits(text: str) -> str:
    folded = unicodedata.normalize("NFKC", text)
    return "".join(str(unicodedata.decimal(c)) if c.isdecimal() else c for c in folded)
