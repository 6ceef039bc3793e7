"""Every method trains what it says, comes off without a trace and loads as it was."""

import json
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
import transformers as tf
from datasets import Dataset
from transformers import Trainer, TrainingArguments

from reftune.experiments.methods import METHODS, method_of
from tests.tiny_models import CAUSAL, ENCODERS

BUILDERS = {row.name: row.build for row in [*CAUSAL, *ENCODERS]}
TASKS = {"llama": "CAUSAL_LM", "gpt2": "CAUSAL_LM", "roberta": "SEQ_CLS"}
OPTIONS = {
    "prefix-tuning": {"num_virtual_tokens": 5},
    "prompt-tuning": {"num_virtual_tokens": 5},
    # Of two units with relu, the default, none may be alive in a model as small as these.
    "bottleneck": {"width": 2, "act_fn": "gelu"},
}
DOES_NOT_FIT = {
    ("llama", "bitfit"): "with biases",
    ("llama", "probe"): "expected a classification head",
    ("gpt2", "probe"): "expected a classification head",
    ("roberta", "prefix-tuning"): "expected a decoder",
}
PAIRS = [(a, m) for a in TASKS for m in METHODS if (a, m) not in DOES_NOT_FIT]
every_pair = pytest.mark.parametrize(("architecture", "name"), PAIRS)

# The tiny models: 3 layers of width 32, and per layer what goes into and comes out of each linear.
LAYERS, WIDTH = 3, 32
LINEARS = {
    "llama": [(32, 32), (32, 16), (32, 16), (32, 32), (32, 48), (32, 48), (48, 32)],
    "gpt2": [(32, 96), (32, 32), (32, 128), (128, 32)],
    "roberta": [(32, 32)] * 4 + [(32, 48), (48, 32)],
}
REFT = LAYERS * (2 * 4 * WIDTH + 4)
LORA = {a: LAYERS * 8 * sum(map(sum, linears)) for a, linears in LINEARS.items()}
NORMS = 2 * LAYERS + 1
COUNTS: dict[str, Callable[[str], int]] = {
    "reft": lambda a: REFT,
    "red": lambda a: LAYERS * 2 * WIDTH,
    "lora": LORA.__getitem__,
    "dora": lambda a: LORA[a] + LAYERS * sum(out for _, out in LINEARS[a]),
    "reft+lora": lambda a: REFT + LORA[a],
    # Keys and values (GPT-2: with the queries), and what goes into the feed-forward's second
    # layer (RoBERTa, in PEFT's table: and into the attention's output).
    "ia3": lambda a: LAYERS * {"llama": 16 + 16 + 48, "gpt2": 96 + 128, "roberta": 96 + 48}[a],
    "prefix-tuning": lambda a: 5 * LAYERS * 2 * {"llama": 16, "gpt2": 32}[a],
    "prompt-tuning": lambda a: 5 * WIDTH,
    "ln-tuning": lambda a: NORMS * WIDTH * (1 if a == "llama" else 2),
    "bottleneck": lambda a: LAYERS * (2 * 2 * WIDTH + 2 + WIDTH),
    "bitfit": lambda a: LAYERS * sum(out for _, out in LINEARS[a]) + NORMS * WIDTH,
    "probe": lambda a: 0,
    "full": lambda a: sum(
        p.numel() for n, p in BUILDERS[a]().named_parameters() if not n.startswith("classifier")
    ),
}
# What is in the names of all that is trained.
MARKS = {
    "reft": ("reft_edits",),
    "red": ("reft_edits",),
    "lora": ("lora_A", "lora_B"),
    "dora": ("lora_A", "lora_B", "lora_magnitude"),
    "reft+lora": ("reft_edits", "lora_A", "lora_B"),
    "ia3": ("ia3_l",),
    "prefix-tuning": ("prompt_encoder",),
    "prompt-tuning": ("prompt_encoder",),
    "ln-tuning": ("ln_tuning_layers",),
    "bottleneck": (".bottleneck.",),
    "bitfit": (".bias",),
    "probe": (),
    "full": ("",),
}


