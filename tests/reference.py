"""ReFT written out a second time, slowly: one unpadded row, Python lists of positions, plain hooks.

Nothing here imports the code under test. Tests compare every way of running a batch with it.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn


@dataclass
class Edit:
    """One LoReFT by the paper's letters; `act` is f."""

    R: Tensor
    W: Tensor
    b: Tensor

    def __call__(self, h: Tensor) -> Tensor:
        return h + self.R.T @ (self.W @ h + self.b - self.R @ h)


def edited_positions(positions: str, length: int) -> tuple[list[int], list[int]]:
    """Return the first and the last edited positions of a prompt of this length."""
    if positions == "all":
        return list(range(length)), []
    parts = {part[0]: int(part[1:]) for part in positions.split("+")}
    first, last = parts.get("f", 0), parts.get("l", 0)
    if first and last:
        first, last = min(first, length // 2), min(last, length - length // 2)
    return list(range(min(first, length))), list(range(length - min(last, length), length))


@dataclass
class Reference:
    """A frozen model with edits at the outputs of modules, for one row at a time.

    Args:
        model: the base model, with nothing attached.
        edits: by module path, the edit of the first and the edit of the last positions.
        positions: as in the config.
        decode: as in the config.
    """

    model: nn.Module
    edits: dict[str, tuple[Edit, Edit]]
    positions: str
    decode: str | int = "none"
    _handles: list = field(default_factory=list)

    def logits(self, tokens: list[int], prompt_length: int) -> Tensor:
        """Return `(len(tokens), vocabulary)`: one forward pass over the whole row, no cache."""
        first, last = edited_positions(self.positions, prompt_length)
        after = len(tokens) - prompt_length
        count = {"none": 0, "all": after}.get(self.decode, self.decode)
        last = last + list(range(prompt_length, prompt_length + min(count, after)))
        for path, (edit_first, edit_last) in self.edits.items():
            self._hook(path, first, edit_first)
            self._hook(path, last, edit_last)
        try:
            with torch.no_grad():
                return self.model(torch.tensor([tokens]), use_cache=False).logits[0]
        finally:
            for handle in self._handles:
                handle.remove()
            self._handles.clear()

    def greedy(self, prompt: list[int], steps: int) -> list[int]:
        """Return the continuation of a prompt, every token from a forward pass over all before."""
        tokens = list(prompt)
        for _ in range(steps):
            tokens.append(int(self.logits(tokens, len(prompt))[-1].argmax()))
        return tokens[len(prompt) :]

    def _hook(self, path: str, where: list[int], edit: Edit) -> None:
        def hook(module, args, output):
            hidden = (output if isinstance(output, Tensor) else output[0]).clone()
            for position in where:
                hidden[0, position] = edit(hidden[0, position])
            return hidden if isinstance(output, Tensor) else (hidden, *output[1:])

        self._handles.append(self.model.get_submodule(path).register_forward_hook(hook))
