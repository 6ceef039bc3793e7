"""The edits of one site: a child of the module it hooks, with one leaf module per adapter."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from transformers.activations import ACT2FN

from reftune.config import ReftConfig
from reftune.interventions import INTERVENTIONS, options
from reftune.plan import Slots
from reftune.planner import Planner
from reftune.sites import Site


@dataclass(frozen=True)
class Settings:
    """How one adapter's edit is applied at one site; see `ReftConfig`."""

    heads: tuple[int, ...]
    dropout: float
    dropout_on: str


def build_edit(config: ReftConfig, site: Site) -> nn.Module:
    """Build the edit of one site: the one place where a config meets the intervention classes.

    Raises:
        ValueError: the rank exceeds the width, or the edit has no start of the wanted kind.
    """
    accepted = options(config.intervention)
    stack = (() if config.tied else (2,)) + ((len(config.heads),) if config.heads else ())
    arguments: dict[str, Any] = {"width": site.width, "rank": config.r, "stack": stack}
    if "rank" in accepted and config.r > site.width:
        raise ValueError(f"r={config.r}: expected at most {site.width}, the width of {site.module}")
    if config.act_fn is not None:
        arguments["activation"] = ACT2FN[config.act_fn]
    arguments["scale"] = config.scale
    # With an activation, f(Rh) is not Rh: only on request, and then the edit itself may refuse.
    arguments["identity"] = config.init == "identity" or (
        config.init is None and config.act_fn is None
    )
    edit = INTERVENTIONS[config.intervention](
        **{name: value for name, value in arguments.items() if name in accepted}
    )
    return edit.to(getattr(torch, config.dtype))


