"""Finetuning methods compared on two small base models and real data; not part of the package."""
