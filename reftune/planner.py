"""The one writer of the plan: watches a model's forward passes and says what each of them edits.

A planner is the pre-hook of a root module. It reads where the prompt is from the inputs of a
forward pass and leaves one selection per group of adapters for the edited layers to read. No reader
clears it, because a checkpointed layer runs again in the backward pass.
"""

from collections.abc import Hashable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from reftune.generate_call import GenerateCall, begin_call
from reftune.groups import Group, every_row, grouped
from reftune.hooking import arguments_of, runs_backward
from reftune.plan import Decoding, Prompt, Selection, Where, everything, select
from reftune.prompts import CONTINUOUS_BATCHING, Inputs, Kind, refuse_padding
from reftune.rotations import Rotations


class Planner:
    """Plans the forward passes of `root` for the edited layers below it.

    Args:
        root: the module whose inputs tell the prompt.
        kind: what its inputs mean, see `reftune.prompts.Inputs`.

    Attributes:
        where: what each adapter edits, by adapter name; written when adapters come and go.
        likeness: equal for adapters that differ in nothing but their parameters; `None` for one
            that stays alone; written with `where`.
        active: names of the active adapters; written by the layers, which PEFT tells.
        enabled: false while the adapters are disabled.
        adapter_names: one adapter per row instead of the active ones, `"__base__"` for none.
        losses: in a training step with `adapter_names`, the mean loss of each adapter, detached.
        idle: true while the running forward pass edits nothing, whatever the adapter.
        rotations: what the edits need of their parameters, for the running forward pass.
    """

    def __init__(self, root: nn.Module, kind: Kind):
        self.root = root
        self.kind: Kind = kind
        self.where: dict[str, Where] = {}
        self.likeness: dict[str, Hashable] = {}
        self.active: list[str] = []
        self.enabled = True
        self.adapter_names: list[str] | None = None
        self._groups: list[Group] = []
        self._edits_nothing = False
        self.losses: dict[str, Tensor] = {}
        self.idle = False
        self.rotations = Rotations()
        self._inside: set[str] = set()
        self._tokens: Prompt | Decoding | None = None
        self._selections: dict[Group, Selection] = {}
        self._generation: GenerateCall | None = None
        self._has_gradients, self._aside = False, None
        self._arguments = arguments_of(root)
        self.handles: list[Any] = [
            root.register_forward_pre_hook(self._enter, with_kwargs=True),
            root.register_forward_hook(partial(self._leave, "root"), always_call=True),
        ]
        backbone = getattr(root, "base_model", root)
        if kind != "decoder" and backbone is not root:
            # Some trainers call the backbone and the head apart.
            self._backbone_arguments = arguments_of(backbone)
            leave = partial(self._leave, "backbone")
            self.handles += [
                backbone.register_forward_pre_hook(self._enter_backbone, with_kwargs=True),
                backbone.register_forward_hook(leave, always_call=True),
            ]
        self._patched_generate = vars(root).get("generate")
        if kind != "encoder":
            # Only generate() sees the whole prompt: a forward pass may get a chunk of it.
            vars(root)["generate"] = self.generate
            vars(root)["init_continuous_batching"] = self.init_continuous_batching

    def detach(self) -> None:
        """Take from the model what the planner put there."""
        for handle in self.handles:
            handle.remove()
        if self.kind != "encoder":
            del vars(self.root)["generate"], vars(self.root)["init_continuous_batching"]
        if self._patched_generate is not None:
            vars(self.root)["generate"] = self._patched_generate

    def shape(self, hidden: Tensor, owner: str) -> tuple[int, int]:
        """Return how many rows of how many tokens there are in hidden states `(..., width)`.

        Raises:
            ValueError: the hidden states are not those of the tokens in the model's inputs.
            RuntimeError: the module runs outside of the model's forward, so nothing was planned.
        """
        if not self._inside and not runs_backward():
            raise RuntimeError(
                f"{owner} runs outside of the forward of {type(self.root).__name__}, which tells "
                "where the prompt is: expected a call of the model, or the adapters disabled"
            )
        if self._tokens is None and hidden.dim() == 3:  # of a picture only the layers tell
            return hidden.shape[0], hidden.shape[1]
        tokens = self._tokens
        expected = None if tokens is None else (tokens.batch, tokens.length)
        shape = tuple(hidden.shape[:-1])
        # Some models lay all tokens in one dimension.
        if expected is None or shape not in (expected, (expected[0] * expected[1],)):
            raise ValueError(
                f"{owner} has hidden states of shape {tuple(hidden.shape)}: expected (batch, "
                f"tokens, width) with (batch, tokens) = {expected} as in the model's inputs"
            )
        return expected

    def selection(self, group: Group, hidden: Tensor) -> Selection:
        """Return what a group edits, in its rows, of hidden states `(batch, tokens, width)`."""
        if self._tokens is not None:
            return self._selections[group]
        tokens = everything(hidden.shape[0], hidden.shape[1], hidden.device)
        return group.select(tokens)

    @property
    def groups(self) -> list[Group]:
        """The adapters of this forward pass, in the order they edit.

        In a backward pass, in which layers run again, those of the last one that had any.
        """
        return [] if self._inside and self._edits_nothing else self._groups

    def planned(self) -> list[str]:
        """Return the names of the adapters that edit something, in the order they do it."""
        names = self.active if self.adapter_names is None else dict.fromkeys(self.adapter_names)
        return [name for name in names if name in self.where]

    def generate(self, *args: Any, prompt_mask: Tensor | None = None, **kwargs: Any) -> Any:
        """Call the model's own `generate`, with the prompt known to all its forward passes.

        Args:
            prompt_mask: `(batch, seq)`, true at prompt tokens, instead of all real tokens.
        """
        generate: Any = self._patched_generate
        if generate is None:
            own: Any = type(self.root)
            generate = own.generate.__get__(self.root)
        if not (self.enabled and self.planned()):
            return generate(*args, **kwargs)
        outer = self._generation
        self._generation = begin_call(self.root, args, kwargs, prompt_mask)
        try:
            return generate(*args, **kwargs)
        finally:
            self._generation = outer

    def init_continuous_batching(self, *args: Any, **kwargs: Any) -> Any:
        """Refuse before a thread of its own would fail, of which callers see no answers alone."""
        if self.enabled and self.planned():
            raise ValueError(CONTINUOUS_BATCHING)
        own: Any = type(self.root)
        return own.init_continuous_batching(self.root, *args, **kwargs)

    def _enter(self, root: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        prompt_mask = kwargs.pop("prompt_mask", None)
        self._inside.add("root")
        # With the adapters off the plan stays: checkpointed layers may yet run again with it.
        self._edits_nothing = not (self.enabled and self.planned())
        if not self._edits_nothing:
            inputs = dict(zip(self._arguments, args, strict=False)) | kwargs
            self._plan(Inputs(inputs, self.kind), prompt_mask)
            if self._tokens is None:
                refuse_padding(inputs.get("attention_mask"))
        return args, kwargs

    def _leave(self, entered: str, module: nn.Module, args: tuple, output: Any) -> None:
        self._inside.discard(entered)
        if self._aside is not None and not self._inside:
            plan, self.rotations.prepared = self._aside
            self._tokens, self._groups, self._selections, self.idle = plan
            self._aside, self._has_gradients = None, True

    def _enter_backbone(self, backbone: nn.Module, args: tuple, kwargs: dict) -> None:
        within_root = "root" in self._inside
        self._inside.add("backbone")
        if within_root:
            return
        self._edits_nothing = not (self.enabled and self.planned())
        if not self._edits_nothing:
            inputs = dict(zip(self._backbone_arguments, args, strict=False)) | kwargs
            self._plan(Inputs(inputs, self.kind), None)

    def _put_aside(self) -> None:
        # A trainer may ask its reference before a backward pass, in which layers run again.
        if not torch.compiler.is_compiling():
            has_gradients, self._aside = torch.is_grad_enabled(), None
            if self._has_gradients and not has_gradients:
                plan = self._tokens, self._groups, self._selections, self.idle
                self._aside = plan, self.rotations.prepared
            self._has_gradients = has_gradients

    def _plan(self, inputs: Inputs, prompt_mask: Tensor | None) -> None:
        self._put_aside()
        self._tokens = self._read(inputs, prompt_mask) if inputs.has_tokens else None
        self._groups = self._grouped(inputs)
        self._selections = {}
        if self._tokens is not None:
            self._selections = {group: group.select(self._tokens) for group in self._groups}
        nothing = all(selection is None for selection in self._selections.values())
        self.idle = self._tokens is not None and nothing
        if not self.idle:
            self.rotations.prepare([group.names for group in self._groups])

    def _grouped(self, inputs: Inputs) -> list[Group]:
        names = self.adapter_names
        if names is None:
            return [Group((name,), self.where[name]) for name in self.planned()]
        if not inputs.has_tokens:
            device = next(self.root.parameters()).device
            return grouped(names, self.where, self._kind_of, device)
        copied = self._generation is not None  # by beams
        names = every_row(names, inputs.batch, copied)
        return grouped(names, self.where, self._kind_of, inputs.shown.device)

    def _kind_of(self, adapter: str) -> Hashable:
        alike = self.likeness[adapter]
        return alike if alike is not None and self.rotations.are_here(adapter) else (adapter,)

    def _read(self, inputs: Inputs, prompt_mask: Tensor | None) -> Prompt | Decoding:
        if self._generation is not None:
            counts = any(isinstance(self.where[name].decode, int) for name in self.planned())
            return inputs.in_generation(self._generation, counts)
        if prompt_mask is not None:
            return inputs.with_prompt(prompt_mask)
        if inputs.uncounted:
            raise ValueError(
                "a recurrent cache does not tell how many tokens it has seen: expected generate() "
                "or a forward pass without it"
            )
        if isinstance(inputs.past, int) and inputs.past > 0:
            return inputs.decoding()
        if all(self.where[name].every_token for name in self.planned()):
            return inputs.all_prompt()
        if inputs.labels is not None:
            return inputs.from_labels()
        if isinstance(inputs.past, Tensor):  # a static cache: only the device knows what it holds
            for name in self.planned():
                select(inputs.decoding(), self.where[name])  # refuses what needs to be counted
        if self.kind != "encoder" and self.root.training and torch.is_grad_enabled():
            raise ValueError(
                f"a training step of {type(self.root).__name__} without labels does not tell "
                "prompt from completion: expected labels (-100 on the prompt) or prompt_mask"
            )
        return inputs.all_prompt()
