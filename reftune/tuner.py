"""ReFT as a PEFT method: attaches edits to a model, and takes them off again.

PEFT calls the underscore methods; which versions of it have them as they are used here is declared
in `pyproject.toml` and tested at both ends.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from peft import mapping
from peft.tuners.tuners_utils import BaseTuner
from peft.utils import AuxiliaryTrainingWrapper
from torch import nn

from reftune.anatomy import Anatomy
from reftune.attached import layers_of, planner_for, planners_of, refuse_compiled
from reftune.building import build_edit
from reftune.config import ReftConfig, ReftPeftType
from reftune.divided import warn_of_units
from reftune.groups import BASE, likeness
from reftune.layer import InterventionLayer
from reftune.plan import Where
from reftune.planner import Planner
from reftune.positions import Positions
from reftune.sites import Site, find_sites


class ReftTuner(BaseTuner):
    """The PEFT tuner of `ReftConfig`; users get it through `peft.get_peft_model`."""

    prefix = "reft_"
    tuner_layer_cls = InterventionLayer

    def inject_adapter(
        self,
        model: nn.Module,
        adapter_name: str,
        autocast_adapter_dtype: bool = True,
        low_cpu_mem_usage: bool = False,
        state_dict: dict[str, torch.Tensor] | None = None,
    ) -> None:
        """Attach an adapter, or raise and leave the model as it was.

        The sites come from the config alone, never from the names in a `state_dict`.

        Raises:
            ValueError: the model does not fit the config, or is compiled already.
        """
        refuse_compiled(model)
        warn_of_units(model)
        config: Any = self.peft_config[adapter_name]
        resolve(model, config)
        with torch.device("meta") if low_cpu_mem_usage else torch.device("cpu"):
            edits = [(site, build_edit(config, site)) for site in find_sites(model, config)]
        self._likeness = likeness(config, [edit for _, edit in edits])
        self._edits: dict[str, list[tuple[Site, nn.Module]]] = {}
        for site, edit in edits:
            self._edits.setdefault(site.module, []).append((site, edit))
        super().inject_adapter(model, adapter_name, autocast_adapter_dtype)
        del self._edits, self._likeness

    def _prepare_adapter_config(self, peft_config: Any, model_config: dict) -> Any:
        return peft_config

    def _check_target_module_exists(self, peft_config: Any, key: str) -> bool:
        return key in self._edits

    def _create_and_replace(
        self,
        peft_config: Any,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str,
    ) -> None:
        for site, edit in self._edits[current_key]:
            name = InterventionLayer.name(site.side)
            if name not in dict(target.named_children()):
                planner = planner_for(self.model, site)
                target.add_module(name, InterventionLayer(target, site.side, planner))
            layer: Any = target.get_submodule(name)
            layer.add(adapter_name, edit, peft_config, site)
            layer.planner.where[adapter_name] = Where(
                Positions.parse(peft_config.positions), peft_config.tied, peft_config.decode
            )
            layer.planner.likeness[adapter_name] = self._likeness

    def _replace_module(
        self, parent: nn.Module, child_name: str, new_module: Any, child: Any
    ) -> None:
        # A head that was wrapped to be trained comes back as it is. PEFT gives it the weight of
        # what it replaces, which a head of several layers has not.
        setattr(parent, child_name, new_module)

    def _cast_adapter_dtype(self, adapter_name: str, autocast_adapter_dtype: bool = True) -> None:
        """Do nothing: the config says in which dtype the edits are kept."""

    @contextmanager
    def _enable_peft_forward_hooks(self, *args: Any, **kwargs: Any) -> Iterator[None]:
        """Give every row of a batch its own adapter while PEFT runs a forward pass or generates.

        Raises:
            ValueError: a name is neither an adapter nor `"__base__"`; or the model is in training,
                and is no causal language model, or has wholly trained modules.
        """
        if kwargs.get("adapter_names") is None:
            yield
            return
        names = list(kwargs["adapter_names"])
        unknown = sorted(set(names) - set(self.peft_config) - {BASE})
        if unknown:
            known = ", ".join([BASE, *self.peft_config])
            raise ValueError(f"adapter_names {unknown}: expected names out of {known}")
        planners = planners_of(self.model)
        # Heads and other wholly trained modules have one copy per adapter, too.
        wrappers = [m for m in self.model.modules() if isinstance(m, AuxiliaryTrainingWrapper)]
        if self.training and torch.is_grad_enabled():
            _refuse_training(planners, wrappers)
        for planner in planners:
            planner.adapter_names = names
        hooks = [
            wrapper.register_forward_pre_hook(
                lambda module, args, kwargs: (args, kwargs | {"adapter_names": names}),
                with_kwargs=True,
            )
            for wrapper in wrappers
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()
            for planner in planners:
                planner.adapter_names = None

    @classmethod
    def _remap_adapter_state_dict_for_load(
        cls, model: nn.Module, config: Any, adapter_name: str, state_dict: dict[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        """Hold the tensors of a file against the adapter that they are for.

        Raises:
            ValueError: tensors are missing, left over, or of another dtype than the config says.
        """
        loaded = super()._remap_adapter_state_dict_for_load(model, config, adapter_name, state_dict)
        own = {name for name in model.state_dict() if f".reft_edits.{adapter_name}." in name}
        given = {name for name in loaded if ".reft_edits." in name}
        dtypes = {str(loaded[name].dtype).removeprefix("torch.") for name in given}
        if own != given or dtypes - {config.dtype}:
            raise ValueError(
                f"the file of adapter {adapter_name!r} lacks {sorted(own - given)}, has "
                f"{sorted(given - own)} too, and its tensors are {sorted(dtypes)}: expected those "
                f"of its config, {config.dtype}"
            )
        return loaded

    @classmethod
    def _get_adapter_state_dict(
        cls, model: nn.Module, config: Any, adapter_name: str, *args: Any, **kwargs: Any
    ) -> dict[str, torch.Tensor]:
        selected = super()._get_adapter_state_dict(model, config, adapter_name, *args, **kwargs)
        # The tensors may have been cast since they were built; a load must make them the same.
        for tensor in selected.values():
            config.dtype = str(tensor.dtype).removeprefix("torch.")
        return selected

    def merge_adapter(self, *args: Any, **kwargs: Any) -> None:
        """Refuse: see the message."""
        raise ValueError(
            "a ReFT adapter cannot be merged: it edits the hidden states of some tokens, while "
            "weights act on all tokens alike; keep it attached, or take it off with unload()"
        )

    def _unload_and_optionally_merge(self, merge: bool = True, *args: Any, **kwargs: Any) -> Any:
        if merge:
            self.merge_adapter()
        for planner in planners_of(self.model):
            planner.detach()
        for layer in layers_of(self.model):
            layer.detach()
        return super()._unload_and_optionally_merge(False, *args, **kwargs)


def _refuse_training(planners: list[Planner], wrappers: list[AuxiliaryTrainingWrapper]) -> None:
    """Raise if it is not known what every adapter's own loss is, or its gradient."""
    if wrappers:
        kinds = sorted({type(wrapper).__name__ for wrapper in wrappers})
        raise ValueError(
            f"adapter_names in training with {', '.join(kinds)}: expected adapters without "
            "modules_to_save, of which PEFT runs one copy per batch there"
        )
    for planner in planners:
        if planner.kind != "causal":
            raise ValueError(
                f"adapter_names in training of {type(planner.root).__name__}: expected a causal "
                "language model, whose labels tell every adapter's own loss"
            )


