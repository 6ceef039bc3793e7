"""From a config to the edit of one site: the one place where the two meet."""

from typing import Any

import torch
from torch import nn
from transformers.activations import ACT2FN

from reftune.config import ReftConfig
from reftune.interventions import INTERVENTIONS, options
from reftune.sites import Site


def build_edit(config: ReftConfig, site: Site) -> nn.Module:
    """Build the edit of one site.

    Raises:
        ValueError: the rank exceeds the width, the edit has no start of the wanted kind, or it is
            a class that cannot stand for several edits where there are several.
    """
    accepted = options(config.intervention)
    stack = (() if config.tied else (2,)) + ((len(config.heads),) if config.heads else ())
    if stack and "stack" not in accepted:
        raise ValueError(
            f"intervention {config.intervention!r} takes no stack: expected tied positions and no "
            "heads, or a constructor with stack=()"
        )
    if "rank" in accepted and config.r > site.width:
        raise ValueError(f"r={config.r}: expected at most {site.width}, the width of {site.module}")
    arguments: dict[str, Any] = {
        "width": site.width,
        "rank": config.r,
        "stack": stack,
        "scale": config.scale,
        # With an activation only on request, and then the edit may refuse: f(Rh) is not Rh.
        "identity": config.init == "identity" or (config.init is None and config.act_fn is None),
    }
    if config.act_fn is not None:
        arguments["activation"] = ACT2FN[config.act_fn]
    chosen = {name: value for name, value in arguments.items() if name in accepted}
    return INTERVENTIONS[config.intervention](**chosen).to(getattr(torch, config.dtype))
