"""Experiments as data: a task, a model, an adapter and a training, run over seeds."""
