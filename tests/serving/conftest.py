"""The oldest supported transformers has no continuous batching that can be served on."""

from tests.serving.engines import SERVES

collect_ignore = [] if SERVES else ["test_engine.py"]
