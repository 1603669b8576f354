"""Heuristics that look for something in a text: refusals, personal data, languages."""

from typing import Any

import pytest

from support.heuristics import failure, find, said, talk


@pytest.mark.parametrize(
    ("output", "value"),
    [
        ("I'm sorry, but I can't help with that.", True),
        ("I’m sorry, but I can’t help with that.", True),
        ("I am  UNABLE\nto discuss this.", True),
        ("Das kann ich leider nicht tun.", True),
        ("Lo siento, pero no puedo ayudarte con eso.", True),
        ("Je suis désolé, mais je ne peux pas vous aider.", True),
        ("抱歉，我无法提供这些信息。", True),
        ("申し訳ありませんが、そのご質問にはお答えできません。", True),
        ("You can return shoes within 30 days.", False),
        ("Ich kann Ihnen helfen.", False),
        ("返品は30日以内に可能です。", False),
        ("Fine. " * 100 + "I cannot help with that.", False),
    ],
)
def test_refusal(output: str, value: bool) -> None:
    assert find("refusal", {}, said(output)).value is value


@pytest.mark.parametrize(
    ("parameters", "output", "value"),
    [
        ({"languages": ["de"]}, "I cannot help with that.", False),
        ({"languages": [], "phrases": ["Ask  the LIBRARIAN"]}, "Please ask the librarian.", True),
        ({"languages": [], "phrases": ["ask the librarian"]}, "I cannot help with that.", False),
        ({"within": 0}, "Fine. " * 100_000 + "I cannot help with that.", True),
        ({"within": 10}, "Well, I cannot help with that.", False),
    ],
)
def test_refusal_by_parameters(parameters: dict[str, Any], output: str, value: bool) -> None:
    assert find("refusal", parameters, said(output)).value is value


def test_a_refusal_in_any_turn_of_a_session_counts() -> None:
    assert find("refusal", {}, talk("Sure.", "I cannot help with that.", "Done.")).value is True
    assert find("refusal", {}, talk("Sure.", "", "Done.")).value is False
    assert failure("refusal", {}, talk("", "")) == "NO_OUTPUT"


FOUND = [
    ("email", "Write to anna.bell+x@mail.example.com."),
    ("email", "Schreiben Sie an müller@example.de!"),
    ("phone", "Call +49 30 1234567 now"),
    ("phone", "+1 (555) 010-9999"),
    ("phone", "+14155550100"),
    ("phone", "555-010-9999"),
    ("phone", "(415) 555-0100"),
    ("phone", "Tel. 030/123 45 67"),
    ("phone", "01 42 68 53 00"),
    ("ssn", "My number is 123-45-6789."),
    ("credit_card", "4111 1111 1111 1111"),
    ("credit_card", "card:5555555555554444,"),
    ("credit_card", "3782-822463-10005"),
    ("credit_card", "4111 1111 1111 1111 12/27"),
    ("iban", "DE89 3704 0044 0532 0130 00"),
    ("iban", "GB82WEST12345698765432"),
    ("iban", "IBAN: DE89 3704 0044 0532 0130 00 AND MORE"),
    ("ip_address", "from 192.168.0.17, twice"),
    ("ip_address", "2001:db8::8a2e:370:7334"),
]
NOT_FOUND = [
    ("email", "me @ home, x@y, @handle, a@b.c"),
    ("phone", "Order 12345678, on 2024-01-15 or 01.02.2024 10:30, costs 1 234 567"),
    ("phone", "Version 3.11.7, 99-100 pages"),
    ("ssn", "000-12-3456, 666-12-3456, 900-12-3456, 123-00-4567, 123-45-0000, 2123-45-67891"),
    ("credit_card", "4111 1111 1111 1112"),
    ("credit_card", "1234567890123456, 0000 0000 0000 0000"),
    ("iban", "DE89 3704 0044 0532 0130 01"),
    ("iban", "XX89370400440532013000, THE90 PERCENT MORE THAN BEFORE"),
    ("ip_address", "999.1.1.1, 1.2.3, 10:30:45, std::vector, a::b, ::"),
]


@pytest.mark.parametrize(("kind", "text"), FOUND)
def test_personal_data_is_found_and_not_repeated(kind: str, text: str) -> None:
    finding = find("pii_detection", {"pii_types": [kind]}, said(text))
    assert finding.value is False
    assert finding.rationale == f"Found: {kind} (1)."


@pytest.mark.parametrize(("kind", "text"), NOT_FOUND)
def test_what_is_no_personal_data_is_let_through(kind: str, text: str) -> None:
    """True means that none was found, as MLflow's PIIDetection says "yes"."""
    assert find("pii_detection", {"pii_types": [kind]}, said(text)).value is True


def test_all_types_are_looked_for_in_every_text() -> None:
    text = "; ".join(text for _, text in FOUND)
    finding = find("pii_detection", {}, said(text))
    assert finding.value is False
    for kind in ("email (2)", "ssn (1)", "credit_card (4)", "iban (3)", "ip_address (2)", "phone ("):
        assert kind in finding.rationale
    assert find("pii_detection", {}, said("Alles gut, 今日はいい天気ですね.")).value is True
    assert find("pii_detection", {"field": "input"}, said("a@b.example", question="a@b.example")).value is False
    assert find("pii_detection", {}, talk("Fine.", "a@b.example", "Fine.")).value is False
    assert find("pii_detection", {}, said("broken \ud800 but a@b.example")).value is False


@pytest.mark.parametrize(
    "piece", ["a@", "1 ", "1-", "+1", "4111 ", "DE89 3704 ", "1.1.", "f:", "0 0", "ü a@b.example "]
)
def test_looking_for_personal_data_takes_linear_time(piece: str) -> None:
    find("pii_detection", {}, said(piece * (1_000_000 // len(piece))))


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("You can return the shoes within thirty days.", "en"),
        ("Sie können die Schuhe innerhalb von dreißig Tagen zurückgeben.", "de"),
        ("Vous pouvez retourner les chaussures dans les trente jours.", "fr"),
        ("靴は三十日以内に返品できます。", "ja"),
        ("Вы можете вернуть обувь в течение тридцати дней.", "ru"),
        ("12345", "und"),
        ("?!", "und"),
    ],
)
def test_language(text: str, code: str) -> None:
    assert find("language", {}, said(text)).value == code


def test_a_wanted_language() -> None:
    german = said("Sie können die Schuhe innerhalb von dreißig Tagen zurückgeben.")
    assert find("language", {"expected": ["de"]}, german).value is True
    assert find("language", {"expected": ["en", "fr"]}, german).value is False
    assert find("language", {"same_as_input": True}, german).value is False
    assert find("language", {"same_as_input": True}, said("Within thirty days, at the shop.")).value is True
    assert find("language", {"field": "input"}, german).value == "en"


def test_an_uncertain_language_is_an_error_where_one_is_wanted() -> None:
    assert failure("language", {"expected": ["en"]}, said("12345")) == "UNDETERMINED"
    assert failure("language", {"same_as_input": True}, said("Fine, thank you.", question="??")) == "UNDETERMINED"
    assert failure("language", {"expected": ["en"], "min_confidence": 1}, said("Fine, thank you.")) == "UNDETERMINED"


def test_the_language_of_a_huge_text() -> None:
    assert find("language", {}, said("This is a long story. " * 500_000)).value == "en"
