"""Turning checkpoints of pyreft into adapters of reftune, and back."""
