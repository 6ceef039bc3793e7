"""Where a model is edited: the sites that a config selects.

A site is one tensor of the forward pass: what comes out of a module or what goes into it.
"""

from dataclasses import dataclass

from torch import nn

from reftune.anatomy import Anatomy, join
from reftune.architectures import SEQUENCE_FIRST, Side
from reftune.config import ReftConfig


@dataclass(frozen=True)
class Site:
    """One edited tensor.

    Args:
        module: path, from the attached model's root, of the module that it comes out of or goes
            into.
        side: which of the two.
        width: size of one edit: of the tensor's last dimension, or of one head.
        heads: number of heads in the tensor if only some are edited, otherwise 0.
    """

    module: str
    side: Side
    width: int
    heads: int = 0


def find_sites(model: nn.Module, config: ReftConfig) -> list[Site]:
    """Return the sites that a config selects in a model, in the order of the layers.

    Raises:
        ValueError: the model has no such layer, component, head or module.
    """
    anatomy = Anatomy(model)
    if getattr(anatomy.config, "model_type", None) in SEQUENCE_FIRST:
        raise ValueError(f"{anatomy.name} computes with (seq, batch, width): expected batch first")
    sites = []
    for path, side in anatomy.modules(config):
        width = config.width or anatomy.width(path, side)
        if width is None:
            raise ValueError(f"module {path!r}: its width is not known, expected ReftConfig(width)")
        heads = 0
        if config.heads is not None:
            head_width = anatomy.head_width(path, width)
            heads, rest = divmod(width, head_width)
            if rest or not all(0 <= head < heads for head in config.heads):
                raise ValueError(
                    f"heads={config.heads} at {path!r} of width {width}: expected indices below "
                    f"{heads}, for heads of width {head_width}"
                )
            width = head_width
        sites.append(Site(join(anatomy.path, path), side, width, heads))
    return sites
