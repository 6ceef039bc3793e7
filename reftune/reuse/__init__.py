"""Training steps that compute only what an edit can change.

Two things are the same at every step of a training: what comes out of the layers below the lowest
edit, for all tokens; and, where only the last tokens of a prompt are edited, the keys and values of
the tokens before those, at every layer. They are computed once per example, without gradients, and
kept as long as there is room. A training step then begins at the lowest edit, and with the first
edited token. Losses and gradients are those of the whole model, to float tolerance.
"""

from reftune.reuse.switch import reuse_within, without_reuse

__all__ = ["reuse_within", "without_reuse"]
