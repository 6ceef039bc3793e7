"""Ship the two base models that methods are compared on, and write their cards.

The cards' numbers are measured on the weights as shipped, on texts held out before training: the
loss and accuracy of masked tokens for the encoder, bits per byte for the decoder.
"""

import argparse
import json
import logging
import platform
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from string import Template
from typing import Any

import torch
from tokenizers.processors import TemplateProcessing
from torch.nn import functional
from transformers import (
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoTokenizer,
    PreTrainedTokenizerFast,
    RobertaForMaskedLM,
)

from pretraining.evaluate import bits_per_byte, run_fields, set_value, ship
from pretraining.masked import LONGEST, MASK_ID, SHARE
from pretraining.sources import ROOT, Document
from pretraining.tokenizer import BOS, END, MASK, SPECIALS

LOG = logging.getLogger("pretraining.base_evaluate")
HIDDEN_SHARE, HIDDEN_SEED, BATCH = 0.15, 2024, 32
LARGEST = 40e6  # bytes of both models together
CHATS = (
    "| grammar, alpaca, lima, ultrafeedback | conversations of the bundled chat model, see its "
    "card | this project's own; as above |\n"
)


def ship_encoder(run: Path, data: Path, target: Path) -> None:
    """Write weights in half precision, configuration, and a tokenizer that makes training's rows.

    One text is ``<|bos|> A <|end|>``, a pair ``<|bos|> A <|end|> B <|end|>``, padded on the right.
    """
    target.mkdir(parents=True, exist_ok=True)
    model = AutoModelForMaskedLM.from_pretrained(run / "model", dtype=torch.float32)
    model.half().save_pretrained(target)
    # To be run in single precision all the same: half is many times slower on a CPU.
    set_value(target / "config.json", "dtype", "float32")
    known = AutoTokenizer.from_pretrained(data / "tokenizer")
    raw = known.backend_tokenizer
    specials = [(token, SPECIALS.index(token)) for token in (BOS, END)]
    raw.post_processor = TemplateProcessing(
        single=f"{BOS} $A {END}", pair=f"{BOS} $A {END} $B {END}", special_tokens=specials
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw,
        pad_token=known.pad_token,
        bos_token=BOS,
        eos_token=END,
        cls_token=BOS,
        sep_token=END,
        mask_token=MASK,
        model_input_names=["input_ids", "attention_mask"],
        model_max_length=LONGEST,
        clean_up_tokenization_spaces=False,
        padding_side="right",
    )
    write_tokenizer(tokenizer, target)


def ship_decoder(run: Path, data: Path, target: Path) -> None:
    """Write the same for the decoder, whose texts begin with ``<|bos|>``."""
    ship(run, data, target)
    tokenizer = AutoTokenizer.from_pretrained(target)
    begin = [(BOS, SPECIALS.index(BOS))]
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A $B", special_tokens=begin
    )
    write_tokenizer(tokenizer, target)


def write_tokenizer(tokenizer: PreTrainedTokenizerFast, target: Path) -> None:
    """Write a tokenizer that every transformers 5 finds by itself."""
    tokenizer.save_pretrained(target)
    set_value(target / "tokenizer_config.json", "tokenizer_class", "PreTrainedTokenizerFast")


