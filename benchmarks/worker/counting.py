"""FLOPs and bytes of a piece of work, counted operation by operation."""

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode


class ByteCounter(TorchDispatchMode):
    """Adds up the bytes of all tensors that operations read and write; views are free."""

    def __init__(self) -> None:
        super().__init__()
        self.total, self.operations = 0, 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        # Not `is_view`, which leaves out `detach` and `_unsafe_view`.
        read = {t.untyped_storage().data_ptr() for t in tree_leaves(args) if isinstance(t, Tensor)}
        made = [tensor for tensor in tree_leaves(result) if isinstance(tensor, Tensor)]
        viewed = made and all(tensor.untyped_storage().data_ptr() in read for tensor in made)
        if not viewed or func._schema.is_mutable:
            self.operations += 1
            tensors = [*tree_leaves((args, kwargs)), *made]
            self.total += sum(
                t.numel() * t.element_size() for t in tensors if isinstance(t, Tensor)
            )
        return result


def count(work: Callable[[], object]) -> dict[str, int]:
    """Return the FLOPs (matrix products and attention), bytes and operations of `work`.

    Decompositions such as QR are not among the FLOPs. An optimizer's are.
    """
    flops, moved = FlopCounterMode(display=False), ByteCounter()
    with flops:
        work()
    with moved:
        work()
    return {"flops": flops.get_total_flops(), "bytes": moved.total, "operations": moved.operations}
