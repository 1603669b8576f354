"""Heuristics that look for something in a text: refusals, personal data, the language. Pure."""

import ipaddress
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

from tracestone.schema.extras import optional
from tracestone.schema.patterns import compile_pattern
from tracestone.schema.scorers.content import Language, PiiDetection, PiiType, Refusal
from tracestone.scoring.scorers.heuristics import phrases
from tracestone.scoring.scorers.heuristics.reading import nothing, shown, text_of, texts_of
from tracestone.scoring.scorers.protocol import Finding, Subject

# A language is plain from the beginning; of a text that repeats itself, more makes it less certain.
_MOST_READ = 2_000
_IBAN_LENGTHS = {
    entry[:2]: int(entry[2:])
    for entry in (
        "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DK18 DO28 EE20 EG29 ES24 FI18"
        " FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 LB28 LC32 LI21 LT20"
        " LU20 LV21 LY25 MC27 MD24 ME22 MK19 MR27 MT31 MU30 NL18 NO15 PK24 PL28 PS29 PT25 QA29 RO24 RS22 SA24 SC31 SD18"
        " SE24 SI19 SK24 SM27 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20"
    ).split()
}


def refusal(parameters: Refusal, subject: Subject) -> Finding:
    """True when an output begins with one of the phrases."""
    wanted = [phrases.folded(phrase) for phrase in parameters.phrases]
    wanted += [phrase for language in parameters.languages for phrase in phrases.REFUSALS[language]]
    for text in texts_of(subject):
        beginning = phrases.folded(text[: parameters.within] if parameters.within else text)
        said = next((phrase for phrase in wanted if phrase in beginning), None)
        if said is not None:
            return Finding(True, f"The output says {shown(said)}.")
    return Finding(False, "No output begins with a phrase of refusal.")


def pii_detection(parameters: PiiDetection, subject: Subject) -> Finding:
    """True when none of the types is found. The rationale says which were, and how often, never what."""
    counts: dict[str, int] = {}
    for text in texts_of(subject, parameters.field):
        for kind in parameters.pii_types:
            number = sum(1 for _ in _FINDERS[kind](text))
            if number:
                counts[kind] = counts.get(kind, 0) + number
    if not counts:
        return Finding(True, f"Nothing of {', '.join(parameters.pii_types)} was found.")
    return Finding(False, "Found: " + ", ".join(f"{kind} ({number})" for kind, number in counts.items()) + ".")


def language(parameters: Language, subject: Subject) -> Finding:
    """The language, or whether it is a wanted one."""
    text = text_of(subject, parameters.field)
    wanted: tuple[str, ...] = parameters.expected
    if parameters.same_as_input:
        wanted = (_certain(text_of(subject, "input"), parameters, "input")[0],)
    if not wanted:
        code, confidence = _identify(text)
        code = code if confidence >= parameters.min_confidence else "und"
        return Finding(code, f"The language of the {parameters.field} is {code} ({confidence:.0%}).")
    code, confidence = _certain(text, parameters, parameters.field)
    reason = f"The {parameters.field} is in {code} ({confidence:.0%}); wanted is {', '.join(wanted)}."
    return Finding(code in wanted, reason)


def _certain(text: str, parameters: Language, side: str) -> tuple[str, float]:
    code, confidence = _identify(text)
    if confidence < parameters.min_confidence:
        reason = f"the language of the {side} is not certain: {code} with {confidence:.0%}"
        raise nothing("UNDETERMINED", reason)
    return code, confidence


def _identify(text: str) -> tuple[str, float]:
    """The most likely language and its probability."""
    code, confidence = _identifier().classify(text[:_MOST_READ])
    return ("und", 0.0) if code == "zxx" else (str(code), float(confidence))


@cache
def _identifier() -> Any:
    module = optional("py3langid.langid", "py3langid", "heuristics")
    return module.LanguageIdentifier.from_model_file(module.MODEL_FILE, norm_probs=True)


def _emails(text: str) -> Iterator[str]:
    return _matches(r"[A-Za-z0-9._%+-]*[A-Za-z0-9_%+-]@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,24}", text)


def _phones(text: str) -> Iterator[str]:
    """Numbers in international form, with a trunk 0 and separators, or in North American form."""
    pattern = (
        r"(?:\+|\b00)[1-9](?:[ ./()-]{0,2}\d){6,14}\b"
        r"|\(?\b0\d{1,5}\)?[ ./-]{1,2}\d(?:[ ./-]?\d){4,10}\b"
        r"|(?:\b1[ .-])?(?:\(\d{3}\) ?|\b\d{3}[ .-])\d{3}[ .-]\d{4}\b"
    )
    date = compile_pattern(r"\d{2}[./-]\d{2}[./-](?:19|20)\d{2}(?:\b.*)?")
    return (found for found in _matches(pattern, text) if date.fullmatch(found) is None)


def _ssns(text: str) -> Iterator[str]:
    """United States social security numbers, of the areas, groups and serials that are given out."""
    for found in _matches(r"\b\d{3}-\d{2}-\d{4}\b", text):
        area, group, serial = found.split("-")
        if area not in ("000", "666") and area[0] != "9" and group != "00" and serial != "0000":
            yield found


def _credit_cards(text: str) -> Iterator[str]:
    """Numbers of 13 to 19 digits that pass the check of ISO/IEC 7812 (Luhn)."""
    for found in _matches(r"\b[2-6](?:[ -]?\d){12,30}\b", text):
        ends = [at for at in range(13, len(found) + 1) if at == len(found) or not found[at].isdigit()]
        if any(_passes_luhn(found[:end]) for end in ends):
            yield found


def _passes_luhn(text: str) -> bool:
    digits = [int(character) for character in text if character.isdigit()]
    odd, even = digits[-1::-2], digits[-2::-2]
    return 13 <= len(digits) <= 19 and (sum(odd) + sum(sum(divmod(2 * digit, 10)) for digit in even)) % 10 == 0


def _ibans(text: str) -> Iterator[str]:
    """Account numbers whose country, length and check digits (ISO 13616) agree."""
    for found in _matches(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]){11,30}", text):
        number = found.replace(" ", "")
        length = _IBAN_LENGTHS.get(number[:2], 0)
        number = number[:length]
        if (
            length
            and len(number) == length
            and int("".join(str(int(c, 36)) for c in number[4:] + number[:4])) % 97 == 1
        ):
            yield number


def _ip_addresses(text: str) -> Iterator[str]:
    """Version 4; of version 6 those with three groups or more, since `std::byte` is none."""
    yield from filter(_is_ip_address, _matches(r"\b\d{1,3}(?:\.\d{1,3}){3}\b", text))
    for found in _matches(r"[0-9A-Za-z_.]*:[0-9A-Za-z_:.]*", text):
        token = found.rstrip(".")
        token = token if token.endswith("::") else token.rstrip(":")
        if len([group for group in token.split(":") if group]) >= 3 and _is_ip_address(token):
            yield token


def _is_ip_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _matches(pattern: str, text: str) -> Iterator[str]:
    return (match.group(0) for match in compile_pattern(pattern).finditer(text))


_FINDERS: dict[PiiType, Callable[[str], Iterator[str]]] = {
    "email": _emails,
    "phone": _phones,
    "ssn": _ssns,
    "credit_card": _credit_cards,
    "iban": _ibans,
    "ip_address": _ip_addresses,
}
