"""Which start of an edit learns better? The emoji demonstration, both starts, over seeds.

Run `python benchmarks/starts.py`; it prints a table in Markdown with machine, versions and seeds.
The learning rate is chosen per start, on seeds that the table leaves out.
"""

import platform
import statistics
from dataclasses import replace

import torch
import transformers
from peft import get_peft_model
from transformers import AutoTokenizer

from reftune.assets import EMOJI_TRAIN, EMOJI_UNSEEN, TINY_CHAT
from reftune.collation import PaddingCollator
from reftune.data import load_rows
from reftune.demo import RECIPE, adapter_config, ask, emoji_share, load_base
from reftune.encoding import encode_dataset

RATES = (2.5e-3, 5e-3, 1e-2)
SEARCH_SEEDS = (100, 101)
SEEDS = tuple(range(8))


def run(init: str, rate: float, seed: int) -> tuple[float, float]:
    """Return the last training loss and the share of unseen answers that are emoji alone."""
    tokenizer = AutoTokenizer.from_pretrained(TINY_CHAT)
    rows, _ = encode_dataset(load_rows(EMOJI_TRAIN), tokenizer)
    batch = PaddingCollator(tokenizer)([dict(row) for row in rows])
    torch.manual_seed(seed)
    model = get_peft_model(load_base(), replace(adapter_config(), init=init))
    steps = int(RECIPE.epochs)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
    model.train()
    for _ in range(steps):
        optimizer.zero_grad()
        loss = model(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), RECIPE.max_grad_norm)
        optimizer.step()
        schedule.step()
    answers = ask(model, tokenizer, load_rows(EMOJI_UNSEEN, answers=False))
    return loss.item(), emoji_share(answers)


def main() -> None:
    """Search the rates, then measure."""
    torch.set_num_threads(1)
    print("| start | rate | loss, mean (sd) | emoji alone, mean (sd) | lowest |")
    print("|---|---|---|---|---|")
    for init in ("identity", "paper"):
        searched = {r: [run(init, r, seed)[1] for seed in SEARCH_SEEDS] for r in RATES}
        rate = max(searched, key=lambda r: statistics.mean(searched[r]))
        losses, shares = zip(*(run(init, rate, seed) for seed in SEEDS), strict=True)
        loss = f"{statistics.mean(losses):.2f} ({statistics.stdev(losses):.2f})"
        share = f"{statistics.mean(shares):.1%} ({statistics.stdev(shares):.1%})"
        print(f"| {init} | {rate:g} | {loss} | {share} | {min(shares):.0%} |")
    print(
        f"\n{platform.machine()} CPU, 1 thread, torch {torch.__version__}, transformers "
        f"{transformers.__version__}, seeds {SEEDS[0]} to {SEEDS[-1]}, {int(RECIPE.epochs)} steps."
    )


if __name__ == "__main__":
    main()
