"""The story that every producer tells and the local provider answers, from `story.json`. Standard library only."""

import json
import os
from pathlib import Path
from typing import Any

STORY: dict[str, Any] = json.loads(Path(__file__).with_name("story.json").read_text(encoding="utf-8"))
TOOL: dict[str, Any] = STORY["tool"]
SESSION: str = STORY["session"]
USER: str = STORY["user"]
CHAT, REASONER, EMBEDDER = "gpt-4.1-mini", "o4-mini", "text-embedding-3-small"
CLAUDE, GEMINI = "claude-sonnet-4-5", "gemini-2.5-flash"


def system(scenario: str) -> str:
    """The system message of a scenario."""
    return str(STORY["scenarios"][scenario]["system"])


def questions(scenario: str) -> list[str]:
    """What the user says in a scenario, turn by turn."""
    return [turn["question"] for turn in STORY["scenarios"][scenario]["turns"]]


def question(scenario: str) -> str:
    """What the user says first."""
    return questions(scenario)[0]


def documents() -> list[str]:
    """The documents to search in the scenario `retrieval`."""
    return list(STORY["scenarios"]["retrieval"]["documents"])


def get_weather(city: str, days: int) -> str:
    """The weather of the coming days in a city.

    Args:
        city: Name of the city
        days: How many days
    """
    if (city, days) != ("Paris", 2):
        raise ValueError(f"the story asks for Paris, 2, not {city}, {days}")
    return str(TOOL["result"])


def provider_url(path: str = "") -> str:
    """Where the local provider listens."""
    return os.environ["PROVIDER_URL"] + path