def masked_batches(
    tokenizer: PreTrainedTokenizerFast, held: list[Document]
) -> Iterator[tuple[list[str], torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Yield sources, ids, attention mask and which tokens to hide; the same ones every time."""
    generator = torch.Generator().manual_seed(HIDDEN_SEED)
    held = sorted(held, key=lambda document: len(document[1]))
    for begin in range(0, len(held), BATCH):
        sources, texts = zip(*held[begin : begin + BATCH], strict=True)
        # A pair is written with the end token between its sentences.
        coded = tokenizer(list(texts), padding=True, truncation=True, return_tensors="pt")
        ids = coded["input_ids"]
        hidden = (torch.rand(ids.shape, generator=generator) < HIDDEN_SHARE) & (ids > MASK_ID)
        yield list(sources), ids, coded["attention_mask"], hidden


@torch.no_grad()
def masked_measures(
    model: RobertaForMaskedLM, tokenizer: PreTrainedTokenizerFast, held: list[Document]
) -> dict[str, tuple[int, float, float]]:
    """Return hidden tokens, their mean loss in nats and the share that is guessed, by source."""
    sums: dict[str, list[float]] = defaultdict(lambda: [0.0] * 3)
    for sources, ids, attention, hidden in masked_batches(tokenizer, held):
        shown = ids.masked_fill(hidden, MASK_ID)
        states = model.roberta(input_ids=shown, attention_mask=attention).last_hidden_state
        logits, wanted = model.lm_head(states[hidden]), ids[hidden]
        losses = functional.cross_entropy(logits, wanted, reduction="none")
        right = logits.argmax(-1) == wanted
        rows = hidden.nonzero()[:, 0].tolist()
        for row, loss, hit in zip(rows, losses.tolist(), right.tolist(), strict=True):
            for name in (sources[row], "all"):
                for place, value in enumerate((1, loss, hit)):
                    sums[name][place] += value
    return {name: (int(n), loss / n, hits / n) for name, (n, loss, hits) in sorted(sums.items())}


def limited(held: list[Document], per_source: int) -> list[Document]:
    """Keep the first texts of each source."""
    taken: Counter[str] = Counter()
    kept = []
    for document in held:
        taken[document[0]] += 1
        if taken[document[0]] <= per_source:
            kept.append(document)
    return kept


def encoder_card(target: Path, held: list[Document]) -> dict[str, str]:
    """Measure the encoder; return what its card says of it alone."""
    model = AutoModelForMaskedLM.from_pretrained(target).eval()
    tokenizer = AutoTokenizer.from_pretrained(target)
    rows = masked_measures(model, tokenizer, held)
    lines = [
        f"| {name} | {n} | {loss:.3f} | {hits:.1%} |" for name, (n, loss, hits) in rows.items()
    ]
    head = "| source | hidden tokens | loss (nats per token) | guessed |\n|---|---|---|---|\n"
    return {
        "title": "A small encoder, to compare methods on",
        "opening": "RoBERTa's architecture, trained to guess masked tokens.\n",
        "method": f"next tokens, then masked ones ({SHARE:.0%}, as 80 : 10 : 10), then also which "
        "tokens and texts were changed; the weights are the mean of those before and after that; "
        "Muon for the matrices, AdamW for the rest",
        "use": "`AutoTokenizer` and `AutoModelForSequenceClassification` or `AutoModelForMaskedLM` "
        "load the folder.\nA text is `<|bos|> A <|end|>`, a pair `<|bos|> A <|end|> B <|end|>`, as "
        "the tokenizer makes them;\n256 tokens at most.",
        "more": "",
        "measured": f"Of every text {HIDDEN_SHARE:.0%} of the tokens, the same ones every time, "
        "are hidden by `<|mask|>`.",
        "table": head + "\n".join(lines),
        "vocabulary": str(len(tokenizer)),
    }


def decoder_card(target: Path, held: list[Document]) -> dict[str, str]:
    """Measure the decoder; return what its card says of it alone."""
    model: Any = AutoModelForCausalLM.from_pretrained(target).eval()
    tokenizer = AutoTokenizer.from_pretrained(target)
    rows = bits_per_byte(model, tokenizer, held)
    lines = [f"| {name} | {n} | {bits:.3f} |" for name, (n, bits) in rows.items()]
    return {
        "title": "A small decoder, to compare methods on",
        "opening": "Llama's architecture, trained to predict the next token.\n",
        "method": "next token of texts and of answers, Muon for the matrices, AdamW for the rest",
        "use": "`AutoTokenizer` and `AutoModelForCausalLM` load the folder. A text begins with "
        "`<|bos|>`, which the\ntokenizer puts there and the chat template writes itself: a "
        "rendered template is tokenized with\n`add_special_tokens=False`. Texts and answers end "
        "with `<|end|>`. 256 tokens at most were seen in training.",
        "more": CHATS,
        "measured": "Of a conversation the answers count, as in training.",
        "table": "| source | documents | bits per byte |\n|---|---|---|\n" + "\n".join(lines),
        "vocabulary": str(len(tokenizer)),
    }


SHIPPED: dict[str, tuple[str, Callable[..., None], Callable[..., dict[str, str]]]] = {
    "encoder": ("run-mean", ship_encoder, encoder_card),
    "decoder": ("run", ship_decoder, decoder_card),
}


def hardware(arguments: dict[str, Any]) -> str:
    """Say what a training ran on."""
    precision = "bfloat16 with float32 weights" if arguments["bf16"] else "float32"
    threads = f"{arguments['threads']} thread{'s' * (arguments['threads'] > 1)}"
    return f"{threads} of an {platform.machine()} processor, {precision}, no GPU"


def evaluate(name: str, data: Path, target: Path, per_source: int) -> None:
    """Ship one model, measure it and write its card."""
    folder, shipping, measuring = SHIPPED[name]
    run = data / name / folder
    shipping(run, data, target)
    with (data / name / "held.jsonl").open(encoding="utf-8") as lines:
        held: list[Document] = limited([tuple(json.loads(line)) for line in lines], per_source)
    arguments = json.loads((run / "run.json").read_text(encoding="utf-8"))["arguments"]
    own = {"hardware": hardware(arguments), **measuring(target, held)}
    template = Template((Path(__file__).parent / "base_card.md").read_text(encoding="utf-8"))
    card = template.substitute(run_fields(run, target) | own)
    (target / "MODEL_CARD.md").write_text(card, encoding="utf-8")
    LOG.info("%s\n%s", name, own["table"])


def main() -> None:
    """Ship both, or those named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=ROOT / "build" / "base-models")
    parser.add_argument("--target", type=Path, default=ROOT / "release")
    parser.add_argument("--only", choices=SHIPPED, help="one of the two (default: both)")
    parser.add_argument("--per-source", type=int, default=400)
    args = parser.parse_args()
    for name in [args.only] if args.only else SHIPPED:
        evaluate(name, args.data, args.target / name, args.per_source)
    size = sum(f.stat().st_size for name in SHIPPED for f in (args.target / name).glob("*"))
    if size > LARGEST:
        raise SystemExit(
            f"{args.target}: {size / 1e6:.1f} MB, expected {LARGEST / 1e6:.0f} at most"
        )


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    main()
