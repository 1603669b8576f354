"""Calls of language models through litellm: timeouts, errors, tokens, cost.

The only module that knows litellm.

litellm takes seconds and 160 MB to import, so it is imported when the first judge runs, on a thread. It is
told to use the price map it ships with, not to call home, not to retry (the job queue does) and to run no
callbacks; a judge's calls become traces by our own hand (`judge_traces`).
"""

import asyncio
import gc
import importlib
import re
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, Literal, Protocol

from tracestone.schema import clock
from tracestone.schema.errors import MissingExtra
from tracestone.schema.settings import prepare_litellm, provider_secrets
from tracestone.schema.stores.jobs import Usage

MAX_MESSAGE_CHARACTERS = 500
_LONGEST_WAIT_SECONDS = 3600.0
_TURNS_UNTIL_QUEUED = 5
_FLUSH_SECONDS = 1.0
_MOST_FACTS = 1000
_RETRYABLE_STATUS = frozenset({408, 409, 425, 429})
_SECRET = re.compile(
    r"(?i)\bbearer\s+[^\s\"',]+"
    r"|\b(?:sk|pk|rk|xai|gsk|hf|ghp|key)[-_][A-Za-z0-9*._-]{6,}"
    r"|\bAIza[A-Za-z0-9_*-]{10,}|\bAKIA[A-Z0-9]{12,}"
    r"|(?<=://)[^/\s:@]+:[^/\s@]+(?=@)"
    r"|(?:api[-_]?key|token|secret|password)[\"']?\s*[=:]\s*[\"']?[^\s\"',&]+"
)


@dataclass(frozen=True)
class Call:
    """One request for a chat completion; `timeout` is in seconds, `params` are the provider's own."""

    model: str
    messages: Sequence[Mapping[str, Any]]
    response_format: Mapping[str, Any]
    params: Mapping[str, Any]
    timeout: float
    api_base: str | None
    tools: Sequence[Mapping[str, Any]] = ()
    tool_choice: Literal["auto", "none"] = "auto"


@dataclass(frozen=True)
class ToolCall:
    """A tool that the model wants to be run; `arguments` are JSON, as the model wrote them."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True)
class Reply:
    """A model's text, what the call cost, the model that says it answered, and the tools it wants to be run.

    `seconds` is how long the provider took, 0 when that is not known.
    """

    text: str
    usage: Usage
    model: str
    tool_calls: tuple[ToolCall, ...] = ()
    seconds: float = 0.0


@dataclass(frozen=True)
class EmbeddingCall:
    """One request for the embeddings of some texts; `timeout` is in seconds."""

    model: str
    texts: Sequence[str]
    timeout: float
    api_base: str | None


@dataclass(frozen=True)
class Embeddings:
    """A vector for each text, in their order, and what the call cost."""

    vectors: tuple[tuple[float, ...], ...]
    usage: Usage


@dataclass(frozen=True)
class ModelFacts:
    """What a price map knows of a model: the highest prices of a token, in USD, and the most tokens of an answer."""

    input_usd: float | None = None
    output_usd: float | None = None
    most_output_tokens: int | None = None


class CallFailed(Exception):
    """A call gave no text. The message holds no secret and is short enough to store."""

    def __init__(self, code: str, message: str, *, retryable: bool, retry_after: float | None = None) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.retryable = retryable
        self.retry_after = retry_after


class Provider(Protocol):
    """Whatever can complete a chat and embed texts."""

    async def complete(self, call: Call) -> Reply:
        """One call, at most `call.timeout` seconds long. Raises CallFailed."""
        ...

    async def embed(self, call: EmbeddingCall) -> Embeddings:
        """One call, at most `call.timeout` seconds long. Raises CallFailed."""
        ...


class LiteLLM:
    """Any provider litellm knows.

    Keys come from the environment variables litellm documents for each provider.
    """

    def __init__(self) -> None:
        self._module: Any = None
        self.spent = {"ok": 0.0, "failed": 0.0, "cost_usd": 0.0}
        self._facts: dict[tuple[str, bool], ModelFacts] = {}
        self._loading = asyncio.Lock()

    async def complete(self, call: Call) -> Reply:
        """One call, at most `call.timeout` seconds long.

        Raises CallFailed; MissingExtra when litellm is not installed.
        """
        litellm = await self._loaded()
        tools = {"tools": [dict(tool) for tool in call.tools], "tool_choice": call.tool_choice} if call.tools else {}
        asked = clock.monotonic()
        with self._counted():
            response = await _answered(
                call.timeout,
                litellm.acompletion(
                    **call.params,
                    **tools,
                    model=call.model,
                    messages=[dict(message) for message in call.messages],
                    response_format=dict(call.response_format),
                    timeout=call.timeout,
                    api_base=call.api_base,
                    num_retries=0,
                    max_retries=0,
                    drop_params=True,
                ),
            )
        usage = _usage(litellm, call.model, response)
        self.spent["cost_usd"] += usage.cost_usd or 0.0
        model = str(getattr(response, "model", "") or "")
        return Reply(_text(response), usage, model, _tool_calls(response), clock.monotonic() - asked)

    async def embed(self, call: EmbeddingCall) -> Embeddings:
        """One call, at most `call.timeout` seconds long.

        Raises CallFailed; MissingExtra when litellm is not installed.
        """
        litellm = await self._loaded()
        with self._counted():
            response = await _answered(
                call.timeout,
                litellm.aembedding(
                    model=call.model,
                    input=list(call.texts),
                    timeout=call.timeout,
                    api_base=call.api_base,
                    num_retries=0,
                    max_retries=0,
                ),
            )
            vectors = _vectors(response, len(call.texts))
        usage = _usage(litellm, call.model, response)
        self.spent["cost_usd"] += usage.cost_usd or 0.0
        return Embeddings(vectors, usage)

    @contextmanager
    def _counted(self) -> Iterator[None]:
        try:
            yield
        except CallFailed:
            self.spent["failed"] += 1
            raise
        self.spent["ok"] += 1

    async def facts(self, model: str, *, fast: bool = False) -> ModelFacts:
        """What litellm's price map knows of a model, of faster service too if asked. Raises MissingExtra."""
        key = (model, fast)
        if key not in self._facts:
            litellm = await self._loaded()
            if len(self._facts) >= _MOST_FACTS:
                self._facts.clear()
            self._facts[key] = _facts(litellm, *key)
        return self._facts[key]

    async def close(self) -> None:
        """Closes the connections and ends the background task that litellm keeps. Safe to call twice."""
        litellm, self._module = self._module, None
        if litellm is None:
            return
        worker = importlib.import_module("litellm.litellm_core_utils.logging_worker").GLOBAL_LOGGING_WORKER
        # A call ends before litellm's own tasks about it have reached its worker; let them.
        for _ in range(_TURNS_UNTIL_QUEUED):
            await asyncio.sleep(0)
        with suppress(TimeoutError):
            async with asyncio.timeout(_FLUSH_SECONDS):
                await worker.flush()
        await worker.stop()
        await litellm.close_litellm_async_clients()
        # A client that stays in the cache would be found again, closed as it is, by whoever asks at the same address.
        litellm.in_memory_llm_clients_cache.flush_cache()
        session, litellm.aclient_session = litellm.aclient_session, None
        if session is not None:
            await session.aclose()

    async def _loaded(self) -> Any:
        async with self._loading:
            if self._module is None:
                self._module = await asyncio.to_thread(_load)
            return self._module