@dataclass
class Batch:
    ids: torch.Tensor
    labels: torch.Tensor

    @classmethod
    def of(cls, architecture: str) -> "Batch":
        ids = torch.randint(3, 90, (4, 6), generator=torch.Generator().manual_seed(0))
        if TASKS[architecture] == "SEQ_CLS":
            return cls(ids, torch.tensor([0, 1, 1, 1]))
        return cls(ids, ids.masked_fill(torch.arange(6) < 3, -100))

    @property
    def inputs(self) -> dict[str, torch.Tensor]:
        return {"input_ids": self.ids, "attention_mask": torch.ones_like(self.ids)}


def logits(model, batch: Batch) -> torch.Tensor:
    """Return the logits of the tokens, without those of a prompt before them, or of the rows."""
    with torch.no_grad():
        found = model(**batch.inputs).logits
    return found[:, -batch.ids.shape[1] :] if found.dim() == 3 else found


def step(model, batch: Batch, steps: int = 1) -> float:
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=0.01, weight_decay=0)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = model(**batch.inputs, labels=batch.labels).loss
        loss.backward()
        optimizer.step()
    return loss.item()


def described(model) -> dict:
    """Say all that a base model is, with copies of its tensors."""
    hooks = [
        name for name in vars(model) if "hooks" in name and isinstance(vars(model)[name], dict)
    ]
    return {
        "modules": [(n, id(m), m.training, type(m)) for n, m in model.named_modules()],
        "attributes": [sorted(vars(m)) for m in model.modules()],
        "hooks": [{name: dict(vars(m)[name]) for name in hooks} for m in model.modules()],
        "parameters": [(n, id(p), p.requires_grad, p.grad) for n, p in model.named_parameters()],
        "tensors": [t.clone() for t in [*model.parameters(), *model.buffers()]],
        "config": str(model.config.to_dict()),
        "generation": str(vars(model).get("generation_config")),
    }


def assert_same(before: dict, after: dict) -> None:
    for old, new in zip(before.pop("tensors"), after.pop("tensors"), strict=True):
        assert torch.equal(old, new)
    assert before == after


@every_pair
def test_what_is_trained_is_what_the_method_says(architecture, name):
    model, batch = BUILDERS[architecture](), Batch.of(architecture)
    method = method_of(name, OPTIONS.get(name, {}))
    attached = method.attach(model, TASKS[architecture])
    assert method.count(attached) == COUNTS[name](architecture)
    attached.train()
    attached(**batch.inputs, labels=batch.labels).loss.backward()
    trained = {n for n, p in attached.named_parameters() if p.requires_grad}
    assert trained == {n for n, p in attached.named_parameters() if p.grad is not None}
    head = {n for n in trained if "classifier." in n}
    assert bool(head) == (architecture == "roberta")
    assert all(any(mark in n for mark in MARKS[name]) for n in trained - head)
    for mark in MARKS[name]:
        assert any(mark in n for n in trained - head)
    own = sum(p.numel() for n, p in attached.named_parameters() if n in trained - head)
    assert own == method.count(attached)


@every_pair
def test_a_method_begins_where_the_base_model_is(architecture, name):
    model, batch = BUILDERS[architecture](), Batch.of(architecture)
    expected = logits(model, batch)
    found = logits(method_of(name, OPTIONS.get(name, {})).attach(model, TASKS[architecture]), batch)
    if name in ("prefix-tuning", "prompt-tuning"):
        assert not torch.allclose(found, expected, atol=1e-3)
    elif name in ("reft", "reft+lora", "dora"):  # which compute what they leave as it is
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    else:
        assert torch.equal(found, expected)


