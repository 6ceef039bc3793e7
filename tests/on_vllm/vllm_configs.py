"""What is read of vLLM's configuration, without vLLM."""

from types import SimpleNamespace

from reftune.vllm.settings import engine_arguments
from tests.serving.served import LLAMA


def config(settings=None, **more) -> SimpleNamespace:
    """What the plug-in reads of a `VllmConfig`."""
    given = {} if settings is None else engine_arguments(settings)
    return SimpleNamespace(
        model_config=SimpleNamespace(hf_config=LLAMA.build().config),
        additional_config=given.get("additional_config", {}),
        parallel_config=SimpleNamespace(worker_cls=given.get("worker_cls", "auto")),
        **more,
    )


def engine(**more) -> SimpleNamespace:
    """What `refuse_unsupported` reads of a `VllmConfig`."""
    parts = {
        "parallel_config": {
            "pipeline_parallel_size": 1,
            "decode_context_parallel_size": 1,
            "prefill_context_parallel_size": 1,
            "use_ubatching": False,
        },
        "compilation_config": {"cudagraph_mode": SimpleNamespace(name="NONE"), "splitting_ops": []},
        "cache_config": {"kv_sharing_fast_prefill": False},
        "speculative_config": None,
        "lora_config": None,
        "kv_transfer_config": None,
    }
    for part, values in more.items():
        parts[part] = {**parts[part], **values} if isinstance(values, dict) else values
    return SimpleNamespace(
        **{n: SimpleNamespace(**v) if isinstance(v, dict) else v for n, v in parts.items()}
    )
