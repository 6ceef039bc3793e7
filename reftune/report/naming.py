"""What methods, tasks and metrics are called on a page, and how their numbers are written."""

import math
from dataclasses import dataclass

METHODS = {
    "loreft": "LoReFT",
    "direft": "DiReFT",
    "red": "RED",
    "lora": "LoRA",
    "dora": "DoRA",
    "reft+lora": "ReFT + LoRA",
    "ia3": "IA³",
    "prefix-tuning": "prefix tuning",
    "prompt-tuning": "prompt tuning",
    "ln-tuning": "LayerNorm tuning",
    "bitfit": "BitFit",
    "bottleneck": "bottleneck adapter",
    "probe": "probe (head only)",
    "full": "full finetuning",
    "none": "base model (no adapter)",
}
GLUE = {
    "mnli": "MNLI",
    "sst2": "SST-2",
    "mrpc": "MRPC",
    "cola": "CoLA",
    "qnli": "QNLI",
    "qqp": "QQP",
    "rte": "RTE",
    "stsb": "STS-B",
}


@dataclass(frozen=True)
class Metric:
    """How a metric is written.

    Attributes:
        label: its name with its unit.
        hundredfold: whether it is shown times 100, as papers do.
        higher: whether more is better; `None` where that is not known.
        least: the lowest value there is; the highest of those shown times 100 is 1.
    """

    label: str
    hundredfold: bool
    higher: bool | None
    least: float = -math.inf

    @property
    def factor(self) -> float:
        """What a value is multiplied with when it is shown."""
        return 100.0 if self.hundredfold else 1.0

    @property
    def bounds(self) -> tuple[float, float]:
        """The lowest and the highest that can be shown."""
        return self.factor * self.least, 100.0 if self.hundredfold else math.inf


METRICS = {
    "accuracy": Metric("accuracy, %", True, True, 0),
    "matthews": Metric("Matthews correlation × 100", True, True, -1),
    "pearson": Metric("Pearson correlation × 100", True, True, -1),
    "spearman": Metric("Spearman correlation × 100", True, True, -1),
    "f1": Metric("F1 × 100", True, True, 0),
    "glue": Metric("mean of the tasks' scores × 100", True, True, -1),
    "loss": Metric("loss, nats", False, False, 0),
    "perplexity": Metric("perplexity", False, False, 1),
}


def metric_of(name: str) -> Metric:
    """Return how a metric is written; of one that is not known, which way is better is not said."""
    return METRICS.get(name) or Metric(name, False, None)


def task_name(task: str) -> str:
    """Return the name of a task as papers write it."""
    return GLUE.get(task, task)


def method_name(method: str) -> str:
    """Return the name of a method as papers write it."""
    return METHODS.get(method, method)


def shown(value: float, metric: Metric) -> str:
    """Write a score: one decimal if it is shown times 100, four digits otherwise."""
    if not math.isfinite(value):
        return "not a number"
    return f"{100 * value:.1f}" if metric.hundredfold else f"{value:.4g}"


def deviation_shown(value: float, metric: Metric) -> str:
    """Write a deviation, which needs fewer digits than a score."""
    return f"{100 * value:.1f}" if metric.hundredfold else f"{value:.2g}"


def seconds_shown(seconds: float) -> str:
    """Write a duration."""
    if not math.isfinite(seconds):
        return "not a number"
    if seconds < 599.5:
        return f"{seconds:.3g} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"


def bytes_shown(count: int) -> str:
    """Write an amount of memory, in decimal units."""
    units = {"bytes": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9}
    # 999.5 is where three digits begin to round to 1000.
    unit = next((name for name, factor in units.items() if count < 999.5 * factor), "GB")
    value = count / units[unit]
    return f"{value:,.0f} {unit}" if value >= 99.5 or unit == "bytes" else f"{value:.3g} {unit}"
