"""Adapters in vLLM: every request with its own, through vLLM's public entry points and no fork.

In vLLM's front end a request is given a ticket (`frontend.py`, `ticket.py`); its worker
(`worker.py`) edits the states that the tickets of a step ask for (`tracking.py`, `rounds.py`,
`editing.py`). vLLM itself is imported by `plugin.py` (called by `entry.py`), `resolver.py`,
`worker.py`, `probe.py` and `client.py`. Behind reftune's own server vLLM is `engine.py`.
"""
