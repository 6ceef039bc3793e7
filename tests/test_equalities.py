"""The same row gives the same logits however it is run, and they are those of the formula."""

from itertools import chain

import pytest
import torch
from transformers import DynamicCache, GenerationConfig, StaticCache

from reftune.attached import planners_of
from reftune.prompts import Inputs
from tests.adapters import COMPLETION, LLAMA, PROMPTS, TOLERANCE, padded, pair
from tests.tiny_models import CAUSAL, TinyModel

WHERE = [
    {"positions": "l1"},
    {"positions": "f2"},
    {"positions": "f3+l2"},
    {"positions": "f3+l2", "tied": False},
    {"positions": "f7+l7", "tied": False},
    {"positions": "all"},
    {"positions": "l2", "decode": "all"},
    {"positions": "f2+l1", "decode": 2},
    {"positions": "f1+l2", "decode": 2, "tied": False},
    {"positions": "f1+l2", "decode": "all", "tied": False},
]


def with_positions(batch: dict, architecture: TinyModel) -> dict:
    """Add position_ids for the models that do not derive them from the attention mask."""
    if architecture.needs_position_ids:
        batch["position_ids"] = (batch["attention_mask"].cumsum(1) - 1).clamp(min=0)
    return batch


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("architecture", CAUSAL, ids=lambda a: a.name)
def test_every_architecture_pads_like_the_reference(architecture, side):
    model, reference = pair(architecture, positions="f3+l2", tied=False)
    batch = with_positions(padded(PROMPTS, side), architecture)
    with torch.no_grad():
        logits = model(**batch).logits
    for row, prompt in enumerate(PROMPTS):
        real = batch["attention_mask"][row].bool()
        torch.testing.assert_close(
            logits[row][real], reference.logits(prompt, len(prompt)), **TOLERANCE
        )


@pytest.mark.parametrize("where", WHERE, ids=str)
@pytest.mark.parametrize("side", ["left", "right"])
def test_labels_say_where_the_prompt_ends(where, side):
    model, reference = pair(LLAMA, **where)
    rows = [prompt + COMPLETION for prompt in PROMPTS]
    batch = padded(rows, side)
    labels = batch["input_ids"].clone()
    for row, prompt in enumerate(PROMPTS):
        start = 0 if side == "right" else labels.shape[1] - len(rows[row])
        labels[row, : start + len(prompt)] = -100
    labels[batch["attention_mask"] == 0] = -100
    with torch.no_grad():
        logits = model(**batch, labels=labels).logits
    for row, prompt in enumerate(PROMPTS):
        real = batch["attention_mask"][row].bool()
        expected = reference.logits(rows[row], len(prompt))
        torch.testing.assert_close(logits[row][real], expected, **TOLERANCE)


@pytest.mark.parametrize("where", WHERE, ids=str)
@pytest.mark.parametrize("borders", ["position_ids", "cu_seq_lens"])
def test_packed_rows_keep_their_borders(where, borders):
    model, reference = pair(LLAMA, **where)
    # With cu_seq_lens a prompt of one token is refused: collators hide the first of plain text too.
    prompts = [p for p in PROMPTS if borders == "position_ids" or len(p) > 1]
    rows = [prompt + COMPLETION for prompt in prompts]
    labels = [[-100] * len(prompt) + COMPLETION for prompt in prompts]
    restart = torch.tensor([[i for row in rows for i in range(len(row))]])
    batch = {
        "input_ids": torch.tensor([list(chain(*rows))]),
        "labels": torch.tensor([list(chain(*labels))]),
        "position_ids": restart,
    }
    if borders == "cu_seq_lens":
        lengths = torch.tensor([0] + [len(row) for row in rows], dtype=torch.int32).cumsum(0)
        batch["cu_seq_lens_q"] = batch["cu_seq_lens_k"] = lengths.int()
        # The model wants positions all the same; the planner is to find the borders without them.
        (planner,) = planners_of(model)
        hidden = batch | {"position_ids": None}
        planner.root.register_forward_pre_hook(
            lambda root, args, kwargs: planner._plan(Inputs(hidden, "causal"), None),
            with_kwargs=True,
        )
    with torch.no_grad():
        logits = model(**batch, use_cache=False).logits[0].split([len(row) for row in rows])
    for row, prompt, got in zip(rows, prompts, logits, strict=True):
        torch.testing.assert_close(got, reference.logits(row, len(prompt)), **TOLERANCE)