@every_pair
def test_it_comes_off_without_a_trace_and_loads_as_it_was(architecture, name, tmp_path):
    model, batch = BUILDERS[architecture](), Batch.of(architecture)
    first = next(model.parameters())
    first.requires_grad_(False)
    next(model.base_model.children()).train()
    handle = model.base_model.register_forward_hook(lambda *_: None)
    before, base = described(model), logits(model, batch)
    method = method_of(name, OPTIONS.get(name, {}))
    attached = method.attach(model, TASKS[architecture])
    begun = {n: p.detach().clone() for n, p in attached.named_parameters() if p.requires_grad}
    step(attached.train(), batch, steps=2)
    stuck = {n for n, p in attached.named_parameters() if n in begun and torch.equal(p, begun[n])}
    assert not stuck
    expected = logits(attached.eval(), batch)
    assert not torch.allclose(expected, base, atol=1e-4)
    method.save(attached, tmp_path)
    assert method.detach(attached) is model
    assert_same(before, described(model))
    before = described(model)
    loaded = method_of(name, OPTIONS.get(name, {})).load(model, tmp_path)
    assert torch.equal(logits(loaded, batch), expected)
    assert not any(p.requires_grad for p in loaded.parameters())
    assert method.count(loaded) == COUNTS[name](architecture)
    assert method.detach(loaded) is model
    assert_same(before, described(model))
    handle.remove()
    assert not model.base_model._forward_hooks


@every_pair
def test_files_are_those_of_peft_or_tensors_and_json(architecture, name, tmp_path):
    method = method_of(name, OPTIONS.get(name, {}))
    attached = method.attach(BUILDERS[architecture](), TASKS[architecture])
    method.save(attached, tmp_path)
    own = name in ("bottleneck", "bitfit", "probe", "full")
    files = {"method.json", "weights.safetensors"}
    if not own:
        files = {"adapter_config.json", "adapter_model.safetensors", "README.md"}
    assert {path.name for path in tmp_path.iterdir() if path.is_file()} == files
    if own:
        said = json.loads((tmp_path / "method.json").read_text())
        assert (said["method"], said["task_type"]) == (name, TASKS[architecture])


@pytest.mark.parametrize(("architecture", "name"), [p for p in PAIRS if p[0] != "gpt2"])
def test_trainer_trains_it(architecture, name, tmp_path):
    batch = Batch.of(architecture)
    model = BUILDERS[architecture](hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    attached = method_of(name, OPTIONS.get(name, {})).attach(model, TASKS[architecture])
    columns = {**batch.inputs, "labels": batch.labels}
    rows = Dataset.from_dict({key: value.tolist() for key, value in columns.items()})
    arguments = TrainingArguments(
        output_dir=str(tmp_path),
        max_steps=6,
        learning_rate=0.005,
        per_device_train_batch_size=4,
        lr_scheduler_type="constant",
        save_strategy="no",
        logging_strategy="no",
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
    )
    before = attached(**batch.inputs, labels=batch.labels).loss.item()
    Trainer(attached, arguments, train_dataset=rows).train()
    assert attached.eval()(**batch.inputs, labels=batch.labels).loss.item() < before - 1e-4


@pytest.mark.parametrize(("architecture", "name"), DOES_NOT_FIT)
def test_a_method_that_does_not_fit_says_why(architecture, name):
    model = BUILDERS[architecture]()
    before = described(model)
    with pytest.raises(ValueError, match=DOES_NOT_FIT[architecture, name]) as error:
        method_of(name).attach(model, TASKS[architecture])
    assert type(model).__name__ in str(error.value)
    assert_same(before, described(model))


def test_prompts_do_not_fit_a_decoder_that_classifies():
    model = tf.GPT2ForSequenceClassification(BUILDERS["gpt2"]().config)
    with pytest.raises(ValueError, match="reads the last place, be it padding"):
        method_of("prompt-tuning").attach(model, "SEQ_CLS")


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("lora", {"target_modules": ["no_such_module"]}),
        ("reft", {"layers": [7]}),
        ("reft+lora", {"reft": {"layers": [7]}}),
        ("bottleneck", {"reduction": 64}),
    ],
)
def test_after_an_error_the_model_is_as_it_was(name, options):
    model = BUILDERS["llama"]()
    before = described(model)
    with pytest.raises(ValueError, match=r"no_such_module|layer 7|reduction 64"):
        method_of(name, options).attach(model, "CAUSAL_LM")
    assert_same(before, described(model))


