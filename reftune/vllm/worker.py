# The types are checked without vLLM.
# pyright: reportMissingImports=false
"""vLLM's worker, with edits: `--worker-cls reftune.vllm.worker.ReftWorker`.

It is the platform's own worker in everything else. vLLM's calls about LoRA adapters reach it even
where LoRA is off; they are answered with ours, so that vLLM's server loads and lists them.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vllm.lora.request import LoRARequest
from vllm.platforms import current_platform

from reftune.vllm.editing import StepEditing
from reftune.vllm.plugin import is_registered
from reftune.vllm.probe import probe
from reftune.vllm.reading import AdapterReader
from reftune.vllm.runners import watch
from reftune.vllm.settings import refuse_unsupported, settings_of
from reftune.vllm.tracking import TrackedRequests

if current_platform.is_cpu():
    from vllm.v1.worker.cpu_worker import CPUWorker as PlatformWorker
else:  # experimental: nothing of it was run on a GPU
    from vllm.v1.worker.gpu_worker import Worker as PlatformWorker


class ReftWorker(PlatformWorker):
    """A worker whose steps are edited.

    Raises:
        ValueError: the engine is set up in a way in which edits would be wrong or missing.
    """

    def load_model(self, *, load_dummy_weights: bool = False) -> None:
        """Load the model, and hook its layers before anything is compiled or recorded."""
        if not is_registered():
            raise ValueError(
                "reftune's plug-in is not loaded: expected a version of vLLM that it fits, and "
                "VLLM_PLUGINS without a value or with reftune"
            )
        refuse_unsupported(self.vllm_config)
        settings = settings_of(self.vllm_config)
        assert settings is not None  # else this would be another worker
        super().load_model(load_dummy_weights=load_dummy_weights)
        runner: Any = self.model_runner
        self.reft_reader = AdapterReader(self.model_config.hf_config, settings)
        self.reft_editing = StepEditing(
            runner.get_model(), self.reft_reader.sites, settings.slots, runner.device
        )
        self.reft_requests = TrackedRequests(self.reft_reader.find)
        self._reft_is_step = False
        self._reft_loaded: dict[int, Path] = {}
        watch(runner, self.use_v2_model_runner, self._reft_plan)

    def compile_or_warm_up_model(self) -> Any:
        """Get ready as ever, and prove that edits act before the first request.

        Raises:
            RuntimeError: they do not; the engine does not start.
        """
        times = super().compile_or_warm_up_model()
        probe(self)
        return times

    def execute_model(self, scheduler_output: Any) -> Any:
        """Run a step.

        Raises:
            RuntimeError: a token was to be edited, and was not.
        """
        self.reft_requests.update(scheduler_output)
        self.reft_editing.begin()
        self._reft_is_step = True
        try:
            output = super().execute_model(scheduler_output)
            self.reft_editing.end(scheduler_output.total_num_scheduled_tokens)
        finally:
            self._reft_is_step = False
            self.reft_editing.leave()
        return output

    def _reft_plan(self, order: Sequence[str]) -> None:
        if self._reft_is_step:  # passes without requests warm up, or keep other ranks company
            self.reft_editing.plan(self.reft_requests.runs(order))

    def reft_load(self, folder: str) -> str:
        """Read an adapter before a request needs it, and return its digest.

        For `collective_rpc("reft_load", args=(folder,))`.

        Raises:
            AdapterError: the folder holds none that can be served.
        """
        return self.reft_reader.read(Path(folder)).digest

    def reft_figures(self) -> tuple[int, int]:
        """Return how many slots hold an adapter, and how often one had to make room."""
        return self.reft_editing.slots.used, self.reft_editing.slots.evictions

    def add_lora(self, lora_request: LoRARequest) -> bool:
        """Read an adapter that vLLM's server was told to load."""
        self.reft_load(lora_request.lora_path)
        self._reft_loaded[lora_request.lora_int_id] = Path(lora_request.lora_path)
        return True

    def remove_lora(self, lora_id: int) -> bool:
        """Keep nothing of an adapter; say whether there was one."""
        folder = self._reft_loaded.pop(lora_id, None)
        if folder is not None:
            self.reft_reader.forget(folder)
        return folder is not None

    def list_loras(self) -> set[int]:
        """Return the ids of the adapters that were added."""
        return set(self._reft_loaded)

    def pin_lora(self, lora_id: int) -> bool:
        """Say whether an adapter is there; a slot is given to whoever needs it."""
        return lora_id in self._reft_loaded
