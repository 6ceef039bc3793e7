"""The edits of one site: a child of the module it hooks, with one leaf module per adapter."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from reftune.architectures import Side
from reftune.config import ReftConfig
from reftune.groups import Group
from reftune.hooking import edit_input, edit_output, without_autocast
from reftune.plan import Slots
from reftune.planner import Planner
from reftune.precision import keeping_precision, make_precise
from reftune.rotations import of_rows
from reftune.sites import Site


@dataclass(frozen=True)
class Settings:
    """How one adapter's edit is applied at one site; see `ReftConfig`."""

    site: Site
    heads: tuple[int, ...]
    dropout: float
    dropout_on: str


class InterventionLayer(nn.Module, BaseTunerLayer):
    """Edits what goes into or comes out of `owner`, of which it is a child.

    The owner is hooked, not wrapped, so that every attribute and code path of the base model stays
    what it was. The parameters of an adapter are `reft_edits.<adapter>.<parameter>`.

    Args:
        owner: the module that is hooked.
        side: what goes into it, or what comes out.
        planner: says which tokens are edited.
    """

    adapter_layer_names = ("reft_edits",)
    other_param_names = ("settings",)
    # PEFT's properties read them from a wrapped layer; there is none, and the owner keeps its own.
    weight: Any = None  # pyright: ignore[reportAssignmentType]
    bias: Any = None  # pyright: ignore[reportAssignmentType]

    def __init__(self, owner: nn.Module, side: Side, planner: Planner):
        super().__init__()
        self.reft_edits = nn.ModuleDict()
        self.settings: dict[str, Settings] = {}
        self.side: Side = side
        self.planner = planner
        self._owner = (owner,)  # in a tuple: as an attribute it would be registered as a child
        planner.enabled = True  # a new layer is; those that are disabled know it themselves
        if side == "output":
            self._handle = owner.register_forward_hook(self._edit_output)
        else:
            self._handle = owner.register_forward_pre_hook(self._edit_input, with_kwargs=True)

    @staticmethod
    def name(side: Side) -> str:
        """Return what the child is called.

        It must not begin with the method's prefix, `reft_`: transformers inserts the adapter's name
        after the first part of a path that does.
        """
        return "intervention" if side == "output" else "input_intervention"

    def add(self, adapter: str, edit: nn.Module, config: ReftConfig, site: Site) -> None:
        """Take in an adapter's edit, and put it where the owner computes."""
        self.reft_edits[adapter] = edit
        self.planner.rotations.add(adapter, edit)
        heads = tuple(config.heads or ())
        self.settings[adapter] = Settings(site, heads, config.dropout, config.dropout_on)
        self._move_adapter_to_device_of_base_layer(adapter)

    def detach(self) -> None:
        """Leave the owner as it was before."""
        self._handle.remove()
        delattr(self._owner[0], self.name(self.side))

    def get_base_layer(self) -> nn.Module:
        return self._owner[0]

    def set_adapter(self, adapter_names: str | list[str], inference_mode: bool = False) -> None:
        super().set_adapter(adapter_names, inference_mode)
        self.planner.active = list(self.active_adapters)

    def delete_adapter(self, adapter_name: str) -> None:
        super().delete_adapter(adapter_name)
        self.planner.where.pop(adapter_name, None)
        self.planner.likeness.pop(adapter_name, None)
        self.planner.rotations.remove(adapter_name)

    def enable_adapters(self, enabled: bool) -> None:
        super().enable_adapters(enabled)
        self.planner.enabled = enabled

    def _move_adapter_to_device_of_base_layer(
        self, adapter_name: str, device: torch.device | None = None
    ) -> None:
        """Move an edit, unless it is on meta, to where the owner computes. Its dtype stays."""
        if adapter_name not in self.reft_edits:
            return
        edit = self.reft_edits[adapter_name]
        device = device or device_of(self._owner[0]) or device_of(self.planner.root)
        if device is not None and not any(parameter.is_meta for parameter in edit.parameters()):
            edit.to(device)
            self._stay_precise()

    def _apply(self, fn: Any, recurse: bool = True) -> "InterventionLayer":
        moved = super()._apply(keeping_precision(fn), recurse)
        self._stay_precise()
        return moved

    def _stay_precise(self) -> None:
        # Only where trainers cast data: torch's faster optimizers know no class but its own.
        if getattr(self.planner.root, "is_quantized", False):
            make_precise(self.reft_edits)

    def _edit_output(self, owner: nn.Module, args: tuple, output: Any) -> Any:
        if self.planner.idle or self.disable_adapters or not self.reft_edits:
            return None
        return edit_output(owner, output, self.edit)

    def _edit_input(self, owner: nn.Module, args: tuple, kwargs: dict) -> tuple | None:
        if self.planner.idle or self.disable_adapters or not self.reft_edits:
            return None
        return edit_input(owner, args, kwargs, self.edit)

    def edit(self, hidden: Tensor) -> Tensor:
        """Apply the active adapters in order, or each row's own one.

        Args:
            hidden: `(batch, length, width)`, or all tokens in one dimension; any floating dtype. It
                is not changed.

        Raises:
            ValueError: the hidden states are of another width, or not those of the model's inputs.
        """
        edited = hidden
        for group in self.planner.groups:
            if group.names[0] in self.reft_edits:
                edited = self._edit_by(group, edited)
        return edited

    def _edit_by(self, group: Group, hidden: Tensor) -> Tensor:
        """Return hidden states in which the selected tokens of a group are edited."""
        site = self.settings[group.names[0]].site
        width = site.width * (site.heads or 1)
        if hidden.shape[-1] != width:
            raise ValueError(
                f"{site.module} has hidden states of width {hidden.shape[-1]}: expected {width}; "
                f"set ReftConfig(width={hidden.shape[-1]})"
            )
        whole = hidden.reshape(*self.planner.shape(hidden, site.module), width)
        selection = self.planner.selection(group, whole)
        if selection is None:
            return hidden
        if isinstance(selection, Slots):
            return selection.edit(whole, partial(self._edited, group=group)).view(hidden.shape)
        rows, used = group.rows, selection.used
        before = whole if rows is None else whole[rows]
        if used.dim() == 4:
            after = self._edited(before[:, None], group)
            mixed = torch.where(used[:, 0], after[:, 0], before)
            mixed = torch.where(used[:, 1], after[:, 1], mixed)
        else:
            mixed = torch.where(used, self._edited(before, group), before)
        return (mixed if rows is None else whole.index_copy(0, rows, mixed)).view(hidden.shape)

    def _edited(self, before: Tensor, group: Group) -> Tensor:
        """Edit hidden states `(rows, ..., tokens, width)` in the edits' dtype, and cast them back.

        A dimension of 1 before the last two becomes 2 if the positions are untied.
        """
        edits, settings = [self.reft_edits[n] for n in group.names], self.settings[group.names[0]]
        dtype = next((parameter.dtype for parameter in edits[0].parameters()), before.dtype)
        with without_autocast(before.device):
            state, ready = before.to(dtype), self.planner.rotations.of(edits)
            edit, prepared = ready if group.member is None else of_rows(ready, group.member)
            if not settings.heads:
                after = edit(state, *prepared)
                return self._dropped(after, state, settings).to(before.dtype)
            parts = list(state.unflatten(-1, (settings.site.heads, -1)).unbind(-2))
            # The heads become a leading dimension, as the edit's parameters have them.
            chosen = torch.stack([parts[head] for head in settings.heads], dim=-3)
            after = self._dropped(edit(chosen, *prepared), chosen, settings)
            parts = [part.expand(after[..., 0, :, :].shape) for part in parts]
            for place, head in enumerate(settings.heads):
                parts[head] = after[..., place, :, :]
            return torch.cat(parts, dim=-1).to(before.dtype)

    def _dropped(self, after: Tensor, before: Tensor, settings: Settings) -> Tensor:
        if not (settings.dropout and self.training):
            return after
        if settings.dropout_on == "state":
            return nn.functional.dropout(after, settings.dropout)
        return before + nn.functional.dropout(after - before, settings.dropout)


def device_of(module: nn.Module) -> torch.device | None:
    """Return where a module computes, also if its parameters are off-loaded, or `None`."""
    offloaded = getattr(getattr(module, "_hf_hook", None), "execution_device", None)
    if offloaded is not None:
        return torch.device(offloaded)
    devices = (
        parameter.device
        for name, parameter in module.named_parameters()
        if not parameter.is_meta and "reft_edits" not in name
    )
    return next(devices, None)