@pytest.mark.parametrize("where", WHERE, ids=str)
@pytest.mark.parametrize(
    "how",
    [
        {},
        {"use_cache": False},
        {"cache_implementation": "static", "disable_compile": True},
        {"prefill_chunk_size": 3, "cache_implementation": "static", "disable_compile": True},
        {"prefill_chunk_size": 2},
        {"num_return_sequences": 2, "num_beams": 2},
        {"prompt_lookup_num_tokens": 2},
    ],
    ids=str,
)
def test_generation_equals_the_reference(where, how):
    model, reference = pair(LLAMA, **where)
    if "num_beams" in how:
        expected = None
    else:
        expected = [reference.greedy(prompt, 5) for prompt in PROMPTS]
    rows = PROMPTS if "prompt_lookup_num_tokens" not in how else [PROMPTS[3]]
    batch = padded(rows, "left")
    options = {"max_new_tokens": 5, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    output = model.generate(**batch, **options, **how)
    got = output[:, batch["input_ids"].shape[1] :].tolist()
    if expected is None:
        alone = [
            model.generate(
                input_ids=torch.tensor([p]), attention_mask=torch.ones(1, len(p)), **options, **how
            )[:, len(p) :].tolist()
            for p in PROMPTS
        ]
        assert got == list(chain(*alone))
    else:
        assert got == (expected if len(rows) > 1 else [expected[3]])


@pytest.mark.parametrize("architecture", CAUSAL, ids=lambda a: a.name)
def test_every_architecture_generates_like_the_reference(architecture):
    model, reference = pair(architecture, positions="f2+l2", decode=1)
    batch = padded(PROMPTS, "left")
    output = model.generate(
        **batch, max_new_tokens=4, do_sample=False, eos_token_id=None, pad_token_id=0
    )
    got = output[:, batch["input_ids"].shape[1] :].tolist()
    assert got == [reference.greedy(prompt, 4) for prompt in PROMPTS]


@pytest.mark.parametrize("static", [False, True])
@pytest.mark.parametrize("decode", ["none", "all", 2])
@pytest.mark.parametrize("chunks", [[11, 1, 1, 1], [4, 5, 2, 3], [2, 1, 8, 1, 2]])
def test_a_cache_that_is_continued_by_hand_equals_one_forward_pass(static, decode, chunks):
    model, reference = pair(LLAMA, positions="f2+l2", decode=decode)
    tokens, length = PROMPTS[3] + COMPLETION, len(PROMPTS[3])
    cache = StaticCache(model.config, max_cache_len=20) if static else DynamicCache()
    # Only the caller knows where the prompt ends, if it comes in chunks or is to be counted.
    tells = decode == 2 or chunks[0] != length
    pieces, past = [], 0
    with torch.no_grad():
        for size in chunks:
            past += size
            told = {"prompt_mask": torch.ones(1, length, dtype=torch.bool)} if tells else {}
            chunk = torch.tensor([tokens[past - size : past]])
            pieces.append(model(chunk, past_key_values=cache, use_cache=True, **told).logits[0])
    expected = reference.logits(tokens, length)
    torch.testing.assert_close(torch.cat(pieces), expected, **TOLERANCE)


@pytest.mark.parametrize("static", [False, True])
def test_counting_generated_tokens_by_hand_is_refused(static):
    model, _ = pair(LLAMA, positions="l1", decode=2)
    cache = StaticCache(model.config, max_cache_len=20) if static else DynamicCache()
    prompt = torch.tensor([PROMPTS[3]])
    with torch.no_grad():
        model(prompt, past_key_values=cache, prompt_mask=torch.ones_like(prompt))
        with pytest.raises(ValueError, match=r"decode=2.*expected generate\(\)"):
            model(torch.tensor([[40]]), past_key_values=cache)


def test_generation_can_continue_a_cache():
    """The prefix went through the base model: suffix positions are those of the whole prompt."""
    model, reference = pair(LLAMA, positions="l2")
    prompt = PROMPTS[3]
    options = {"max_new_tokens": 4, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    with torch.no_grad(), model.disable_adapter():
        cache = model(torch.tensor([prompt[:6]]), use_cache=True).past_key_values
    ids = torch.tensor([prompt])
    output = model.generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), past_key_values=cache, **options
    )
    assert output[0, len(prompt) :].tolist() == reference.greedy(prompt, 4)


