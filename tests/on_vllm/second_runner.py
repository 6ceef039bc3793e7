"""Runs vLLM's second model runner on CPU, by Triton's interpreter, and prints what is wrong.

    python -m tests.on_vllm.second_runner FOLDER

The process must have begun with `ENVIRONMENT`.
"""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

from tests.on_vllm.vllm_engines import LLAMA, asked, running, save, wrong

ENVIRONMENT = {
    "TRITON_INTERPRET": "1",
    "CUDA_VISIBLE_DEVICES": "",
    "VLLM_USE_V2_MODEL_RUNNER": "1",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
}


def pretend_triton() -> None:
    """Show vLLM, before it looks, a Triton that has a backend; nothing is compiled with it."""
    import triton.backends

    driver = SimpleNamespace(is_active=lambda: True)
    triton.backends.backends.clear()
    triton.backends.backends["cpu"] = SimpleNamespace(driver=driver, compiler=None)


def main(out: Path) -> None:
    pretend_triton()
    saved = save(out, LLAMA)
    alone = saved.alone()
    long = [10 + 7 * n % 80 for n in range(90)]
    with running(saved, slots=3, num_gpu_blocks_override=9, disable_log_stats=False) as llm:
        worker = llm.llm_engine.engine_core.engine_core.model_executor.driver_worker.worker
        found = {
            "runner": type(worker.model_runner).__module__,
            "mixed": wrong(llm, saved, alone, asked(saved, 12)),
            "extended": wrong(llm, saved, alone, [(long[:n], "ends") for n in (64, 70, 64)]),
        }
        asks = [(prompt[:30], name) for prompt, name in asked(saved, 8, seed=4)]
        found["preempted"] = wrong(llm, saved, alone, asks, count=40)
        counts = [one.value for one in llm.get_metrics() if one.name == "vllm:num_preemptions"]
    sys.stdout.write(f"FOUND {json.dumps({**found, 'preemptions': sum(counts)})}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
