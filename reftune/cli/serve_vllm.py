"""`reftune serve --engine vllm`: vLLM's engine, made of the command's options."""

import argparse
import json
import os
from typing import Any

from reftune.cli.loading import load_config
from reftune.dtypes import FLOATING, QUANTIZED

# Options of `reftune serve` that vLLM calls otherwise.
VLLM = {"batch_tokens": "max_num_batched_tokens", "requests": "max_num_seqs"}


def make_vllm_engine(
    args: argparse.Namespace, path: str, name: str, settings: dict[str, int]
) -> Any:
    """Start vLLM.

    Args:
        args: of the command.
        path: of the model.
        name: of the model.
        settings: of the engine that were given, by the names of `EngineSettings`.

    Raises:
        EngineError: it does not start.
        ValueError: an option has no meaning to it.
    """
    if "cache_tokens" in settings:
        raise ValueError(
            "--cache-tokens: expected none with --engine vllm, which takes a share of the memory; "
            """e.g. --vllm '{"gpu_memory_utilization": 0.8}' sets it"""
        )
    if args.dtype in QUANTIZED:
        raise ValueError(
            f"--dtype {args.dtype}: expected {', '.join(FLOATING)} with --engine vllm; "
            """--vllm '{"quantization": "bitsandbytes"}' quantizes there"""
        )
    arguments = {"dtype": args.dtype, **_arguments(args.vllm)}
    arguments |= {VLLM[ours]: value for ours, value in settings.items() if ours in VLLM}
    _, tokenizer = load_config(path)
    # It would report its use to its makers, and log into our JSON.
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
    from reftune.vllm.client import VllmClient
    from reftune.vllm.engine import VllmEngine
    from reftune.vllm.settings import VllmSettings

    ours = VllmSettings(
        slots=settings.get("slots", VllmSettings.slots),
        adapter_bytes=settings.get("adapter_bytes", VllmSettings.adapter_bytes),
    )
    return VllmEngine(VllmClient(path, ours, arguments), tokenizer, name)


def _arguments(text: str | None) -> dict[str, Any]:
    try:
        given = {} if text is None else json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"--vllm {text!r:.100}: {error}; expected an object of JSON") from None
    if not isinstance(given, dict):
        raise ValueError(f"--vllm {text!r:.100}: expected an object of JSON")
    return given