@pytest.mark.parametrize(
    "options",
    [
        {"max_new_tokens": 3, "do_sample": False, "pad_token_id": 0},
        {"generation_config": GenerationConfig(max_new_tokens=3, do_sample=False)},
    ],
    ids=str,
)
def test_the_padding_is_inferred_as_generate_infers_it(options):
    model, reference = pair(LLAMA, positions="f1")
    batch = padded(PROMPTS, "left")
    output = model.generate(input_ids=batch["input_ids"], **options)
    got = output[:, batch["input_ids"].shape[1] :].tolist()
    for tokens, prompt in zip(got, PROMPTS, strict=True):
        expected = reference.greedy(prompt, 3)
        end = expected.index(2) + 1 if 2 in expected else 3
        assert tokens[:end] == expected[:end]


def test_an_explicit_prompt_overrides():
    model, reference = pair(LLAMA, positions="f1+l2", decode=1)
    tokens = PROMPTS[3]
    mask = torch.tensor([[True] * 7 + [False] * 4])
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([tokens]), prompt_mask=mask).logits[0]
    torch.testing.assert_close(logits, reference.logits(tokens, 7), **TOLERANCE)


@pytest.mark.parametrize("where", WHERE, ids=str)
def test_gradient_checkpointing_gives_the_same_gradients(where):
    model, _ = pair(LLAMA, **where)
    model.train()
    batch = padded([prompt + COMPLETION for prompt in PROMPTS], "right")
    labels = batch["input_ids"].clone()
    for row, prompt in enumerate(PROMPTS):
        labels[row, : len(prompt)] = -100
    labels[batch["attention_mask"] == 0] = -100

    def gradients():
        model.zero_grad()
        model(**batch, labels=labels).loss.backward()
        return {n: p.grad.clone() for n, p in model.named_parameters() if p.requires_grad}

    plain = gradients()
    assert all(gradient.abs().sum() > 0 for gradient in plain.values())
    for reentrant in (False, True):
        model.gradient_checkpointing_enable({"use_reentrant": reentrant})
        model.enable_input_require_grads()
        torch.testing.assert_close(gradients(), plain)


@pytest.mark.parametrize("where", [WHERE[0], WHERE[3], WHERE[5], WHERE[8]], ids=str)
def test_compiles_into_one_graph(where):
    model, reference = pair(LLAMA, **where)
    rows = [prompt + COMPLETION for prompt in PROMPTS]
    batch = padded(rows, "right")
    labels = batch["input_ids"].clone()
    for row, prompt in enumerate(PROMPTS):
        labels[row, : len(prompt)] = -100
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        logits = compiled(**batch, labels=labels).logits
    for row, prompt in enumerate(PROMPTS):
        real = batch["attention_mask"][row].bool()
        expected = reference.logits(rows[row], len(prompt))
        torch.testing.assert_close(logits[row][real], expected, **TOLERANCE)


@pytest.mark.parametrize("architecture", CAUSAL, ids=lambda a: a.name)
def test_positions_that_select_nothing_change_no_bit(architecture):
    batch = {"input_ids": torch.tensor([PROMPTS[3]])}
    nothing = torch.zeros(1, len(PROMPTS[3]), dtype=torch.bool)
    for positions in ("l3", "all"):
        model, reference = pair(architecture, positions=positions)
        with torch.no_grad():
            edited = model(**batch, prompt_mask=nothing).logits
            base = reference.model(**batch).logits
            assert torch.equal(edited, base)
            assert not torch.equal(model(**batch).logits, base)
            with model.disable_adapter():
                assert torch.equal(model(**batch).logits, base)
