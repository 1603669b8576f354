"""What the heuristics read, and how they say that there is nothing to read. Pure.

Nothing to score is an error with a code, never a value: `NO_INPUT`, `NO_OUTPUT`, `NO_EXPECTATION`, `NO_USAGE`,
`NO_COST`, `NO_SPANS`, `NO_DOCUMENTS`, `NO_WORDS`, `UNDETERMINED`, `TEXT_TOO_LONG`. None of them is tried again.
"""

import json
from typing import Literal

from tracestone.schema.scorers.measures import Compared, Measured
from tracestone.scoring.scorers.protocol import AttemptFailed, Finding, Subject

# Comparing takes time in proportion to the product of two lengths.
MAX_COMPARED_CHARACTERS = 100_000
_MOST_SHOWN = 80


def nothing(code: str, message: str) -> AttemptFailed:
    """There is nothing to score, now and later."""
    return AttemptFailed(code, message, retryable=False)


def text_of(subject: Subject, side: Literal["input", "output"] = "output") -> str:
    """The input or output. Raises AttemptFailed when there is none."""
    text = subject.inputs if side == "input" else subject.outputs
    if not text.strip():
        raise nothing(f"NO_{side.upper()}", f"the {subject.target_type} has no recorded {side}")
    return valid(text)


def texts_of(subject: Subject, side: Literal["input", "output"] = "output") -> list[str]:
    """The input or output; of a session those of every turn that has one. Raises AttemptFailed when there is none."""
    if subject.target_type != "session":
        return [text_of(subject, side)]
    found = [turn.inputs if side == "input" else turn.outputs for turn in subject.turns]
    found = [valid(text) for text in found if text.strip()]
    if not found:
        raise nothing(f"NO_{side.upper()}", f"the session has no recorded {side}")
    return found


def valid(text: str) -> str:
    """The text without lone surrogates, which JSON can hold and no library takes."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def expected_texts(parameters: Compared, subject: Subject) -> list[str]:
    """What the output is compared with: the given text, or the expectation, whose list holds several texts.

    Raises AttemptFailed when there is neither.
    """
    if parameters.expected is not None:
        return [parameters.expected]
    found = subject.expectations.get(parameters.expectation)
    items = found if isinstance(found, list | tuple) else [found]
    texts = [valid(item if isinstance(item, str) else json.dumps(item, ensure_ascii=False)) for item in items]
    texts = [text for item, text in zip(items, texts, strict=True) if item is not None and text.strip()]
    if not texts:
        raise nothing("NO_EXPECTATION", f"the {subject.target_type} has no expectation {parameters.expectation}")
    return texts


def comparable(*texts: str) -> None:
    """Raises AttemptFailed when one of the texts is too long to be compared."""
    longest = max(map(len, texts))
    if longest > MAX_COMPARED_CHARACTERS:
        reason = f"a text of {longest} characters is compared; {MAX_COMPARED_CHARACTERS} are the most"
        raise nothing("TEXT_TOO_LONG", reason)


def measured(parameters: Measured, number: float, sentence: str) -> Finding:
    """The number, or with bounds whether it lies within; `sentence` says what was measured, without a full stop."""
    minimum, maximum = parameters.minimum, parameters.maximum
    if minimum is None and maximum is None:
        return Finding(number, f"{sentence}.")
    inside = (minimum is None or number >= minimum) and (maximum is None or number <= maximum)
    least = "" if minimum is None else f"at least {minimum:g}"
    most = "" if maximum is None else f"at most {maximum:g}"
    bounds = " and ".join(filter(None, (least, most)))
    return Finding(inside, f"{sentence}; {bounds} is wanted.")


def shown(text: str) -> str:
    """The beginning of a text on one line, in quotation marks."""
    line = " ".join(text[: 4 * _MOST_SHOWN].split())
    return f"“{line[:_MOST_SHOWN]}…”" if len(line) > _MOST_SHOWN or len(text) > 4 * _MOST_SHOWN else f"“{line}”"
