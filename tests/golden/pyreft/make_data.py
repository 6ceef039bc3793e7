"""What pyreft makes of rows: the values of `data.json`, and the calls that both sides are given.

`data.json` was written by pyreft 0.1.0 with pyvene 0.1.8, transformers 4.45.1, tokenizers 0.20.3,
datasets 3.0.2, torch 2.13.0 and Python 3.11:

    PYTHONPATH=. python tests/golden/pyreft/make_data.py

`cases` is called with pyreft's names here, and with this package's in `tests/test_pyreft_data.py`.
"""

import json
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import torch
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, processors
from transformers import DataCollatorWithPadding, PreTrainedTokenizerFast

GOLDEN = Path(__file__).with_name("data.json")
SPECIALS = ["<pad>", "<s>", "</s>", "<unk>"]
CHAT = (
    "{{ bos_token }} {% for m in messages %}{{ m['role'] }} : {{ m['content'] }} {% endfor %}"
    "{{ eos_token }}"
)
# Prompts of one, two, three and many tokens; a row without input, and one with an empty one.
ROWS = [
    {"instruction": "Go", "input": "", "output": " I go", "worse": " I stay at home today"},
    {"instruction": "Say yes", "input": "now", "output": " yes", "worse": " no"},
    {"instruction": "Count to three", "output": " one two three", "worse": " one two"},
    {
        "instruction": "Name a bird that sings in the dark wood at night",
        "input": "one word , no more",
        "output": " the nightingale",
        "worse": " the owl sings",
    },
]
SCORES = [(0.5, 2.0), (3.0, 1.0), (1.0, 1.0), (0.0, 1.0)]
ALPACA = "Below is an instruction that describes a task , paired with an input ### Response:"
WORDS = sorted({word for row in ROWS for text in row.values() for word in text.split()})
SPECS = ["f1", "l1", "f0+l2", "f3", "l3", "f1+l1", "f2+l5", "f5+l2", "f7+l7"]
FIELDS = {"input_field": "input", "instruction_field": "instruction"}