def redact(message: str) -> str:
    """The message without anything that looks like a secret, on one line, cut to what is stored."""
    for secret in provider_secrets():
        message = message.replace(secret, "[redacted]")
    return " ".join(_SECRET.sub("[redacted]", message).split())[:MAX_MESSAGE_CHARACTERS]


def _load() -> Any:
    prepare_litellm()
    try:
        litellm: Any = importlib.import_module("litellm")
        httpx: Any = importlib.import_module("httpx")
    except ImportError as error:
        raise MissingExtra("litellm", "judge") from error
    litellm.suppress_debug_info = True
    litellm.disable_aiohttp_transport = True
    litellm.aclient_session = httpx.AsyncClient(transport=_transport(), follow_redirects=True)
    litellm.callbacks = []
    litellm.success_callback = []
    litellm.failure_callback = []
    litellm.cache = None
    litellm.DEFAULT_MAX_RETRIES = 0  # embedding() takes it instead of a max_retries of 0
    # litellm is 400,000 objects that never go. Looked through again and again for garbage, they take a fifth of a call.
    gc.collect()
    gc.freeze()
    return litellm


def _transport() -> Any:
    """How OpenAI's protocol is spoken: through aiohttp, and as many connections as there are calls.

    litellm would open a hundred at most, and httpx's own pool looks at all of them for every call.
    """
    aiohttp: Any = importlib.import_module("aiohttp")
    transport: Any = importlib.import_module("litellm.llms.custom_httpx.aiohttp_transport").LiteLLMAiohttpTransport
    # Proxies are those that the environment names: the transport looks once a host, a session would for every call.
    return transport(client=lambda: aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, ttl_dns_cache=300)))


def _unrecorded() -> AbstractContextManager[Any]:
    """Calls within it are not prepared for litellm's callbacks, of which there are none: an eighth of a call's work.

    litellm tells its own calls within calls by it, and does not document it; without it everything works all the same.
    """
    try:
        internal: Any = importlib.import_module("litellm._internal_context")
        return internal.internal_sub_call()  # type: ignore[no-any-return]
    except (ImportError, AttributeError):
        return nullcontext()


