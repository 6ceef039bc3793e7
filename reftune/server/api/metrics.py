"""Figures for Prometheus, in a registry of the app's own."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from reftune.serving.engine import Engine

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class Metrics:
    """What the server counts; what the engine counts is read from it when it is asked for."""

    def __init__(self, engine: Engine) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "reftune_requests",
            "HTTP requests answered",
            ("method", "route", "status"),
            registry=self.registry,
        )
        self.seconds = Histogram(
            "reftune_request_seconds",
            "Seconds from a request to the end of its answer",
            ("route",),
            registry=self.registry,
            buckets=SECONDS,
        )
        self.first_token = Histogram(
            "reftune_time_to_first_token_seconds",
            "Seconds from a request to its first token",
            registry=self.registry,
            buckets=SECONDS,
        )
        self.prompt_tokens = Counter(
            "reftune_prompt_tokens", "Tokens of prompts asked", registry=self.registry
        )
        self.answer_tokens = Counter(
            "reftune_answer_tokens", "Tokens of answers handed out", registry=self.registry
        )
        self.registry.register(EngineFigures(engine))


class EngineFigures(Collector):
    """The engine's own figures."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def collect(self) -> Iterator[Metric]:
        """Read them."""
        engine, stats = self._engine, self._engine.stats
        gauges = (
            ("queue", "Requests that wait for the model", engine.waiting),
            ("running", "Requests that the model is answering", engine.running),
            ("slots", "Places for adapters beside the model", stats.slots),
            ("slots_used", "Places that hold an adapter", stats.slots_used),
        )
        counters = (
            ("engine_prompt_tokens", "Tokens of prompts computed", stats.prompt_tokens),
            ("engine_generated_tokens", "Tokens generated", stats.generated_tokens),
            ("slot_loads", "Adapters put into a place", stats.slot_loads),
            ("evictions", "Adapters that had to leave their place", stats.evictions),
        )
        for name, text, value in gauges:
            yield GaugeMetricFamily(f"reftune_{name}", text, value=value)
        for name, text, value in counters:
            yield CounterMetricFamily(f"reftune_{name}", text, value=value)