def tokenizer(**options: Any) -> PreTrainedTokenizerFast:
    """A token per word; `<s>` in front of a text if `bos`."""
    bos = options.pop("bos", True)
    vocabulary = [*SPECIALS, *WORDS, *sorted(set(ALPACA.split()) - set(WORDS)), "user", ":"]
    raw = Tokenizer(models.WordLevel({w: i for i, w in enumerate(vocabulary)}, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    raw.add_special_tokens([AddedToken(token, normalized=False) for token in SPECIALS])
    if bos:
        raw.post_processor = processors.TemplateProcessing(
            single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", 1)]
        )
    names = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    options = {**names, "model_max_length": 64, "padding_side": "right", **options}
    wrapped = PreTrainedTokenizerFast(tokenizer_object=raw, **options)
    wrapped.chat_template = CHAT
    return wrapped


def rows(*columns: str) -> list[dict[str, Any]]:
    """The rows with these columns more: `subspaces`, `pair`, `label`."""
    made = []
    for row, (a, b) in zip(ROWS, SCORES, strict=True):
        more = {
            "subspaces": {"subspaces": [0, 2]},
            "label": {"label": int(a)},
            "pair": {
                **{name: _talk(row, name) for name in ("output", "worse")},
                "score_a": a,
                "score_b": b,
            },
        }
        made.append({"input": "", **row} | {k: v for c in columns for k, v in more[c].items()})
    return made


def _talk(row: dict[str, str], answer: str) -> list[dict[str, str]]:
    said = {"user": row["instruction"], "assistant": row[answer]}
    return [{"role": role, "content": text} for role, text in said.items()]


def subclasses(base: type) -> tuple[type, type]:
    """Two data sets of the kind that people write."""

    class Labelled(base):
        def preprocess(self, kwargs: dict[str, Any]) -> None:
            self.pad_mode = "last"
            self.fields_to_pad = ["input_ids"]
            self.key = kwargs["key"]

        def postprocess(self, kwargs: dict[str, Any]) -> None:
            self.task_dataset = [
                dict(row, long=row[self.key] + " now") for row in self.task_dataset
            ]

        def tokenize(self, data_item: dict[str, Any]) -> tuple[dict[str, Any], int]:
            ids = self.tokenizer(data_item["long"], truncation=True, return_tensors="pt")
            ids = ids["input_ids"][0]
            return {"input_ids": ids, "labels": data_item["label"]}, len(ids)

    class Everywhere(base):
        def tokenize(self, data_item: dict[str, Any]) -> tuple[dict[str, Any], int]:
            ids = torch.tensor(self.tokenizer(data_item["instruction"])["input_ids"])
            return {"input_ids": ids, "labels": ids.clone(), "extra": self.data_split}, len(ids)

        def get_intervention_locations(self, **kwargs: Any) -> list[list[int]]:
            return [list(range(kwargs["last_position"]))] * kwargs["num_interventions"]

    return Labelled, Everywhere


def positions(lib: Any) -> Iterator[tuple[str, Any]]:
    for text in [*SPECS, "f12+l345", "f0", "f1 +l2"]:
        yield f"parse {text}", lib.parse_positions(text)
    for text, pad, tied, count in product(SPECS, ("first", "last"), (True, False), (2, 4)):
        first, last = lib.parse_positions(text)
        common = {"num_interventions": count, "share_weights": tied, "pad_mode": pad, "other": 1}
        yield (
            f"locations {text} {pad} {tied} {count}",
            [
                lib.get_intervention_locations(
                    last_position=n, first_n=first, last_n=last, **common
                )
                for n in (0, 1, 2, 3, 4, 6, 9, 20)
            ],
        )
    yield (
        "defaults",
        lib.get_intervention_locations(last_position=5, positions="f3+l4", num_interventions=2),
    )


def modules(lib: Any) -> Iterator[tuple[str, Any, Any]]:
    inputs, outputs = ([row[key] for row in ROWS] for key in ("instruction", "output"))
    plain = {
        "": {},
        " bare": {"bos": False, "pad_token": "</s>"},
        " short": {"model_max_length": 4},
    }
    for (name, options), nonstop in product(plain.items(), (True, False)):
        words = tokenizer(**options)
        call = (words, None, inputs, outputs)
        for kind in ("", "chat_"):
            make = getattr(lib, f"make_last_position_supervised_{kind}data_module")
            made = make(*call, num_interventions=2, nonstop=nonstop)
            yield f"module {kind}{nonstop}{name}", made, words
        several = lib.make_multiple_position_supervised_data_module
        for text, tied in product(("l1", "f2+l1"), (True, False)):
            spots = {"positions": text, "num_interventions": 2, "share_weights": tied}
            made = several(*call, nonstop=nonstop, **spots)
            yield f"module {text} {tied} {nonstop}{name}", made, words


def data_sets(lib: Any, given: Callable[[list], Any]) -> Iterator[tuple[str, Any, Any]]:
    labelled, everywhere = subclasses(lib.ReftDataset)
    two = {"output_field": "output", **FIELDS}
    answers = {"chosen_output_field": "output", "rejected_output_field": "worse", **FIELDS}
    pair = {"conv_A_field": "output", "conv_B_field": "worse"}
    scored = {**pair, "conv_A_reward_field": "score_a", "conv_B_reward_field": "score_b"}
    generation = {"prompt_field": "instruction", "completion_field": "output"}
    text = {"input_field": "instruction"}
    kinds = {
        "classification": (lib.ReftClassificationDataset, {**text, "label_field": "output"}, []),
        "same": (lib.ReftClassificationDataset, {**text, "label_field": "instruction"}, []),
        "unlabelled": (lib.ReftClassificationDataset, {**text, "label_field": None}, []),
        "generation": (lib.ReftGenerationDataset, generation, ["subspaces"]),
        "supervised": (lib.ReftSupervisedDataset, two, []),
        "no stop": (lib.ReftSupervisedDataset, {**two, "input_field": None, "no_stop": True}, []),
        "preference": (lib.ReftPreferenceDataset, answers, ["subspaces"]),
        "prompts": (lib.ReftPreferenceDataset, {**answers, "data_split": "test"}, []),
        "reward": (lib.ReftRewardDataset, scored, ["pair"]),
        "answers": (lib.ReftRewardDataset, {**pair, "prompt_field": "instruction"}, []),
        "raw": (lib.ReftRawDataset, {}, ["subspaces"]),
        "raw prompts": (lib.ReftRawDataset, {"data_split": "test"}, []),
        "drawn": (lib.ReftRawDataset, {"max_n_example": 3, "seed": 7, "data_split": "test"}, []),
        "labelled": (labelled, {"key": "instruction"}, ["label"]),
        "everywhere": (everywhere, {"max_n_example": 2, "data_split": "dev"}, []),
    }
    spots = [("l1", False), ("f2+l3", False), ("f2+l3", True)]
    plain = {"": {}, " bare": {"bos": False, "pad_token": "</s>", "model_max_length": 9}}
    for (kind, (make, more, columns)), (spot, tied), (name, options) in product(
        kinds.items(), spots, plain.items()
    ):
        more = {"position": spot, "num_interventions": 2, "share_weights": tied, **more}
        words = tokenizer(**options)
        made = make("task", None, words, dataset=given(rows(*columns)), **more)
        yield f"{kind} {spot} {tied}{name}", made, words


def batch(lib: Any, made: Any, words: PreTrainedTokenizerFast) -> Any:
    """The batch of all rows of a data set, or of a data module."""
    if isinstance(made, dict):
        return made["data_collator"](list(made["train_dataset"]))
    lines = [made[i] for i in range(len(made))]
    if "chosen_output" in lines[0]:
        return lib.ReftRewardCollator(words, max_length=64)(lines)
    if isinstance(lines[0].get("labels"), int):
        return lib.ReftDataCollator(DataCollatorWithPadding(words))(lines)
    return lib.make_data_collator(words, None)(lines)


def cases(lib: Any, given: Callable[[list], Any]) -> dict[str, Any]:
    """Everything, as JSON has it; a batch that cannot be made is None."""
    values: dict[str, Any] = dict(positions(lib))
    for name in ("prompt_input", "prompt_no_input", "no_header_prompt_template", "IGNORE_INDEX"):
        values[name] = getattr(lib, name)
    for name, made, words in [*modules(lib), *data_sets(lib, given)]:
        inside = made["train_dataset"] if isinstance(made, dict) else made
        values[name] = [inside[i] for i in range(len(inside))]
        raw = getattr(made, "raw_dataset", None)
        values[f"{name}: raw"] = raw if raw is None else [dict(row) for row in raw]
        try:
            values[f"{name}: batch"] = dict(batch(lib, made, words))
        except ValueError:
            values[f"{name}: batch"] = None
    return json.loads(json.dumps(values, default=_plain))


def _plain(tensor: torch.Tensor) -> dict[str, Any]:
    return {"dtype": str(tensor.dtype), "values": tensor.tolist()}


def main() -> None:
    import pyreft.dataset
    import pyreft.reft_trainer

    lib = SimpleNamespace(**{**vars(pyreft.reft_trainer), **vars(pyreft.dataset)})
    values = cases(lib, datasets.Dataset.from_list)
    lines = (f"{json.dumps(k)}: {json.dumps(v, separators=(',', ':'))}" for k, v in values.items())
    GOLDEN.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
