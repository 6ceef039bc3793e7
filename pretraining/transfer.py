"""Does the shipped encoder know anything? Full finetuning from it, and from random weights.

Both arms have the same rows, steps and learning rates to choose from. The rate is chosen on
training rows that are not trained on; the scores are those of the validation sets.
"""

import argparse
import csv
import hashlib
import json
import logging
import random
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
    set_seed,
)

from pretraining.sources import ROOT, data_folder, straighten

LOG = logging.getLogger("pretraining.transfer")
ARMS = ("shipped", "random")
Rows = list[tuple[str, int]]  # text and class


@dataclass(frozen=True)
class GlueTask:
    """A task of single sentences: its columns, how it is scored, and how many rows it needs."""

    folder: str
    text: int
    label: int
    header: bool
    score: str
    train_rows: int

    def rows(self, part: str) -> Rows:
        """Read ``train`` or ``dev``."""
        path = data_folder() / "glue" / self.folder / f"{part}.tsv"
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
        lines = lines[1:] if self.header else lines
        return [(straighten(line[self.text]), int(line[self.label])) for line in lines]


TASKS = {
    "sst2": GlueTask("SST-2", text=0, label=1, header=True, score="accuracy", train_rows=1000),
    "cola": GlueTask("CoLA", text=3, label=1, header=False, score="matthews", train_rows=4000),
}


def score(kind: str, guessed: np.ndarray, right: np.ndarray) -> float:
    """Return accuracy, or Matthews' correlation of two classes (0 if all guesses are the same)."""
    if kind == "accuracy":
        return float((guessed == right).mean())
    if len(set(guessed.tolist())) < 2:
        return 0.0
    return float(np.corrcoef(guessed, right)[0, 1])


class Transfer:
    """Finetunes from the shipped weights or from random ones."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.tokenizer = AutoTokenizer.from_pretrained(args.encoder)

    def encoded(self, rows: Rows) -> Dataset:
        """Return ids and class of every row."""
        texts = [text for text, _ in rows]
        ids = self.tokenizer(texts, truncation=True, max_length=self.args.tokens)["input_ids"]
        return Dataset.from_dict({"input_ids": ids, "labels": [label for _, label in rows]})

    def model(self, arm: str, seed: int) -> torch.nn.Module:
        """Return a classifier of two classes, with a head that depends on the seed alone."""
        set_seed(seed)
        if arm == "shipped":
            load = AutoModelForSequenceClassification.from_pretrained
            return load(self.args.encoder, num_labels=2)
        config = AutoConfig.from_pretrained(self.args.encoder, num_labels=2)
        return AutoModelForSequenceClassification.from_config(config)

    def run(self, arm: str, seed: int, lr: float, train: Rows, test: Rows, kind: str) -> float:
        """Finetune once and return the score of the test rows."""
        with tempfile.TemporaryDirectory() as folder:
            arguments = TrainingArguments(
                output_dir=folder,
                learning_rate=lr,
                num_train_epochs=self.args.epochs,
                per_device_train_batch_size=self.args.batch,
                per_device_eval_batch_size=128,
                warmup_steps=0.06,
                lr_scheduler_type="linear",
                save_strategy="no",
                logging_strategy="no",
                report_to=[],
                disable_tqdm=True,
                use_cpu=True,
                bf16=self.args.bf16,
                dataloader_pin_memory=False,
                seed=seed,
            )
            trainer = Trainer(
                self.model(arm, seed),
                arguments,
                train_dataset=self.encoded(train),
                data_collator=DataCollatorWithPadding(self.tokenizer),
            )
            trainer.train()
            predicted = trainer.predict(self.encoded(test))
        guessed = np.asarray(predicted.predictions).argmax(-1)
        return score(kind, guessed, np.array([of for _, of in test]))

    def compare(self, name: str) -> dict[str, Any]:
        """Return the rates chosen and the scores of both arms on one task."""
        task, args = TASKS[name], self.args
        rows = task.rows("train")
        random.Random(0).shuffle(rows)
        chosen_on, rest = rows[: args.choose_rows], rows[args.choose_rows :]
        drawn = {s: random.Random(s).sample(rest, task.train_rows) for s in args.seeds}
        dev = task.rows("dev")
        found: dict[str, Any] = {"score": task.score, "train_rows": len(drawn[args.seeds[0]])}
        for arm in ARMS:
            tried = {}
            for lr in args.rates:
                first = args.seeds[0]
                tried[lr] = self.run(arm, first, lr, drawn[first], chosen_on, task.score)
                LOG.info("%s %s lr %g: %.3f", name, arm, lr, tried[lr])
            best = max(tried, key=lambda lr: tried[lr])
            scores = [self.run(arm, s, best, drawn[s], dev, task.score) for s in args.seeds]
            LOG.info("%s %s with lr %g: %s", name, arm, best, scores)
            found[arm] = {"lr": best, "tried": tried, "scores": scores, **summary(scores)}
        return found


def summary(scores: Sequence[float]) -> dict[str, float | None]:
    """Return mean and standard deviation."""
    spread = statistics.stdev(scores) if len(scores) > 1 else None
    return {"mean": statistics.mean(scores), "deviation": spread}


def table(results: dict[str, dict[str, Any]]) -> str:
    """Return the results as a table of Markdown."""
    lines = ["| task | score | shipped encoder, mean (sd) | random weights |", "|---|---|---|---|"]
    for name, found in results.items():
        cells = [f"{found[arm]['mean']:.3f} ({found[arm]['deviation'] or 0:.3f})" for arm in ARMS]
        lines.append(f"| {name} | {found['score']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def parse() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--encoder", type=Path, default=ROOT / "release" / "encoder")
    parser.add_argument("--out", type=Path, default=ROOT / "release" / "transfer.json")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--choose-rows", type=int, default=500, help="rows to choose the rate on")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--rates", type=float, nargs="+", default=[1e-4, 3e-4, 1e-3])
    parser.add_argument("--epochs", type=float, default=3)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--bf16", action="store_true", help="where the processor has units for it")
    return parser.parse_args()


def main() -> None:
    """Compare on every task, print a table, write the numbers."""
    args = parse()
    torch.set_num_threads(args.threads)
    transfer = Transfer(args)
    results = {name: transfer.compare(name) for name in args.tasks}
    LOG.info("\n%s", table(results))
    settings = {name: value for name, value in vars(args).items() if not isinstance(value, Path)}
    # A path says nothing on another machine.
    weights = (args.encoder / "model.safetensors").read_bytes()
    settings["encoder_sha256"] = hashlib.sha256(weights).hexdigest()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    written = json.dumps({"settings": settings, "tasks": results}, indent=1)
    args.out.write_text(written + "\n", encoding="utf-8")


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    main()