class InterventionLayer(nn.Module, BaseTunerLayer):
    """Edits what goes into or comes out of `owner`, of which it is a child.

    The owner is hooked, not wrapped, so that every attribute and code path of the base model stays
    what it was. The parameters of an adapter are `reft_edits.<adapter>.<parameter>`.

    Args:
        owner: the module of the site.
        site: where that is.
        planner: says which tokens are edited.
    """

    adapter_layer_names = ("reft_edits",)
    other_param_names = ("settings",)
    # PEFT's properties read them from a wrapped layer; there is none, and the owner keeps its own.
    weight: Any = None  # pyright: ignore[reportAssignmentType]
    bias: Any = None  # pyright: ignore[reportAssignmentType]

    def __init__(self, owner: nn.Module, site: Site, planner: Planner):
        super().__init__()
        self.reft_edits = nn.ModuleDict()
        self.settings: dict[str, Settings] = {}
        self.site = site
        self.planner = planner
        self._owner = (owner,)  # in a tuple: as an attribute it would be registered as a child
        if site.side == "output":
            self._handle = owner.register_forward_hook(self._edit_output)
        else:
            self._handle = owner.register_forward_pre_hook(self._edit_input, with_kwargs=True)

    @staticmethod
    def name(site: Site) -> str:
        """Return what the child is called, which PEFT must not take for a tensor of the method."""
        return "intervention" if site.side == "output" else "input_intervention"

    def add(self, adapter: str, edit: nn.Module, config: ReftConfig) -> None:
        """Take in an adapter's edit, and put it where the owner's parameters are."""
        self.reft_edits[adapter] = edit
        self.settings[adapter] = Settings(
            tuple(config.heads or ()), config.dropout, config.dropout_on
        )
        self._move_adapter_to_device_of_base_layer(adapter)

    def detach(self) -> None:
        """Leave the owner as it was before."""
        self._handle.remove()
        delattr(self._owner[0], self.name(self.site))

    def get_base_layer(self) -> nn.Module:
        return self._owner[0]

    def delete_adapter(self, adapter_name: str) -> None:
        super().delete_adapter(adapter_name)
        self.planner.where.pop(adapter_name, None)

    def enable_adapters(self, enabled: bool) -> None:
        super().enable_adapters(enabled)
        self.planner.enabled = enabled

    def _move_adapter_to_device_of_base_layer(
        self, adapter_name: str, device: torch.device | None = None
    ) -> None:
        """Move an edit, unless it is on meta, to where the owner computes. Its dtype stays."""
        edit = self.reft_edits[adapter_name] if adapter_name in self.reft_edits else nn.Module()
        if any(parameter.is_meta for parameter in edit.parameters()):
            return
        if device is None:
            device = device_of(self._owner[0], but=self)
        if device is not None:
            edit.to(device)

    def _apply(self, fn: Any, recurse: bool = True) -> "InterventionLayer":
        """Let `.to()` and `.half()` move the edits, but never cast them to half precision.

        `torch.linalg` has no kernels for it, and orthonormal rows would not stay so.
        """

        def keep_precision(tensor: Tensor) -> Tensor:
            moved = fn(tensor)
            half = moved.dtype in (torch.float16, torch.bfloat16)
            return tensor.to(moved.device) if half and tensor.dtype != moved.dtype else moved

        return super()._apply(keep_precision, recurse)

    def _edit_output(self, owner: nn.Module, args: tuple, output: Any) -> Any:
        if self.planner.idle or self.disable_adapters or not self.reft_edits:
            return None
        if isinstance(output, Tensor):
            return self.edit(output)
        if isinstance(output, tuple) and isinstance(output[0], Tensor):
            return (self.edit(output[0]), *output[1:])
        raise TypeError(
            f"{self.site.module} returned {type(output).__name__}: expected hidden states, alone "
            "or first in a tuple"
        )

    def _edit_input(self, owner: nn.Module, args: tuple, kwargs: dict) -> tuple | None:
        if self.planner.idle or self.disable_adapters or not self.reft_edits:
            return None
        if args:
            return (self.edit(args[0]), *args[1:]), kwargs
        if "hidden_states" in kwargs:
            return args, kwargs | {"hidden_states": self.edit(kwargs["hidden_states"])}
        raise TypeError(
            f"{self.site.module} was called with {', '.join(kwargs)}: expected hidden states first"
        )

    def edit(self, hidden: Tensor) -> Tensor:
        """Apply the active adapters in order, or each row's own one.

        Args:
            hidden: `(batch, length, width)`, or all tokens in one dimension; any floating dtype. It
                is not changed.

        Raises:
            ValueError: the hidden states are of another width, or not those of the model's inputs.
        """
        width = self.site.width * (self.site.heads or 1)
        if hidden.shape[-1] != width:
            raise ValueError(
                f"{self.site.module} has hidden states of width {hidden.shape[-1]}: expected "
                f"{width}; set ReftConfig(width={hidden.shape[-1]})"
            )
        edited = hidden.reshape(*self.planner.shape(hidden, self.site.module), width)
        names = self.planner.adapter_names
        if names is None:
            for adapter in self.active_adapters:
                if adapter in self.reft_edits:
                    edited = self._edit_selected(edited, adapter)
        else:
            names = repeat_names(names, len(edited))
            for adapter in dict.fromkeys(names):
                if adapter in self.reft_edits:
                    rows = [row for row, name in enumerate(names) if name == adapter]
                    rows = torch.tensor(rows, device=hidden.device)
                    edited = self._edit_selected(edited, adapter, rows)
        return edited.reshape(hidden.shape)

    def _edit_selected(self, hidden: Tensor, adapter: str, rows: Tensor | None = None) -> Tensor:
        """Return hidden states in which an adapter's selected tokens are edited, in some rows."""
        selection = self.planner.selection(adapter, hidden)
        if selection is None:
            return hidden
        if rows is not None:
            selection = selection.rows(rows)
        if isinstance(selection, Slots):
            flat = hidden.reshape(-1, hidden.shape[-1])
            index = selection.index.flatten()
            before = flat.index_select(0, index).view(*selection.index.shape, -1)
            change = self._change(before, adapter).masked_fill(~selection.used, 0)
            change = change.to(hidden.dtype).view(-1, hidden.shape[-1])
            return flat.index_add(0, index, change).view(hidden.shape)
        before = hidden if rows is None else hidden[rows]
        untied = selection.used.dim() == 4
        change = self._change(before[:, None] if untied else before, adapter)
        change = change.masked_fill(~selection.used, 0).to(hidden.dtype)
        change = change.sum(dim=1) if untied else change
        return hidden + change if rows is None else hidden.index_add(0, rows, change)

    def _change(self, before: Tensor, adapter: str) -> Tensor:
        """Return what an edit adds to hidden states `(..., tokens, width)`, in the edit's dtype."""
        edit, settings = self.reft_edits[adapter], self.settings[adapter]
        dtype = next((parameter.dtype for parameter in edit.parameters()), before.dtype)
        with torch.autocast(before.device.type, enabled=False):
            before = before.to(dtype)
            if not settings.heads:
                return self._dropped(edit, before, settings)
            # The heads become leading dimensions, as the edit's parameters have them.
            split = before.unflatten(-1, (self.site.heads, self.site.width))
            chosen = torch.tensor(settings.heads, device=before.device)
            change = self._dropped(edit, split.index_select(-2, chosen).movedim(-2, -3), settings)
            into = torch.zeros_like(split).expand(*change.shape[:-3], *split.shape[-3:])
            return into.index_add(-2, chosen, change.movedim(-3, -2)).flatten(-2)

    def _dropped(self, edit: nn.Module, before: Tensor, settings: Settings) -> Tensor:
        after = edit(before)
        if settings.dropout and settings.dropout_on == "state":
            after = nn.functional.dropout(after, settings.dropout, self.training)
        change = after - before
        if settings.dropout and settings.dropout_on == "edit":
            change = nn.functional.dropout(change, settings.dropout, self.training)
        return change


def repeat_names(names: list[str], batch: int) -> list[str]:
    """Return one adapter name per row, where beams have multiplied the rows of a batch.

    Raises:
        ValueError: the number of rows is no multiple of that of the names.
    """
    copies, rest = divmod(batch, len(names))
    if rest:
        raise ValueError(f"{len(names)} adapter_names for {batch} rows: expected one per row")
    return [name for name in names for _ in range(copies)]


def device_of(owner: nn.Module, but: nn.Module | None = None) -> torch.device | None:
    """Return where a module computes, also if its parameters are off-loaded, or `None`."""
    offload: Mapping[str, Any] = vars(getattr(owner, "_hf_hook", None) or owner)
    if offload.get("execution_device") is not None:
        return torch.device(offload["execution_device"])
    mine = {id(parameter) for parameter in but.parameters()} if but is not None else set()
    devices = (p.device for p in owner.parameters() if id(p) not in mine)
    device = next(devices, None)
    return None if device is None or device.type == "meta" else device