@pytest.mark.parametrize("architecture", ["opt", "qwen2", "bert", "modernbert", "deberta_v2"])
@pytest.mark.parametrize("name", ["reft", "red", "lora", "ia3", "ln-tuning", "bottleneck"])
def test_defaults_find_their_place_in_other_models(architecture, name):
    if (architecture, name) == ("modernbert", "ia3"):
        pytest.skip("PEFT's table has no row for it")
    model = BUILDERS[architecture]()
    task = "SEQ_CLS" if model.get_output_embeddings() is None else "CAUSAL_LM"
    before = described(model)
    method = method_of(name)
    attached = method.attach(model, task)
    assert method.count(attached) >= LAYERS * 2
    method.detach(attached)
    assert_same(before, described(model))


def test_all_of_a_head_is_trained():
    """DeBERTa's and ModernBERT's have a layer that PEFT knows nothing of, RoBERTa's has two."""
    for architecture in ("roberta", "deberta_v2", "modernbert"):
        model = BUILDERS[architecture]()
        names = {n for n, _ in model.named_parameters() if not n.startswith(("roberta", "deberta"))}
        names = {n for n in names if not n.startswith("model.")}
        assert len({n.partition(".")[0] for n in names}) > 1 or len(names) == 4
        for name in ("reft", "lora", "bottleneck"):
            method = method_of(name)
            attached = method.attach(model, "SEQ_CLS")
            of_head = [n for n, p in attached.named_parameters() if p.requires_grad]
            of_head = [n.replace("modules_to_save.default.", "") for n in of_head]
            found = {n.removeprefix("base_model.model.") for n in of_head}
            assert names <= found
            method.detach(attached)


def test_a_bottleneck_computes_its_formula():
    model, batch = BUILDERS["gpt2"](), Batch.of("gpt2")
    options = {"width": 3, "place": "attention and feed-forward", "act_fn": "tanh"}
    method = method_of("bottleneck", options)
    attached = method.attach(model, "CAUSAL_LM")
    assert method.count(attached) == 2 * LAYERS * (2 * 3 * WIDTH + 3 + WIDTH)
    outputs = {}
    owner = model.transformer.h[1].mlp.c_proj
    owner.register_forward_hook(lambda _, args, out: outputs.update(given=args[0], out=out))
    step(attached, batch, steps=2)
    logits(attached, batch)
    own = owner.bottleneck
    h = outputs["given"] @ owner.weight + owner.bias
    down = torch.tanh(h @ own.down.weight.T + own.down.bias)
    expected = h + down @ own.up.weight.T + own.up.bias
    torch.testing.assert_close(outputs["out"], expected)
    assert not torch.allclose(expected, h, atol=1e-4)


def test_biases_that_lora_trains_in_the_base_model_are_put_back(tmp_path):
    model, batch = BUILDERS["gpt2"](), Batch.of("gpt2")
    before = described(model)
    method = method_of("lora", {"bias": "all"})
    attached = method.attach(model, "CAUSAL_LM")
    step(attached, batch, steps=2)
    expected = logits(attached, batch)
    method.save(attached, tmp_path)
    method.detach(attached)
    loaded = method.load(model, tmp_path)
    assert torch.equal(logits(loaded, batch), expected)
    method.detach(loaded)
    assert_same(before, described(model))


