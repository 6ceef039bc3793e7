"""Answering requests for many adapters in the same batches, on one base model."""
