"""The example API of `tollkeeper demo`: checks IBANs, counts words. Plain ASGI, and not a line about keys, limits or prices.

IBAN: ISO 13616, check digits by ISO 7064 MOD 97-10. Lengths by country from the SWIFT registry, release 97.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final
from urllib.parse import unquote

_LENGTHS: Final = {
    country: length
    for length, countries in {
        15: ("NO",),
        16: ("BE",),
        18: ("DK", "FI", "FK", "FO", "GL", "NL", "SD"),
        19: ("MK", "SI"),
        20: ("AT", "BA", "EE", "KZ", "LT", "LU", "MN", "XK"),
        21: ("CH", "HR", "LI", "LV"),
        22: ("BG", "BH", "CR", "DE", "GB", "GE", "IE", "ME", "RS", "VA"),
        23: ("AE", "GI", "IL", "IQ", "OM", "SO", "TL"),
        24: ("AD", "CZ", "ES", "MD", "PK", "RO", "SA", "SE", "SK", "TN", "VG"),
        25: ("LY", "PT", "ST"),
        26: ("IS", "TR"),
        27: ("BI", "DJ", "FR", "GR", "IT", "MC", "MR", "SM"),
        28: ("AL", "AZ", "BY", "CY", "DO", "GT", "HU", "LB", "NI", "PL", "SV"),
        29: ("BR", "EG", "PS", "QA", "UA"),
        30: ("JO", "KW", "MU"),
        31: ("MT", "SC"),
        32: ("LC",),
        33: ("RU",),
    }.items()
    for country in countries
}
_MOST: Final = 64 * 1024
_WORD: Final = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
_SENTENCE: Final = re.compile(r"[.!?…]+(?=\s|$)")

ABOUT: Final = {
    "name": "Small tools",
    "addresses": {
        "GET /iban/{iban}": "whether an IBAN is well-formed, and its parts",
        "POST /text": "words, sentences and reading time of the text sent",
    },
}


def check_iban(text: str) -> dict[str, Any]:
    """Whether the check digits and the length are right; never whether the account exists."""
    iban = re.sub(r"[\s-]", "", text).upper()
    if not re.fullmatch(r"[A-Z]{2}[0-9]{2}[A-Z0-9]{1,30}", iban):
        return {"valid": False, "reason": "not of the form: two letters, two digits, up to 30 letters and digits"}
    country = iban[:2]
    parts = {"country": country, "check_digits": iban[2:4], "account": iban[4:]}
    expected = _LENGTHS.get(country)
    if expected is None:
        return {"valid": False, "reason": f"{country} has no IBANs", **parts}
    if len(iban) != expected:
        return {"valid": False, "reason": f"{len(iban)} characters; {country} has {expected}", **parts}
    digits = "".join(str(int(character, 36)) for character in iban[4:] + iban[:4])
    if int(digits) % 97 != 1:
        return {"valid": False, "reason": "the check digits do not fit", **parts}
    grouped = " ".join(iban[at : at + 4] for at in range(0, len(iban), 4))
    return {"valid": True, "iban": grouped, **parts}


def text_statistics(text: str) -> dict[str, Any]:
    """Counts, and the time to read at 230 words a minute."""
    words = _WORD.findall(text)
    longest = max(words, key=len, default="")
    return {
        "characters": len(text),
        "words": len(words),
        "different_words": len({word.casefold() for word in words}),
        "sentences": len(_SENTENCE.findall(text)) or (1 if words else 0),
        "longest_word": longest,
        "reading_seconds": round(len(words) * 60 / 230),
    }


async def app(scope: Any, receive: Any, send: Any) -> None:
    """The ASGI application."""
    if scope["type"] != "http":
        return
    status, value = await _answer(scope["method"], scope["path"], receive)
    body = json.dumps(value, ensure_ascii=False).encode() + b"\n"
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


async def _answer(method: str, path: str, receive: Any) -> tuple[int, dict[str, Any]]:
    if path == "/" and method in ("GET", "HEAD"):
        return 200, ABOUT
    if path.startswith("/iban/") and method in ("GET", "HEAD"):
        return 200, check_iban(unquote(path.removeprefix("/iban/"))[:100])
    if path == "/text" and method == "POST":
        body = b""
        more = True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > _MOST:
                return 413, {"error": f"at most {_MOST:,} bytes of text are read"}
        try:
            return 200, text_statistics(body.decode())
        except UnicodeDecodeError:
            return 400, {"error": "the text is not UTF-8"}
    return 404, {"error": f"there is no {method} {path[:100]}", **ABOUT}
