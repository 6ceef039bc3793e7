"""vLLM's engine with adapters, and what it answers."""

import os
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import transformers as tf

from reftune.vllm.settings import VllmSettings, engine_arguments
from tests.serving.served import CONFIGS, Alone, write_adapter
from tests.tiny_models import GATED, TinyModel

# vLLM's attention on CPU knows heads of 32, 64, ... alone.
WIDE = {"hidden_size": 64, "num_attention_heads": 2}
LLAMA = TinyModel(
    "llama",
    partial(tf.LlamaConfig, **{**GATED, **WIDE, "num_key_value_heads": 1}),
    "LlamaForCausalLM",
)
QWEN3 = TinyModel(
    "qwen3",
    partial(tf.Qwen3Config, **{**GATED, **WIDE, "num_key_value_heads": 2}, head_dim=32),
    "Qwen3ForCausalLM",
)
GPT2 = TinyModel(
    "gpt2",
    partial(
        tf.GPT2Config, vocab_size=96, n_embd=64, n_layer=3, n_head=2, n_positions=128,
        pad_token_id=0, bos_token_id=1, eos_token_id=2,
    ),
    "GPT2LMHeadModel",
)  # fmt: skip
ENVIRONMENT = {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
    "VLLM_LOGGING_LEVEL": "ERROR",
    # One thread, on any core: those that wait for each other are slow where cores are shared.
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "OMP_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
}
SMALL = {
    "skip_tokenizer_init": True,
    "dtype": "float32",
    "max_model_len": 128,
    "block_size": 32,
    "enable_prefix_caching": True,
    "max_num_batched_tokens": 16,
    "max_num_seqs": 12,
    "enforce_eager": True,
    "seed": 0,
}
NEW_TOKENS = 8


@dataclass(frozen=True)
class Saved:
    """A model and adapters in folders."""

    tiny: TinyModel
    model: Path
    adapters: Path

    @property
    def folders(self) -> dict[str, Path]:
        return {path.name: path for path in sorted(self.adapters.iterdir())}

    def alone(self) -> Alone:
        return Alone(self.tiny, self.folders)


def save(out: Path, tiny: TinyModel, each: int = 1) -> Saved:
    """Save a model, and of every kind of adapter so many."""
    model = tiny.build()
    model.save_pretrained(out / "model")
    for number in range(each):
        for seed, (name, config) in enumerate(CONFIGS.items()):
            folder = out / "adapters" / f"{name}{number or ''}"
            write_adapter(folder, model, seed + 100 * number, **config)
    return Saved(tiny, out / "model", out / "adapters")


@contextmanager
def environment() -> Iterator[None]:
    """Set what vLLM reads when it starts."""
    before = {name: os.environ.get(name) for name in ENVIRONMENT}
    os.environ.update(ENVIRONMENT)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def running(saved: Saved, slots: int = 8, **arguments: Any) -> Iterator[Any]:
    """Start vLLM, with its engine in a process of its own."""
    with environment():
        from vllm import LLM

        settings = VllmSettings(slots=slots, adapters=str(saved.adapters))
        llm = LLM(str(saved.model), **{**SMALL, **engine_arguments(settings), **arguments})
        try:
            yield llm
        finally:
            llm.llm_engine.engine_core.shutdown()


# A prompt, and the name of an adapter or none.
Ask = tuple[Sequence[int], str | None]


def asked(saved: Saved, count: int, longest: int = 40, seed: int = 0) -> list[Ask]:
    draws = random.Random(seed)
    names = [None, *saved.folders]
    return [
        ([draws.randrange(10, 96) for _ in range(draws.randint(1, longest))], draws.choice(names))
        for _ in range(count)
    ]


def answers(llm: Any, asks: Sequence[Ask], count: int = NEW_TOKENS, **more: Any) -> list[list[int]]:
    """Return what vLLM answers to requests that are all there at once."""
    from vllm import SamplingParams
    from vllm.inputs import TokensPrompt

    prompts = [TokensPrompt(prompt_token_ids=list(prompt), **more) for prompt, _ in asks]
    sampling = [
        SamplingParams(
            temperature=0,
            max_tokens=count,
            detokenize=False,
            extra_args=None if name is None else {"reft": name},
        )
        for _, name in asks
    ]
    outputs = llm.generate(prompts, sampling, use_tqdm=False)
    found = [list(output.outputs[0].token_ids) for output in outputs]
    return [ids[:-1] if ids and ids[-1] == 2 else ids for ids in found]


def wrong(llm: Any, saved: Saved, alone: Alone, asks: Sequence[Ask], count: int = NEW_TOKENS):
    """Return the requests whose answer is not that of `generate`, alone."""
    folders = saved.folders
    pairs = zip(asks, answers(llm, asks, count), strict=True)
    return [
        (name, prompt)
        for (prompt, name), ids in pairs
        if ids != alone.ids(prompt, None if name is None else folders[name], count)
    ]
