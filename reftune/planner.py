"""The one writer of the plan: watches a model's forward passes and says what each of them edits.

A planner is the pre-hook of a root module. It reads where the prompt is from the inputs of a
forward pass and leaves one selection per adapter for the edited layers to read. No reader clears
it, because a checkpointed layer runs again in the backward pass.
"""

import inspect
from typing import Any

import torch
from torch import Tensor, nn

from reftune.plan import Decoding, Prompt, Selection, Where, select
from reftune.prompts import Generation, Inputs, Kind, everything


class Planner:
    """Plans the forward passes of `root` for the edited layers below it.

    Args:
        root: the module whose inputs tell the prompt.
        kind: what its inputs mean, see `reftune.prompts.Inputs`.

    Attributes:
        where: what each adapter edits, by adapter name; written when adapters come and go.
        enabled: false while the adapters are disabled.
        adapter_names: one adapter per row instead of the active ones, `"__base__"` for none.
        idle: true while the running forward pass edits nothing, whatever the adapter.
    """

    def __init__(self, root: nn.Module, kind: Kind):
        self.root = root
        self.kind: Kind = kind
        self.where: dict[str, Where] = {}
        self.enabled = True
        self.adapter_names: list[str] | None = None
        self.idle = False
        self._inside = False
        self._tokens: Prompt | Decoding | None = None
        self._selections: dict[str, Selection] = {}
        self._generation: Generation | None = None
        self._arguments = _arguments_of(root)
        self._handles = [
            root.register_forward_pre_hook(self._enter, with_kwargs=True),
            root.register_forward_hook(self._leave, always_call=True),
        ]
        backbone = getattr(root, "base_model", root)
        if kind != "decoder" and backbone is not root:
            # Some trainers call the backbone and the head apart.
            self._backbone_arguments = _arguments_of(backbone)
            hook = backbone.register_forward_pre_hook(self._enter_backbone, with_kwargs=True)
            self._handles.append(hook)
        if kind != "encoder":
            # Only generate() sees the whole prompt: a forward pass may get a chunk of it.
            vars(root)["generate"] = self.generate

    def detach(self) -> None:
        """Take from the model what the planner put there."""
        for handle in self._handles:
            handle.remove()
        vars(self.root).pop("generate", None)

    def shape(self, hidden: Tensor, owner: str) -> tuple[int, int]:
        """Return how many rows of how many tokens there are in hidden states `(..., width)`.

        Raises:
            ValueError: the hidden states are not those of the tokens in the model's inputs.
        """
        if self._tokens is None and hidden.dim() == 3:  # of a picture only the layers tell
            return hidden.shape[0], hidden.shape[1]
        expected = self._tokens and (self._tokens.batch, self._tokens.length)
        shape = tuple(hidden.shape[:-1])
        # Some models lay all tokens in one dimension.
        if expected is None or shape not in (expected, (expected[0] * expected[1],)):
            raise ValueError(
                f"{owner} has hidden states of shape {tuple(hidden.shape)}: expected (batch, "
                f"tokens, width) with (batch, tokens) = {expected} as in the model's inputs"
            )
        return expected

    def selection(self, adapter: str, hidden: Tensor) -> Selection:
        """Return what an adapter edits in hidden states `(batch, tokens, width)`."""
        if self._tokens is None:
            return select(everything(hidden.shape[0], hidden.shape[1], hidden.device), self.where[adapter])
        return self._selections[adapter]

    def generate(self, *args: Any, prompt_mask: Tensor | None = None, **kwargs: Any) -> Any:
        """Call the model's own `generate`, with the prompt known to all its forward passes.

        Args:
            prompt_mask: `(batch, seq)`, true at prompt tokens, instead of all real tokens.
        """
        generate: Any = type(self.root).generate  # pyright: ignore[reportAttributeAccessIssue]
        if not self.enabled:
            return generate(self.root, *args, **kwargs)
        outer = self._generation
        self._generation = begin_generation(self.root, args, kwargs, prompt_mask)
        try:
            return generate(self.root, *args, **kwargs)
        finally:
            self._generation = outer

    def _enter(self, root: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        prompt_mask = kwargs.pop("prompt_mask", None)
        self._inside = True
        # A forward pass with the adapters off must leave the plan of an earlier one alone, whose
        # checkpointed layers are still to run again.
        if self.enabled:
            inputs = dict(zip(self._arguments, args, strict=False)) | kwargs
            self._plan(Inputs(inputs, self.kind), prompt_mask)
        return args, kwargs

    def _leave(self, root: nn.Module, args: tuple, output: Any) -> None:
        self._inside = False

    def _enter_backbone(self, backbone: nn.Module, args: tuple, kwargs: dict) -> None:
        if not self._inside and self.enabled:
            inputs = dict(zip(self._backbone_arguments, args, strict=False)) | kwargs
            self._plan(Inputs(inputs, self.kind), None)

    def _plan(self, inputs: Inputs, prompt_mask: Tensor | None) -> None:
        self._tokens = self._read(inputs, prompt_mask) if inputs.has_tokens else None
        self._selections = {}
        if self._tokens is not None:
            for adapter, where in self.where.items():
                self._selections[adapter] = select(self._tokens, where)
        nothing = all(selection is None for selection in self._selections.values())
        self.idle = self._tokens is not None and nothing

    def _read(self, inputs: Inputs, prompt_mask: Tensor | None) -> Prompt | Decoding:
        if self._generation is not None:
            counts = any(isinstance(where.decode, int) for where in self.where.values())
            return inputs.in_generation(self._generation, counts)
        if prompt_mask is not None:
            return inputs.with_prompt(prompt_mask)
        if isinstance(inputs.past, int) and inputs.past > 0:
            return inputs.decoding()
        if inputs.labels is not None:
            return inputs.from_labels()
        if self.kind != "encoder" and self.root.training and torch.is_grad_enabled():
            raise ValueError(
                f"a training step of {type(self.root).__name__} without labels does not tell "
                "prompt from completion: expected labels (-100 on the prompt) or prompt_mask"
            )
        return inputs.all_prompt()


def _arguments_of(module: nn.Module) -> list[str]:
    # Of the class, because trainers replace the instance's forward by one with other arguments.
    return list(inspect.signature(type(module).forward).parameters)[1:]


def begin_generation(
    root: Any, args: tuple, kwargs: dict[str, Any], prompt_mask: Tensor | None
) -> Generation:
    """Return what a call of `generate` says of its prompt.

    Where the caller gives no attention mask, the padding is inferred as `generate` does it, and
    put into `kwargs`, so that both agree.

    Raises:
        ValueError: the attention mask or the prompt mask has the wrong shape.
    """
    call = dict(zip(("inputs", "generation_config"), args, strict=False)) | kwargs
    shown = next(
        (call[n] for n in ("inputs_embeds", "inputs", "input_ids") if call.get(n) is not None), None
    )
    if root.config.is_encoder_decoder or shown is None:
        return Generation(None, 0)
    cache = call.get("past_key_values")
    seen = 0 if cache is None else int(cache.get_seq_length())
    mask = call.get("attention_mask")
    if mask is None and seen == 0:
        mask = kwargs["attention_mask"] = _padding_mask(root, shown, call)
    if mask is None:
        width = shown.shape[1] if shown.shape[1] > seen else seen + shown.shape[1]
        mask = torch.ones(shown.shape[0], width, device=shown.device)
    if mask.dim() != 2:
        raise ValueError(f"attention_mask {tuple(mask.shape)}: expected (batch, seq)")
    tokens = mask.bool()
    if prompt_mask is not None and prompt_mask.shape != tokens.shape:
        raise ValueError(
            f"prompt_mask {tuple(prompt_mask.shape)}: expected {tuple(tokens.shape)}, as the prompt"
        )
    return Generation(tokens if prompt_mask is None else tokens & prompt_mask.bool(), seen)


def _padding_mask(root: Any, shown: Tensor, call: dict[str, Any]) -> Tensor:
    """Return 0 at pad tokens, unless the pad token is also the end of a text."""
    ones = torch.ones(shown.shape[:2], dtype=torch.long, device=shown.device)
    config = call.get("generation_config") or root.generation_config
    pad = call.get("pad_token_id", config.pad_token_id)
    end = call.get("eos_token_id", config.eos_token_id)
    ends = end if isinstance(end, list | tuple) else [end]
    if shown.dim() != 2 or pad is None or pad in ends:
        return ones
    return shown.ne(pad).long()
