"""A judge: prompt and subject in, one or two calls, a verdict out."""

import asyncio

from tracestone.schema.scorers.judges import Judge
from tracestone.schema.stores.jobs import Usage
from tracestone.scoring.judges import prompts, verdict
from tracestone.scoring.judges.prompts import Message
from tracestone.scoring.llm import Call, CallFailed, Provider, Reply
from tracestone.scoring.scorers.protocol import AttemptFailed, Outcome, Subject


class JudgeScorer:
    """Scores by asking a model. An unusable answer is sent back once; after that the attempt has failed."""

    source_type = "LLM_JUDGE"

    def __init__(self, judge: Judge, provider: Provider) -> None:
        self._judge = judge
        self._provider = provider
        self.source_id = judge.model
        self.retries = judge.retries

    async def score(self, subject: Subject) -> Outcome:
        """The verdict with the usage of every call made. Raises AttemptFailed."""
        asked = await asyncio.to_thread(prompts.messages, self._judge, subject)
        reply = await self._call(asked, Usage())
        usage = reply.usage
        try:
            answer = verdict.read(self._judge.verdict, reply.text)
        except verdict.Unusable as problem:
            again = await self._call(prompts.repair(asked, reply.text, str(problem)), usage)
            usage = usage.plus(again.usage)
            try:
                answer = verdict.read(self._judge.verdict, again.text)
            except verdict.Unusable as error:
                raise AttemptFailed("INVALID_VERDICT", str(error), retryable=True, usage=usage) from error
            reply = again
        return Outcome(
            self.source_type,
            self.source_id,
            answer.value,
            answer.rationale,
            usage=usage,
            metadata={"model": reply.model} if reply.model else {},
        )

    async def _call(self, messages: list[Message], spent: Usage) -> Reply:
        judge = self._judge
        try:
            return await self._provider.complete(
                Call(
                    judge.model,
                    messages,
                    verdict.response_format(judge.verdict),
                    judge.params,
                    judge.timeout,
                    judge.api_base,
                )
            )
        except CallFailed as error:
            raise AttemptFailed(
                error.code,
                error.message,
                retryable=error.retryable,
                retry_after=error.retry_after,
                usage=spent.plus(Usage(calls=1)),
            ) from error
