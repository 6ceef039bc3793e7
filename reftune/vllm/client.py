# The types are checked without vLLM.
# pyright: reportMissingImports=false, reportAttributeAccessIssue=false
"""vLLM's own engine, started with adapters, and what it answers in the server's words."""

import os
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vllm import AsyncEngineArgs, SamplingParams, TokensPrompt
from vllm.lora.request import LoRARequest
from vllm.platforms import current_platform
from vllm.sampling_params import RequestOutputKind
from vllm.v1.engine.async_llm import AsyncLLM

from reftune.serving.errors import EngineError
from reftune.serving.requests import Event, Failed, Finished, Sampling, Token
from reftune.vllm.plugin import frontend_of, register
from reftune.vllm.settings import VllmSettings, engine_arguments


class VllmClient:
    """vLLM's asynchronous client with its engine; see `reftune.vllm.engine.Client`.

    Args:
        model: a folder, or a hub id.
        settings: of adapters.
        arguments: of vLLM's `AsyncEngineArgs`, beside those.

    Raises:
        EngineError: vLLM does not know an argument, or its engine does not start.
    """

    def __init__(self, model: str, settings: VllmSettings, arguments: Mapping[str, Any]) -> None:
        register()
        own = engine_arguments(settings)
        given = {**own, "enable_log_requests": False, **_defaults(), **arguments}
        if taken := own.keys() & arguments.keys() - {"compilation_config"}:
            raise EngineError(f"{', '.join(sorted(taken))}: expected arguments that are not ours")
        try:
            self._llm = _started(AsyncEngineArgs(model=model, **given))
        except (TypeError, ValueError, RuntimeError) as error:
            raise EngineError(" ".join(str(error).split())) from error
        config = self._llm.vllm_config
        self.slots = settings.slots
        self.max_length: int = config.model_config.max_model_len
        self.max_requests: int = config.scheduler_config.max_num_seqs
        self._frontend = frontend_of(self._llm.input_processor)

    @property
    def alive(self) -> bool:
        """Whether its processes run."""
        return not self._llm.engine_core.resources.engine_dead

    def check(self, adapter: Path) -> None:
        """Raise AdapterError if an adapter could not be served."""
        self._frontend.check(adapter)

    def forget(self, adapter: Path) -> None:
        """Keep nothing of a folder here; workers let it go when they need the room."""
        self._frontend.forget(adapter)

    async def answer(
        self, name: str, prompt: Sequence[int], sampling: Sampling, adapter: Path | None
    ) -> AsyncIterator[Event]:
        """Give an answer; leaving it early takes the request back."""
        lora = None if adapter is None else LoRARequest(adapter.name, 1, str(adapter))
        asked = TokensPrompt(prompt_token_ids=list(prompt))
        async for output in self._llm.generate(asked, _params(sampling), name, lora_request=lora):
            for event in _events(output.outputs[0], sampling.top_logprobs):
                yield event

    async def figures(self) -> tuple[int, int]:
        """Return how many slots hold an adapter, and how often one had to make room."""
        [first, *_] = await self._llm.collective_rpc("reft_figures")
        return first[0], first[1]

    def shutdown(self) -> None:
        """End its processes."""
        self._llm.shutdown()


def _defaults() -> dict[str, Any]:
    # On CPU, vLLM 0.32 ends with an error where a prompt of a request with a seed is read in parts.
    return {"enable_chunked_prefill": False} if current_platform.is_cpu() else {}


def _started(arguments: AsyncEngineArgs) -> AsyncLLM:
    """Start vLLM's engine so that Ctrl-C reaches the server alone, which lets answers finish."""
    os.environ.setdefault("VLLM_WORKER_MULTIPROC_METHOD", "spawn")  # there are threads by now
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # new processes inherit it
    try:
        return AsyncLLM.from_engine_args(arguments)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _params(sampling: Sampling) -> SamplingParams:
    return SamplingParams(
        max_tokens=sampling.max_tokens,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        seed=sampling.seed,
        logprobs=sampling.top_logprobs,
        detokenize=False,
        output_kind=RequestOutputKind.DELTA,
    )


def _events(output: Any, top_logprobs: int | None) -> list[Event]:
    """Say what is new in an answer."""
    ids = list(output.token_ids)
    ended = output.finish_reason == "stop"  # by its last token, which is no part of it
    tokens = ids[:-1] if ended else ids
    events: list[Event] = [
        _token(id, None if top_logprobs is None else output.logprobs[place], top_logprobs)
        for place, id in enumerate(tokens)
    ]
    if ended or output.finish_reason == "length":
        events.append(Finished(output.finish_reason))
    elif output.finish_reason == "abort":
        events.append(Finished("cancelled"))
    elif output.finish_reason is not None:
        events.append(Failed(f"vLLM has ended the answer: {output.finish_reason}"))
    return events


def _token(id: int, logprobs: Mapping[int, Any] | None, count: int | None) -> Token:
    if logprobs is None:
        return Token(id)
    best = sorted(logprobs.items(), key=lambda item: item[1].rank)[:count]
    return Token(id, logprobs[id].logprob, tuple((token, of.logprob) for token, of in best))