def resolve(model: nn.Module, config: ReftConfig) -> None:
    """Write into a config what it means in a model: the layers' indices and the model's shape.

    In place, because PEFT keeps the object and goes on writing to it. A config that was attached
    before starts again from what its author wrote, so that one can serve several models.

    Raises:
        ValueError: a layer does not exist, or the config was loaded and its adapter made for a
            model of another shape. The config is unchanged.
    """
    own = vars(config).get("_resolved", {})
    written = {
        name: own[name][0] if name in own and own[name][1] == value else value
        for name, value in vars(config).items()
        if name in ("layers", "hidden_size", "num_layers")
    }
    anatomy = Anatomy(model)
    for name, size in zip(("hidden_size", "num_layers"), anatomy.shape, strict=True):
        if written[name] is not None and written[name] != size:
            raise ValueError(
                f"the adapter was made for a model with {name}={written[name]}: got "
                f"{anatomy.name} with {name}={size}"
            )
    vars(config).update(written)
    layers = anatomy.layer_indices(config)
    hidden_size, num_layers = anatomy.shape
    found = {
        "layers": config.layers if layers is None else layers,
        "hidden_size": hidden_size,
        "num_layers": num_layers,
    }
    vars(config).update(found, _resolved={name: (written[name], found[name]) for name in found})


def register() -> None:
    """Make PEFT know the method: its name, config, tuner and prefix. Safe to call again."""
    name: Any = ReftPeftType.REFTUNE
    mapping.PEFT_TYPE_TO_CONFIG_MAPPING[name] = ReftConfig
    mapping.PEFT_TYPE_TO_TUNER_MAPPING[name] = ReftTuner
    mapping.PEFT_TYPE_TO_PREFIX_MAPPING[name] = ReftTuner.prefix
