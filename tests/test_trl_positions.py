"""What TRL's trainers compute is what every row gives alone, edited in its own prompt."""

import copy
from functools import partial
from itertools import pairwise

import pytest
import torch
from datasets import Dataset
from peft import PeftModel, get_peft_model

from reftune import ReftConfig
from tests.tiny_text import byte_level
from tests.trl_runs import (
    ROWS,
    Jolted,
    base_model,
    batch_of,
    log_probs,
    run_example,
    shake,
    write_folder,
)

trl = pytest.importorskip("trl", reason="TRL is an extra: pip install reftune[trl]")

TOKENIZER = byte_level()
STILL = ("--max_steps", "1", "--learning_rate", "0")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("trl"))


@pytest.fixture
def example(folder, tmp_path):
    return partial(run_example, folder, tmp_path / "out")


def tokens(row: dict) -> tuple[torch.Tensor, int]:
    """Return the ids of a row, and how many of them are its prompt."""
    prompt = TOKENIZER(row["prompt"])["input_ids"]
    answer = TOKENIZER(row["completion"])["input_ids"]
    return torch.tensor([*prompt, *answer, TOKENIZER.eos_token_id]), len(prompt)


def documents(batch: dict) -> list[list[int]]:
    """Return the documents of a row without padding."""
    borders = batch["cu_seq_lens_q"].tolist()
    ids = batch["input_ids"][0].tolist()
    return [ids[a:b] for a, b in pairwise(borders)]


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(
    "options",
    [
        ["--max_length", "40"],
        ["--packing", "False", "--padding_free", "True"],
        ["--max_length", "40", "--pad_to_multiple_of", "32"],
    ],
    ids=["packing", "padding-free", "padded"],
)
def test_packed_rows_are_computed_as_if_each_were_alone(options, tied, example):
    config = partial(ReftConfig, tied=tied)
    trainer = example("sft_packed", *STILL, *options, ReftConfig=config)
    model, batch = trainer.model.eval(), batch_of(trainer)
    shake(model)
    of = {tuple(ids.tolist()): (ids, length) for ids, length in map(tokens, ROWS["rows"])}
    rows = [of[tuple(ids)] for ids in documents(batch) if tuple(ids) in of]
    assert len(rows) >= 3
    with torch.no_grad():
        packed = model(**batch, use_cache=False, fused_lm_head=True)
        loss = trainer.compute_loss(model, dict(batch))
        with model.disable_adapter():
            unedited = model(**batch, use_cache=False, fused_lm_head=True).log_probs
    labelled = batch["labels"][:, 1:] != -100
    alone = torch.cat([log_probs(model, ids, length) for ids, length in rows])
    torch.testing.assert_close(packed.log_probs[labelled], alone, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(loss, -alone.mean(), atol=1e-5, rtol=1e-5)
    assert (unedited[labelled] - alone).abs().median() > 0.01


def rows_of(batch: dict, prefix: str) -> list[tuple[torch.Tensor, int]]:
    """Return the rows of a padded batch without padding, and the lengths of their prompts."""
    ids, real, scored = (
        batch[prefix + part] for part in ("input_ids", "attention_mask", "completion_mask")
    )
    lengths = (real - scored).sum(dim=1).tolist()
    return [(row[mask.bool()], n) for row, mask, n in zip(ids, real, lengths, strict=True)]


@pytest.mark.parametrize("name", ["sft", "sft_packed"])
def test_evaluation_edits_what_training_does(name, example):
    trainer = example(name, *STILL)
    shake(trainer.model)
    loss = trainer.evaluate(Dataset.from_list(ROWS["rows"]))["eval_loss"]
    alone = torch.cat([log_probs(trainer.model.eval(), *tokens(row)) for row in ROWS["rows"]])
    assert loss == pytest.approx(-float(alone.mean()), rel=1e-5)


@pytest.mark.parametrize(("name", "prefixes"), [("dpo", [""]), ("kto", ["", "KL_"])])
def test_answers_are_held_against_the_base_model_without_a_copy_of_it(
    name, prefixes, example, folder
):
    trainer = example(name, *STILL)
    assert trainer.ref_model is None
    model, batch, base = trainer.model.eval(), batch_of(trainer), base_model(folder)
    shake(model)
    scores = trainer.compute_ref_log_probs(model, batch)
    if name == "dpo":
        scores = [torch.cat(scores)]  # of the better and of the worse answers
    trl.trainer.utils.add_fused_lm_head(base)
    for prefix, ours in zip(prefixes, scores, strict=True):
        ids, mask = batch[f"{prefix}input_ids"], batch[f"{prefix}attention_mask"]
        labels = ids.masked_fill(batch[f"{prefix}completion_mask"] == 0, -100)
        with torch.no_grad():
            theirs = base(input_ids=ids, attention_mask=mask, labels=labels, fused_lm_head=True)
        assert torch.equal(ours, theirs.log_probs.sum(-1))
        alone = [log_probs(base, *row).sum() for row in rows_of(batch, prefix)]
        torch.testing.assert_close(ours, torch.stack(alone), atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("name", ["dpo", "kto"])
def test_an_adapter_that_is_trained_further_is_held_against_its_start(name, example, folder):
    config = ReftConfig(component="mlp_output", positions="f1+l1", task_type="CAUSAL_LM")
    adapted = get_peft_model(base_model(folder), config)
    shake(adapted)
    start = copy.deepcopy(adapted).eval()
    of_trl = {"dpo": trl.DPOTrainer, "kto": trl.KTOTrainer}[name]

    def further(model, peft_config, **given):
        # What PEFT warns of does not come about: see the end of this test.
        with pytest.warns(UserWarning, match="'ref' should not be contained in the prefix"):
            return of_trl(model=adapted, **given)

    trainer = example(name, **{of_trl.__name__: further})
    margins = [e["rewards/margins"] for e in trainer.state.log_history if "rewards/margins" in e]
    assert margins[0] == 0
    assert margins[-1] > 0
    batch = batch_of(trainer)
    reference = trainer.compute_ref_log_probs(trainer.model.eval(), batch)[0]
    trl.trainer.utils.add_fused_lm_head(start.get_base_model())
    labels = batch["input_ids"].masked_fill(batch["completion_mask"] == 0, -100)
    given = {"attention_mask": batch["attention_mask"], "labels": labels, "fused_lm_head": True}
    with torch.no_grad():
        before = start(input_ids=batch["input_ids"], **given).log_probs.sum(-1)
        after = trainer.model(input_ids=batch["input_ids"], **given).log_probs.sum(-1)
    torch.testing.assert_close(reference, before[: len(reference)], atol=1e-5, rtol=1e-6)
    assert not torch.allclose(after, before)
    found = PeftModel.from_pretrained(base_model(folder), f"{trainer.args.output_dir}/ref", "ref")
    edits = {n: p for n, p in start.named_parameters() if "reft_edits" in n}
    for name, parameter in found.named_parameters():
        if "reft_edits" in name:
            assert torch.equal(parameter, edits[name.replace(".ref.", ".default.")])


@pytest.mark.parametrize(("name", "prefixes"), [("dpo", [""]), ("kto", ["KL_", ""])])
def test_answers_are_scored_after_their_edited_prompts(name, prefixes, example):
    trainer = example(name, *STILL)
    model, batch = trainer.model.eval(), batch_of(trainer)
    shake(model)
    seen = []
    handle = model.register_forward_hook(lambda module, args, output: seen.append(output))
    with torch.no_grad():
        trainer.compute_loss(model, dict(batch))
    handle.remove()
    # The reference comes after them.
    for prefix, output in zip(prefixes, seen, strict=False):
        for (ids, length), got in zip(rows_of(batch, prefix), output.log_probs, strict=True):
            expected, plain = log_probs(model, ids, length), got[length - 1 : len(ids) - 1]
            torch.testing.assert_close(plain, expected, atol=1e-5, rtol=1e-5)
            assert plain.sum() == pytest.approx(float(got.sum()))
    with torch.no_grad(), model.disable_adapter():
        unedited = log_probs(model.get_base_model(), ids, length)
    assert (unedited - expected).abs().max() > 0.1


def test_grpo_writes_and_scores_answers_of_padded_prompts_as_of_each_alone(example, folder):
    written = []

    def recorded(prompts, completion_ids, **columns):
        prompt_ids = [TOKENIZER(prompt)["input_ids"] for prompt in prompts]
        written.extend(zip(prompt_ids, completion_ids, strict=True))
        return [float(sum(ids)) for ids in completion_ids]

    several = ("--per_device_train_batch_size", "8", "--num_generations", "2")
    config = partial(Jolted, positions="l2")
    options = (*STILL, *several, "--top_k", "1")
    trainer = example("grpo", *options, variety=recorded, ReftConfig=config)
    assert trainer.ref_model is None
    assert len({len(prompt) for prompt, _ in written}) > 1
    base = base_model(folder)
    plain = [greedy(base, prompt) for prompt, _ in written]
    model = PeftModel.from_pretrained(base, trainer.args.output_dir).eval()
    assert [greedy(model, prompt) for prompt, _ in written] == [ids for _, ids in written] != plain
    longest = max(len(prompt) for prompt, _ in written)
    shown = [longest - len(prompt) for prompt, _ in written]
    ids = torch.tensor(
        [
            [0] * pads + prompt + answer
            for pads, (prompt, answer) in zip(shown, written, strict=True)
        ]
    )
    mask = (torch.arange(ids.shape[1]) >= torch.tensor(shown)[:, None]).long()
    score, base = trainer._get_per_token_logps_and_entropies, base_model(folder)
    trl.trainer.utils.add_fused_lm_head(base)
    with torch.no_grad():
        got = score(trainer.model, ids, mask, 5)[0]
        with trainer.model.disable_adapter():
            assert torch.equal(score(trainer.model, ids, mask, 5)[0], score(base, ids, mask, 5)[0])
    for (prompt, answer), line in zip(written, got, strict=True):
        expected = log_probs(model, torch.tensor(prompt + answer), len(prompt))
        torch.testing.assert_close(line, expected, atol=1e-5, rtol=1e-5)


def greedy(model, prompt: list[int]) -> list[int]:
    ids = torch.tensor([prompt])
    return model.generate(input_ids=ids, max_new_tokens=5, do_sample=False)[
        0, len(prompt) :
    ].tolist()