def test_both_adapters_of_reft_and_lora_take_part():
    batch = Batch.of("llama")
    found = []
    for off in ("", "reft_edits", "lora_B"):
        method = method_of("reft+lora", {"reft": {"r": 2}, "lora": {"r": 3}})
        torch.manual_seed(1)
        attached = method.attach(BUILDERS["llama"](), "CAUSAL_LM")
        step(attached, batch, steps=2)
        start = method_of("reft+lora", {"reft": {"r": 2}, "lora": {"r": 3}})
        torch.manual_seed(1)
        other = dict(start.attach(BUILDERS["llama"](), "CAUSAL_LM").named_parameters())
        with torch.no_grad():
            for n, p in attached.named_parameters():
                if off and off in n:
                    p.copy_(other[n])
        found.append(logits(attached, batch))
    assert not torch.allclose(found[0], found[1], atol=1e-4)
    assert not torch.allclose(found[0], found[2], atol=1e-4)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("loar", {}, "method 'loar': expected one of reft, red, lora"),
        ("lora", {"rank": 4}, "unknown option rank: expected some of"),
        ("lora", {"task_type": "SEQ_CLS"}, "unknown option task_type"),
        ("lora", {"init_lora_weights": "pissa"}, "'pissa' may change the base model"),
        ("dora", {"use_dora": False}, "unknown option use_dora"),
        ("red", {"intervention": "loreft"}, "unknown option intervention"),
        ("reft", {"positions": "f7-l7"}, "'f7-l7'"),
        ("reft+lora", {"r": 4}, "expected options of each under lora and reft"),
        ("reft+lora", {"lora": {"rank": 4}}, "unknown option rank"),
        ("bottleneck", {"size": 4}, "unknown option size: expected some of reduction"),
        ("bottleneck", {"width": 0}, "width 0: expected a whole number"),
        ("bottleneck", {"width": 4, "reduction": 2}, "expected one of the two"),
        ("bottleneck", {"place": "mlp"}, "place 'mlp': expected one of feed-forward"),
        ("bottleneck", {"act_fn": "relo"}, "act_fn 'relo'"),
        ("full", {"r": 4}, "unknown option r: expected none"),
    ],
)
def test_unknown_names_and_options_are_errors(name, options, message):
    with pytest.raises(ValueError, match=message):
        method_of(name, options)


def test_a_model_that_is_not_one_for_the_task_is_an_error():
    for name, architecture, task in [
        ("full", "llama", "SEQ_CLS"),
        ("lora", "roberta", "CAUSAL_LM"),
        ("lora", "llama", "SEQ_2_SEQ_LM"),
    ]:
        with pytest.raises(ValueError, match=f"{task}|CAUSAL_LM"):
            method_of(name).attach(BUILDERS[architecture](), task)


@pytest.mark.parametrize("first", ["lora", "full"])
@pytest.mark.parametrize("second", ["reft", "bitfit"])
def test_one_method_at_a_time(first, second):
    model = BUILDERS["gpt2"]()
    method = method_of(first)
    attached = method.attach(model, "CAUSAL_LM")
    with pytest.raises(ValueError, match="expected a model without"):
        method_of(second).attach(model, "CAUSAL_LM")
    method.detach(attached)
    for call in (method.detach, method.count):
        with pytest.raises(ValueError, match="has no method on it"):
            call(attached)


def test_files_of_another_method_or_model_are_refused(tmp_path):
    model = BUILDERS["gpt2"]()
    before = described(model)
    for name in ("lora", "bitfit"):
        method = method_of(name)
        attached = method.attach(model, "CAUSAL_LM")
        method.save(attached, tmp_path / name)
        method.detach(attached)
    for name, folder, error, message in [
        ("dora", "lora", ValueError, "without its use_dora"),
        ("reft", "lora", ValueError, "holds a LoraConfig"),
        ("full", "bitfit", ValueError, "has method 'bitfit': expected 'full'"),
        ("lora", "bitfit", FileNotFoundError, "no adapter_config.json: expected a saved lora"),
        ("bitfit", "lora", FileNotFoundError, "no method.json"),
    ]:
        with pytest.raises(error, match=message):
            method_of(name).load(model, tmp_path / folder)
        assert_same(before, described(model))
        before = described(model)
    wide = BUILDERS["gpt2"](n_embd=64)
    for name in ("lora", "bitfit"):
        before = described(wide)
        with pytest.raises(ValueError, match=r"does not fit|expected \(192,\)"):
            method_of(name).load(wide, tmp_path / name)
        assert_same(before, described(wide))
    deep = BUILDERS["gpt2"](n_layer=4)
    with pytest.raises(ValueError, match="has nothing for"):
        method_of("bitfit").load(deep, tmp_path / "bitfit")
    for name in ("lora/adapter_model.safetensors", "bitfit/weights.safetensors"):
        (tmp_path / name).write_bytes(b"broken")
        with pytest.raises(ValueError, match=r"does not fit|cannot be read"):
            method_of(name.partition("/")[0]).load(model, tmp_path / name.partition("/")[0])
