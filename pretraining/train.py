"""Train the model on the packed rows for a given number of minutes, resumably.

The schedule follows the minutes spent, not the steps, so that a slow or shared machine only
trains on fewer tokens; the minutes can be shortened on the way through the file ``minutes``.
"""

import argparse
import json
import logging
import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from transformers import PreTrainedModel

from pretraining.batches import make_batch
from pretraining.causal import Causal
from pretraining.detection import Detection
from pretraining.masked import Masked
from pretraining.muon import Muon

LOG = logging.getLogger("pretraining.train")
CHECKPOINT = "checkpoint.pt"
BUILD = Path(__file__).resolve().parent.parent / "build" / "pretraining"
OBJECTIVES: dict[str, Callable[[np.ndarray, int], Causal | Masked]] = {
    "causal": lambda rows, seed: Causal(),
    "masked": lambda rows, seed: Masked(),
    "detection": Detection,
}


def make_optimizers(
    model: PreTrainedModel, args: argparse.Namespace
) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the layers, AdamW for the embedding and the norms."""
    parts: dict[bool, list[torch.nn.Parameter]] = {True: [], False: []}
    for name, parameter in model.named_parameters():
        parts[parameter.ndim == 2 and ".layer" in name].append(parameter)
    inside, rest = parts[True], parts[False]
    return [
        Muon(inside, lr=args.muon_lr, weight_decay=0.02, half=args.bf16),
        torch.optim.AdamW(rest, lr=args.adam_lr, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def rate(progress: float, warmup: float = 0.01, decay_from: float = 0.35) -> float:
    """Share of the peak learning rate: a short warm-up, a plateau, then linearly to zero."""
    if progress < warmup:
        return progress / warmup + 1e-3
    return min(1.0, max(0.0, (1 - progress) / (1 - decay_from)))


class Run:
    """One training run and everything needed to resume it."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.folder = args, Path(args.out)
        self.folder.mkdir(parents=True, exist_ok=True)
        data = np.load(args.data)
        self.rows, self.weights, self.docs = data["rows"], data["weights"], data["docs"]
        torch.manual_seed(args.seed)
        vocab = int(data["vocab"])
        self.objective = OBJECTIVES[args.objective](self.rows, args.seed)
        self.model = self.objective.build(vocab, args.hidden, args.layers, args.heads, args.ff)
        self.optimizers = make_optimizers(self.model, args)
        self.step, self.seconds, self.tokens = 0, 0.0, 0
        if (self.folder / CHECKPOINT).exists():
            self.load()

    def load(self) -> None:
        """Take up a checkpoint, also one of an objective without the head that this one adds."""
        state = torch.load(self.folder / CHECKPOINT, weights_only=False)
        own = {n: p for n, p in self.model.state_dict().items() if n.startswith("detector.")}
        self.model.load_state_dict(own | state["model"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            # Such a head's parameters are the last ones, and begin without averages.
            count = len(optimizer.param_groups[0]["params"])
            saved["param_groups"][0]["params"] = list(range(count))
            optimizer.load_state_dict(saved)
        self.step, self.seconds, self.tokens = state["step"], state["seconds"], state["tokens"]
        torch.set_rng_state(state["random"])
        LOG.info("resumed at step %d", self.step)

    def save(self) -> None:
        """Write a checkpoint and the plain model, each in one move."""
        state = {
            "model": self.model.state_dict(),
            "optimizers": [o.state_dict() for o in self.optimizers],
            "step": self.step,
            "seconds": self.seconds,
            "tokens": self.tokens,
            "random": torch.get_rng_state(),
        }
        torch.save(state, self.folder / "checkpoint.tmp")
        (self.folder / "checkpoint.tmp").rename(self.folder / CHECKPOINT)
        self.model.save_pretrained(self.folder / "model")
        numbers = {k: state[k] for k in ("step", "seconds", "tokens")}
        numbers["parameters"] = self.model.num_parameters()
        numbers["arguments"] = vars(self.args)
        (self.folder / "run.json").write_text(json.dumps(numbers, indent=1))

    def batch_rows(self) -> np.ndarray:
        """Row numbers of this step: a new shuffle every pass over the data."""
        per_pass = len(self.rows) // self.args.batch
        turn, place = divmod(self.step, per_pass)
        order = np.random.default_rng(self.args.seed + turn).permutation(len(self.rows))
        return order[place * self.args.batch : (place + 1) * self.args.batch]

    def minutes(self) -> float:
        """Minutes to spend; the file ``minutes`` overrides the argument at any time."""
        override = self.folder / "minutes"
        return float(override.read_text()) if override.exists() else self.args.minutes

    def train_step(self, progress: float) -> float:
        """One update; returns its loss."""
        scale = rate(progress)
        peaks = (self.args.muon_lr, self.args.adam_lr)
        for optimizer, peak in zip(self.optimizers, peaks, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = peak * scale
        total, micro = 0.0, self.batch_rows()
        for part in np.array_split(micro, self.args.accumulate):
            rows = (self.rows[part], self.weights[part], self.docs[part])
            batch = make_batch(*rows, causal=self.args.objective == "causal")
            with torch.autocast("cpu", torch.bfloat16, enabled=self.args.bf16):
                loss = self.objective.loss(self.model, batch, progress) / self.args.accumulate
            loss.backward()
            total += loss.item()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
        self.model.zero_grad(set_to_none=True)
        self.step += 1
        self.tokens += micro.size * self.rows.shape[1]
        return total

    def run(self) -> None:
        """Train until the minutes are spent."""
        if self.args.compile:
            self.model.base_model.compile(dynamic=False)
        average, saved = math.nan, self.seconds
        while self.seconds < self.minutes() * 60 and self.step < self.args.max_steps:
            began = time.monotonic()
            loss = self.train_step(self.seconds / (self.minutes() * 60))
            average = loss if math.isnan(average) else 0.95 * average + 0.05 * loss
            spent = time.monotonic() - began
            self.seconds += spent
            if self.step % 10 == 0:
                speed = self.args.batch * self.rows.shape[1] / spent
                LOG.info(
                    "step %d loss %.3f avg %.3f %.0f tok/s %.1f min",
                    self.step, loss, average, speed, self.seconds / 60,
                )  # fmt: skip
            if self.seconds - saved > self.args.save_every:
                self.save()
                saved = self.seconds
        self.save()
        LOG.info("done: %d steps, %d tokens, %.0f s", self.step, self.tokens, self.seconds)


def parse() -> argparse.Namespace:
    """Command line of the training."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default=str(BUILD / "train.npz"))
    parser.add_argument("--out", default=str(BUILD / "run"))
    parser.add_argument("--objective", choices=OBJECTIVES, default="causal")
    parser.add_argument("--minutes", type=float, default=66.0)
    parser.add_argument("--max-steps", type=int, default=10**9)
    parser.add_argument("--save-every", type=float, default=150.0)
    for name, value in (("hidden", 192), ("layers", 4), ("heads", 6), ("ff", 512)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--accumulate", type=int, default=1)
    parser.add_argument("--muon-lr", type=float, default=0.01)
    parser.add_argument("--adam-lr", type=float, default=0.005)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--bf16", action="store_true", help="where the processor has units for it")
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True)
    return parser.parse_args()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    arguments = parse()
    torch.set_num_threads(arguments.threads)
    Run(arguments).run()
