"""Whether the installed transformers has the continuous batching that the engine needs."""

from dataclasses import fields

from transformers import ContinuousBatchingConfig

SERVES = "page_size" in {field.name for field in fields(ContinuousBatchingConfig)}
