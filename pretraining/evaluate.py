"""Ship the trained model into ``reftune/assets/tiny-chat`` and write its card.

The card's numbers are measured here on the weights as shipped: held-out bits per byte for each
source, and twenty answers to the first twenty prompts of a fixed shuffle, whatever they are.
"""

import argparse
import json
import logging
import math
import platform
import random
import shutil
from collections import defaultdict
from pathlib import Path
from string import Template

import torch
from torch.nn import functional
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from pretraining.corpus import ANSWER_WEIGHT, encode
from pretraining.sources import ROOT

LOG = logging.getLogger("pretraining.evaluate")
Messages = list[dict[str, str]]


def ship(run: Path, data: Path, target: Path) -> None:
    """Write weights in half precision, configuration and tokenizer."""
    target.mkdir(parents=True, exist_ok=True)
    model = AutoModelForCausalLM.from_pretrained(run / "model", dtype=torch.float32)
    model.generation_config = GenerationConfig(
        do_sample=False,
        max_new_tokens=48,
        bos_token_id=model.config.bos_token_id,
        eos_token_id=model.config.eos_token_id,
        pad_token_id=model.config.pad_token_id,
    )
    model.half().save_pretrained(target)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copyfile(data / "tokenizer" / name, target / name)
    set_value(target / "tokenizer_config.json", "tokenizer_class", "PreTrainedTokenizerFast")
    # To be run in single precision all the same: half is many times slower on a CPU.
    set_value(target / "config.json", "dtype", "float32")


def set_value(file: Path, name: str, value: str) -> None:
    """Change one value of a JSON file."""
    values = {**json.loads(file.read_text(encoding="utf-8")), name: value}
    file.write_text(json.dumps(values, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


@torch.no_grad()
def score(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, document: str | Messages
) -> tuple[float, int]:
    """Bits and bytes of a story, or of the answers of a conversation.

    The end of an answer counts among the bits but not among the bytes.
    """
    [(ids, weights)] = encode(tokenizer, [("", document)])
    logits = model(torch.tensor([ids])).logits[0, :-1]
    losses = functional.cross_entropy(logits, torch.tensor(ids[1:]), reduction="none")
    counted = torch.tensor(weights[1:]) == ANSWER_WEIGHT
    shown = tokenizer.decode(
        [i for i, w in zip(ids, weights, strict=True) if w == ANSWER_WEIGHT],
        skip_special_tokens=True,
    )
    return float(losses[counted].sum()) / math.log(2), len(shown.encode())


def bits_per_byte(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    held: list[tuple[str, str | Messages]],
) -> dict[str, tuple[int, float]]:
    """Number of documents and bits per byte, for each source and for all together."""
    sums: dict[str, list[float]] = defaultdict(lambda: [0.0] * 3)
    for source, document in held:
        bits, size = score(model, tokenizer, document)
        for name in (source, "all"):
            for place, value in enumerate((1, bits, size)):
                sums[name][place] += value
    return {name: (int(n), bits / size) for name, (n, bits, size) in sorted(sums.items())}


@torch.no_grad()
def answer(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, messages: Messages) -> str:
    """The model's greedy answer."""
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    inputs = tokenizer(text, return_tensors="pt", add_special_tokens=False)
    output = model.generate(**inputs)[0, inputs["input_ids"].shape[1] :]
    return tokenizer.decode(output, skip_special_tokens=True).strip()


def unpicked(held: list[tuple[str, str | Messages]], count: int = 20) -> list[Messages]:
    """The openings of the first ``count`` conversations of a fixed shuffle."""
    chats = [document for _, document in held if not isinstance(document, str)]
    random.Random(2024).shuffle(chats)
    opening = []
    for chat in chats[:count]:
        first = next(i for i, m in enumerate(chat) if m["role"] == "assistant")
        opening.append(chat[:first])
    return opening


def cell(text: str) -> str:
    """Text that fits into a cell of a table."""
    return text.replace("|", "\\|").replace("\n", " ")


def write_card(target: Path, run: Path, held: list, per_source: int) -> None:
    """Measure the shipped weights and fill in the card."""
    model = AutoModelForCausalLM.from_pretrained(target, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(target)
    taken: dict[str, int] = defaultdict(int)
    measured = []
    for source, document in held:
        taken[source] += 1
        if taken[source] <= per_source:
            measured.append((source, document))
    rows = bits_per_byte(model, tokenizer, measured)
    table = "\n".join(f"| {name} | {n} | {bits:.3f} |" for name, (n, bits) in rows.items())
    LOG.info("%s", table)
    samples = []
    for opening in unpicked(held):
        asked = " / ".join(f"({m['role']}) {m['content']}" for m in opening)
        samples.append(f"| {cell(asked)} | {cell(answer(model, tokenizer, opening))} |")
    fields = run_fields(run, target) | {"table": table, "samples": "\n".join(samples)}
    template = Template((Path(__file__).parent / "card.md").read_text(encoding="utf-8"))
    card = template.substitute(fields | {"vocabulary": len(tokenizer)})
    (target / "MODEL_CARD.md").write_text(card, encoding="utf-8")


def run_fields(run: Path, target: Path) -> dict[str, str]:
    """What the card says about the training run and the shipped files."""
    numbers = json.loads((run / "run.json").read_text(encoding="utf-8"))
    size = sum(path.stat().st_size for path in target.iterdir() if path.name != "MODEL_CARD.md")
    arguments = numbers["arguments"]
    notes = run / "notes.txt"
    threads, machine = torch.get_num_threads(), platform.machine()
    return {
        "parameters": f"{numbers['parameters']:,}",
        "size": f"{size / 1e6:.1f}",
        "steps": f"{numbers['step']:,}",
        "tokens": f"{numbers['tokens']:,}",
        "seconds": f"{numbers['seconds']:,.0f}",
        "speed": f"{numbers['tokens'] / numbers['seconds']:,.0f}",
        "hardware": f"{threads} threads of an {machine} processor, float32, no GPU",
        "shape": ", ".join(f"{k} {arguments[k]}" for k in ("hidden", "layers", "heads", "ff")),
        "seed": arguments["seed"],
        "notes": notes.read_text(encoding="utf-8").strip() if notes.exists() else "none",
    }


def main() -> None:
    """Ship, and unless told otherwise measure and write the card."""
    build = ROOT / "build" / "pretraining"
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, default=build / "run")
    parser.add_argument("--data", type=Path, default=build)
    parser.add_argument("--target", type=Path, default=ROOT / "reftune" / "assets" / "tiny-chat")
    parser.add_argument("--per-source", type=int, default=400)
    parser.add_argument("--only-ship", action="store_true")
    args = parser.parse_args()
    ship(args.run, args.data, args.target)
    if not args.only_ship:
        with (args.data / "held.jsonl").open(encoding="utf-8") as lines:
            held = [json.loads(line) for line in lines]
        write_card(args.target, args.run, held, args.per_source)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    main()
