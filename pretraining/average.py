"""Average the weights of two runs, the second of which went on from the first.

What the encoder learned of grammar by detecting changed tokens cost it much of what it knew of
sentiment; halfway between the two it has nearly all of both: https://arxiv.org/abs/2109.01903.
"""

import argparse
import json
from pathlib import Path

import torch
from transformers import AutoModelForMaskedLM


@torch.no_grad()
def average(first: Path, second: Path, target: Path, share: float) -> None:
    """Write a run folder with ``(1 - share) * first + share * second`` and the second's numbers."""
    load = AutoModelForMaskedLM.from_pretrained
    model, other = load(first / "model"), load(second / "model").state_dict()
    for name, weights in model.state_dict().items():
        if weights.is_floating_point():
            weights.lerp_(other[name], share)
    model.save_pretrained(target / "model")
    numbers = json.loads((second / "run.json").read_text(encoding="utf-8"))
    numbers["parameters"] = model.num_parameters()
    (target / "run.json").write_text(json.dumps(numbers, indent=1), encoding="utf-8")
    notes = [path.read_text(encoding="utf-8").strip() for path in
             (first / "notes.txt", second / "notes.txt") if path.exists()]  # fmt: skip
    mixed = f"the weights are {1 - share:g} of the first run's and {share:g} of the second's"
    (target / "notes.txt").write_text("; ".join([*notes, mixed]), encoding="utf-8")


def main() -> None:
    """Average the two runs named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("first", type=Path)
    parser.add_argument("second", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--share", type=float, default=0.5, help="of the second")
    args = parser.parse_args()
    average(args.first, args.second, args.out, args.share)


if __name__ == "__main__":
    main()
