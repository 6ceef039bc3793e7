"""Choices of layers by name, which mean something in a model of any depth."""

from collections.abc import Callable, Sequence


def _third(depth: int) -> int:
    return max(1, round(depth / 3))


# In the order of preference where two of them are the same layers.
CHOICES: dict[str, Callable[[int], Sequence[int]]] = {
    "all": lambda depth: range(depth),
    "middle": lambda depth: [(depth - 1) // 2],  # 15 of 32, as in the paper's demonstrations
    "every-second": lambda depth: range(1, depth, 2),
    "every-third": lambda depth: range(1, depth, 3),
    "first-third": lambda depth: range(_third(depth)),
    "middle-third": lambda depth: range(_third(depth), depth - _third(depth)),
    "last-third": lambda depth: range(depth - _third(depth), depth),
}


def layers_named(choice: str, depth: int) -> str:
    """Return the layers of a choice, such as ``"3;9"``, or ``"all"``.

    Args:
        choice: a name, or indices with ``;`` between them; negative ones count from the end.
        depth: layers of the model.

    Raises:
        ValueError: no such name, no such layer, or no layer of that name at this depth.
    """
    if choice == "all":
        return choice
    if choice in CHOICES:
        layers = list(CHOICES[choice](depth))
        if not layers:
            raise ValueError(f'layers "{choice}": a model of {depth} layers has none')
        return _written(layers, depth)
    try:
        layers = [int(one) for one in choice.split(";")]
    except ValueError:
        names = ", ".join(CHOICES)
        raise ValueError(
            f'layers "{choice}": expected {names}, a layer, or several such as "3;9"'
        ) from None
    wrong = [layer for layer in layers if not -depth <= layer < depth]
    if wrong:
        raise ValueError(f"layer {wrong[0]}: expected {-depth} to {depth - 1}")
    return _written(sorted({layer % depth for layer in layers}), depth)


def _written(layers: Sequence[int], depth: int) -> str:
    return "all" if len(layers) == depth else ";".join(map(str, layers))


def sensible_choices(depth: int) -> tuple[str, ...]:
    """Return the names that mean different layers at this depth."""
    found: dict[str, str] = {}
    for name, layers in CHOICES.items():
        if layers(depth):
            found.setdefault(layers_named(name, depth), name)
    return tuple(found.values())
