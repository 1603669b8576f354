"""A judge: prompt and subject in, calls of a model, a verdict out."""

import asyncio
from collections.abc import Mapping

from tracestone.schema.scorers.judges import Judge, ModelCalls
from tracestone.schema.stores.jobs import Usage
from tracestone.scoring.judges import prompts
from tracestone.scoring.judges.contents import length_of_trace
from tracestone.scoring.judges.looking import Looking
from tracestone.scoring.judges.prompts import Brief, Message, Shown
from tracestone.scoring.judges.verdict import Answer, Asked, Form, Unusable
from tracestone.scoring.llm import Call, CallFailed, Provider, Reply
from tracestone.scoring.scorers.protocol import AttemptFailed, Named, Outcome, Subject
from tracestone.scoring.threads import computed


class JudgeScorer:
    """Scores by asking a model. An unusable answer is sent back once; after that the attempt has failed."""

    source_type = "LLM_JUDGE"

    def __init__(
        self,
        brief: Brief,
        calls: ModelCalls,
        provider: Provider,
        *,
        max_steps: int = 20,
        max_usd: float | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        """`max_steps` and `max_usd` bound a look at a trace that is too long to be told."""
        self._brief = brief
        self._calls = calls
        self._provider = provider
        self._max_steps = max_steps
        self._max_usd = max_usd
        self._metadata = metadata or {}
        self.source_id = calls.model
        self.retries = calls.retries

    async def score(self, subject: Subject) -> Outcome:
        """The verdict with the usage of every call made. Raises AttemptFailed."""
        looking, asked = await computed(subject.spans, lambda: self._begun(subject))
        usage, steps = Usage(), 0
        while looking is not None and steps < self._max_steps and not self._too_dear(usage):
            reply = await self._call(asked, usage, looking, last=False)
            usage = usage.plus(reply.usage)
            if not reply.tool_calls:
                break
            asked = asked + await asyncio.to_thread(looking.answers, reply)
            steps += 1
        else:
            reply = await self._call(asked, usage, looking, last=True)
            usage = usage.plus(reply.usage)
        answers, reply, usage = await self._read(asked, reply, usage, looking)
        metadata = dict(self._metadata) | ({"model": reply.model} if reply.model else {})
        if looking is not None:
            metadata["steps"] = str(steps)
        first = answers.get("")
        named = tuple(Named(name, answer.value, answer.rationale) for name, answer in answers.items() if name)
        return Outcome(
            self.source_type,
            self.source_id,
            first.value if first else None,
            first.rationale if first else "",
            usage=usage,
            metadata=metadata,
            named=named,
        )

    async def _read(
        self, asked: list[Message], reply: Reply, usage: Usage, looking: Looking | None
    ) -> tuple[dict[str, Answer], Reply, Usage]:
        form = self._brief.form
        try:
            return form.read(reply.text), reply, usage
        except Unusable as problem:
            again = await self._call(prompts.repair(asked, reply.text, str(problem)), usage, looking)
            usage = usage.plus(again.usage)
            try:
                return form.read(again.text), again, usage
            except Unusable as error:
                raise AttemptFailed("INVALID_VERDICT", str(error), retryable=True, usage=usage) from error

    def _begun(self, subject: Subject) -> tuple[Looking | None, list[Message]]:
        looking = self._looking(subject)
        return looking, prompts.messages(self._brief, subject, by_tools=looking.outline if looking else "")

    def _looking(self, subject: Subject) -> Looking | None:
        """How the judge looks at a trace that is too long to be told whole; None when it is not."""
        if "trace" not in self._brief.variables:
            return None
        share = self._brief.max_content_characters // len(self._brief.variables)
        return Looking(subject, share) if length_of_trace(subject) > share else None

    def _too_dear(self, usage: Usage) -> bool:
        return self._max_usd is not None and (usage.cost_usd or 0.0) >= self._max_usd

    async def _call(
        self, messages: list[Message], spent: Usage, looking: Looking | None = None, *, last: bool = True
    ) -> Reply:
        calls = self._calls
        try:
            return await self._provider.complete(
                Call(
                    calls.model,
                    messages,
                    self._brief.form.response_format(),
                    calls.params,
                    calls.timeout,
                    calls.api_base,
                    looking.tools if looking else (),
                    "none" if last else "auto",
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


def of_definition(judge: Judge, provider: Provider) -> JudgeScorer:
    """The scorer that a stored definition describes."""
    return JudgeScorer(brief_of(judge), judge, provider, max_steps=judge.max_steps, max_usd=judge.max_usd)


def brief_of(judge: Judge) -> Brief:
    """What a definition tells the judge."""
    asked = tuple(Asked(question.name, question.ask, question.verdict) for question in judge.questions)
    form = Form(asked or (Asked("", "", judge.verdict),), judge.rationale)
    examples = tuple(
        Shown(
            {"inputs": example.inputs, "outputs": example.outputs},
            form.write(
                {
                    one.name: Answer(rationale=example.rationale, value=example.value[one.name])
                    if one.name
                    else Answer(rationale=example.rationale, value=example.value)
                    for one in form.questions
                }
            ),
        )
        for example in judge.examples
    )
    return Brief(judge.instructions, form, judge.max_content_characters, examples=examples, images=judge.images)
