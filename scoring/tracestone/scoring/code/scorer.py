"""Scorers that are Python functions."""

import asyncio
import importlib.metadata
from collections.abc import Callable
from functools import partial
from typing import Any

from tracestone.schema.scorers.code import Code
from tracestone.scoring.code import documents, functions
from tracestone.scoring.code.sandbox import Program, Sandbox
from tracestone.scoring.scorers.protocol import AttemptFailed, Outcome, Subject

GROUP = "tracestone.scorers"


class UploadedScorer:
    """A function whose source came over the API or in the configuration file; runs in the sandbox."""

    source_type = "CODE"
    retries = 2

    def __init__(self, scorer: str, code: Code, sandbox: Sandbox | None) -> None:
        """`scorer` tells the version apart from every other, so that none shares its process."""
        memory = code.memory_mb * 1024 * 1024
        self._program = Program(scorer, code.source or "", code.function or "", code.timeout, memory)
        self._sandbox = sandbox
        self.source_id = f"code/{code.function}"

    async def score(self, subject: Subject) -> Outcome:
        """The function's answer. Raises AttemptFailed."""
        if self._sandbox is None:
            reason = "uploaded functions are not run: the setting code_scorers is off"
            raise AttemptFailed("CODE_NOT_ENABLED", reason, retryable=False)
        verdict = await self._sandbox.call(self._program, partial(documents.given, subject))
        return _outcome(self.source_id, verdict)


class InstalledScorer:
    """A function of an installed package, by its entry point; runs on a thread of this process."""

    source_type = "CODE"
    retries = 0

    def __init__(self, code: Code) -> None:
        self._code = code
        self.source_id = f"{GROUP}/{code.entry_point}"

    async def score(self, subject: Subject) -> Outcome:
        """The function's answer. A function that overruns its time goes on, but nobody waits. Raises AttemptFailed."""
        try:
            async with asyncio.timeout(self._code.timeout):
                verdict = await asyncio.to_thread(self._called, subject)
        except TimeoutError as error:
            reason = f"the function took more than {self._code.timeout:g} seconds"
            raise AttemptFailed("TIMEOUT", reason, retryable=False) from error
        return _outcome(self.source_id, verdict)

    def _called(self, subject: Subject) -> dict[str, Any]:
        function = self._function()
        try:
            verdict = functions.answer(function, documents.given(subject, functions.wanted(function)))
        except functions.BadAnswer as error:
            raise AttemptFailed("BAD_VALUE", str(error), retryable=False) from error
        except functions.BadFunction as error:
            raise AttemptFailed("SCORER_FAILED", str(error), retryable=False) from error
        except Exception as error:
            raise AttemptFailed("SCORER_FAILED", f"{type(error).__name__}: {error}"[:2000], retryable=False) from error
        if "failed" in verdict:
            raise AttemptFailed("SCORER_FAILED", verdict["failed"], retryable=False)
        return verdict

    def _function(self) -> Callable[..., Any]:
        name = self._code.entry_point or ""
        found = importlib.metadata.entry_points(group=GROUP, name=name)
        for entry_point in found:
            try:
                function: Callable[..., Any] = entry_point.load()
            except Exception as error:
                reason = f"the entry point {name} cannot be loaded: {type(error).__name__}: {error}"[:2000]
                raise AttemptFailed("SCORER_FAILED", reason, retryable=False) from error
            return function
        reason = f"no installed package has an entry point {name} in {GROUP}"
        raise AttemptFailed("ENTRY_POINT_NOT_FOUND", reason, retryable=False)


def _outcome(source_id: str, verdict: dict[str, Any]) -> Outcome:
    return Outcome("CODE", source_id, verdict["value"], verdict["rationale"], metadata=verdict["metadata"])
