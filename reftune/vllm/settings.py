"""What an engine of vLLM is told of adapters, in its `additional_config`."""

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from reftune.config import ReftConfig

KEY = "reftune"
WORKER = "reftune.vllm.worker.ReftWorker"
# Of what the hooks add to a compiled graph; graphs of another one must not be loaded.
GRAPH_VERSION = 1


@dataclass(frozen=True)
class VllmSettings:
    """Where and how many adapters an engine edits with.

    Attributes:
        slots: adapters whose edits are on the device at once; a step with more of them writes
            slots anew while it runs.
        layers: that adapters may edit, as in `ReftConfig`; the others are not hooked.
        adapters: a folder; its sub-folders are adapters under their names. `None` for none.
        adapter_bytes: of the adapters that are kept in memory besides those in slots.
        graph_version: is written by reftune.

    Raises:
        ValueError: a value has no meaning.
    """

    slots: int = 64
    layers: str | list[int] = "all"
    adapters: str | None = None
    adapter_bytes: int = 1 << 30
    graph_version: int = GRAPH_VERSION

    def __post_init__(self) -> None:
        for name, least in (("slots", 1), ("adapter_bytes", 0)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise ValueError(f"{KEY} {name}={value!r}: expected {least} or more")
        ReftConfig(layers=self.layers)
        if self.adapters is not None and not Path(self.adapters).is_dir():
            raise ValueError(f"{KEY} adapters={self.adapters!r}: expected a folder of adapters")
        if self.graph_version != GRAPH_VERSION:
            raise ValueError(
                f"{KEY} graph_version={self.graph_version!r}: expected {GRAPH_VERSION}, or nothing"
            )

    @classmethod
    def of(cls, additional_config: Any) -> "VllmSettings | None":
        """Read them from an engine's `additional_config`; `None` if it has none of ours.

        Raises:
            ValueError: they are there, but are not understood.
        """
        if not isinstance(additional_config, Mapping) or KEY not in additional_config:
            return None
        given = additional_config[KEY]
        known = [field.name for field in fields(cls)]
        if not isinstance(given, Mapping) or set(given) - set(known):
            raise ValueError(
                f"additional_config {KEY}={given!r}: expected an object with some of "
                f"{', '.join(known)}"
            )
        return cls(**given)


def engine_arguments(settings: VllmSettings | None = None) -> dict[str, Any]:
    """Return what `vllm.LLM` or `AsyncEngineArgs` must be given for adapters.

    vLLM tells compiled graphs apart by its configuration, so the settings are part of that.
    """
    return {
        "worker_cls": WORKER,
        "additional_config": {KEY: asdict(settings or VllmSettings())},
        # In a recorded graph of CUDA nothing of what a step edits could be looked up.
        "compilation_config": {"cudagraph_mode": "NONE"},
    }


def settings_of(config: Any) -> VllmSettings | None:
    """Return the settings of an engine; `None` if it was started without reftune.

    Args:
        config: a `VllmConfig`.

    Raises:
        ValueError: the engine has the settings without the worker, or the reverse.
    """
    settings = VllmSettings.of(config.additional_config)
    worker = config.parallel_config.worker_cls
    if (settings is None) != (worker != WORKER):
        raise ValueError(
            f"worker_cls={worker!r} and additional_config={config.additional_config!r}: expected "
            f"{WORKER!r} and an object under {KEY!r} together, as --worker-cls {WORKER} "
            f"--additional-config '{{\"{KEY}\": {{}}}}'"
        )
    return settings


def refuse_unsupported(config: Any) -> None:
    """Refuse an engine in which tokens would be edited wrongly, or not at all.

    Args:
        config: a `VllmConfig`.

    Raises:
        ValueError: it uses what the worker does not know; all of it is named.
    """
    parallel, compilation = config.parallel_config, config.compilation_config
    graphs = compilation.cudagraph_mode.name
    split = SPLIT in (compilation.splitting_ops or ())
    unsupported = {
        "pipeline_parallel_size": parallel.pipeline_parallel_size > 1,
        "decode_context_parallel_size": parallel.decode_context_parallel_size > 1,
        "prefill_context_parallel_size": parallel.prefill_context_parallel_size > 1,
        "enable_dbo or ubatch_size": parallel.use_ubatching,
        "speculative_config": config.speculative_config is not None,
        "enable_lora": config.lora_config is not None,
        # Some of its ways find blocks by their tokens alone.
        "kv_transfer_config": config.kv_transfer_config is not None,
        # Its requests do not come through what gives out tickets.
        "VLLM_USE_RUST_FRONTEND": os.environ.get("VLLM_USE_RUST_FRONTEND", "0") != "0",
        "kv_sharing_fast_prefill": config.cache_config.kv_sharing_fast_prefill,
        f"cudagraph_mode={graphs} (expected NONE, or PIECEWISE with {SPLIT} in splitting_ops)": (
            graphs != "NONE" and not (graphs == "PIECEWISE" and split)
        ),
    }
    found = [name for name, is_set in unsupported.items() if is_set]
    if found:
        raise ValueError(
            f"adapters cannot be served with {'; '.join(found)}: expected an engine without"
        )


SPLIT = "reftune::edit"  # the operator, as compiled graphs name it