async def _answered(seconds: float, asked: Awaitable[Any]) -> Any:
    """What litellm answers in time. Raises CallFailed."""
    try:
        async with asyncio.timeout(seconds):
            with _unrecorded():
                return await asked
    except TimeoutError as error:
        raise CallFailed("TIMEOUT", f"no answer within {seconds:g} seconds", retryable=True) from error
    except Exception as error:
        raise _failure(error) from error


def _failure(error: Exception) -> CallFailed:
    status = getattr(error, "status_code", None)
    status = status if isinstance(status, int) else 0
    code = {401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "MODEL_NOT_FOUND", 408: "TIMEOUT"}.get(status)
    code = code or ("RATE_LIMITED" if status == 429 else "PROVIDER_ERROR" if status >= 500 else "REQUEST_REFUSED")
    if "Timeout" in type(error).__name__:
        code = "TIMEOUT"
    retryable = code == "TIMEOUT" or status in _RETRYABLE_STATUS or status >= 500 or status == 0
    message = str(getattr(error, "message", "") or error) or type(error).__name__
    return CallFailed(code, redact(message), retryable=retryable, retry_after=_retry_after(error))


def _retry_after(error: Exception) -> float | None:
    """Seconds the provider asks to wait: Retry-After as seconds or as an HTTP date."""
    response = getattr(error, "response", None)
    for headers in (getattr(error, "litellm_response_headers", None), getattr(response, "headers", None)):
        value = headers.get("retry-after") if headers is not None else None
        if not value:
            continue
        try:
            seconds = float(value)
        except ValueError:
            try:
                seconds = (parsedate_to_datetime(value) - clock.now()).total_seconds()
            except (ValueError, TypeError):
                continue
        if seconds > 0:
            return min(seconds, _LONGEST_WAIT_SECONDS)
    return None


def _tool_calls(response: Any) -> tuple[ToolCall, ...]:
    choices = getattr(response, "choices", None) or []
    calls = getattr(getattr(choices[0], "message", None), "tool_calls", None) if choices else None
    return tuple(
        ToolCall(str(call.id), str(call.function.name or ""), str(call.function.arguments or ""))
        for call in calls or []
    )


def _text(response: Any) -> str:
    choices = getattr(response, "choices", None) or []
    content = getattr(getattr(choices[0], "message", None), "content", None) if choices else None
    return content if isinstance(content, str) else ""


def _vectors(response: Any, wanted: int) -> tuple[tuple[float, ...], ...]:
    """The embeddings in the order of the texts. Raises CallFailed when they are not as many, or no vectors."""
    try:
        found = sorted((item["index"], tuple(map(float, item["embedding"]))) for item in response.data)
    except (TypeError, ValueError, KeyError, AttributeError):
        found = []
    if [index for index, _ in found] != list(range(wanted)) or len({len(vector) for _, vector in found}) != 1:
        raise CallFailed("PROVIDER_ERROR", "the answer does not hold one embedding for each text", retryable=True)
    return tuple(vector for _, vector in found)


def _usage(litellm: Any, model: str, response: Any) -> Usage:
    usage = getattr(response, "usage", None)
    return Usage(
        calls=1,
        cost_usd=_cost(litellm, model, response),
        input_tokens=_count(getattr(usage, "prompt_tokens", None)),
        output_tokens=_count(getattr(usage, "completion_tokens", None)),
    )


def _cost(litellm: Any, model: str, response: Any) -> float | None:
    """USD by litellm's price map; None for a model it has no price for."""
    try:
        # litellm has reckoned it already; reckoning it again takes a tenth of the time of a whole call.
        known = getattr(response, "_hidden_params", {}).get("response_cost")
        cost = float(litellm.completion_cost(completion_response=response, model=model) if known is None else known)
    except Exception:  # noqa: BLE001 - litellm raises bare Exception for an unknown price
        return None
    return cost if cost >= 0 else None


def _facts(litellm: Any, model: str, fast: bool) -> ModelFacts:
    try:
        info = dict(litellm.get_model_info(model))
    except Exception:  # noqa: BLE001 - litellm raises bare Exception for an unknown model
        return ModelFacts()
    return ModelFacts(
        _highest(info, "input_cost_per_token", fast),
        _highest(info, "output_cost_per_token", fast),
        _count(info.get("max_output_tokens")) or None,
    )


def _highest(info: Mapping[str, Any], name: str, fast: bool) -> float | None:
    """The highest of a price and of those for long requests (and for faster service), which are named after it."""
    known = [
        value
        for key, value in info.items()
        if key.startswith(name) and isinstance(value, int | float) and (fast or not key.endswith("_priority"))
    ]
    return max(map(float, known), default=None)


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and value >= 0 else None
