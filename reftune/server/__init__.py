"""The HTTP server on the engine of `reftune.serving`: OpenAI's API, state, keys, training jobs.

Its modules need the extra `serve`; `errors` and `extras` do not.
"""
