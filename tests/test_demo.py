"""The emoji demo on the real bundled model: the promise of the tutorial, kept."""

from pathlib import Path

import pytest

from reftune.assets import EMOJI_TRAIN, EMOJI_UNSEEN, TINY_CHAT
from reftune.data import load_rows
from reftune.demo import DemoResult, emoji_share, run_demo


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[DemoResult, list[str]]:
    if not (TINY_CHAT / "model.safetensors").is_file():
        pytest.fail(f"the bundled model is not in {TINY_CHAT}")
    shown: list[str] = []
    out = tmp_path_factory.mktemp("demo") / "adapter"
    result = run_demo(out, lambda title, columns: shown.append(title))
    return result, shown


def test_the_unseen_prompts_are_thirty_and_unseen() -> None:
    seen = load_rows(EMOJI_TRAIN)["prompt"]
    unseen = load_rows(EMOJI_UNSEEN, answers=False)["prompt"]
    assert (len(seen), len(set(unseen))) == (10, 30)
    assert not set(seen) & set(unseen)


def test_the_examples_are_emoji_alone() -> None:
    assert emoji_share(list(load_rows(EMOJI_TRAIN)["completion"])) == 1


def test_ten_examples_make_the_model_answer_in_emoji(demo) -> None:
    result, _ = demo
    assert len(result.prompts) == len(result.base_answers) == len(result.adapter_answers) == 30
    assert result.base_share < 0.05
    assert result.adapter_share >= 0.9
    assert result.base_share == emoji_share(result.base_answers)
    assert result.adapter_share == emoji_share(result.adapter_answers)


def test_a_fresh_base_model_with_the_saved_adapter_answers_the_same(demo) -> None:
    assert demo[0].same_after_loading


def test_the_adapter_is_small_and_written(demo) -> None:
    result, shown = demo
    assert result.trainable_parameters < 5_000
    assert result.adapter_bytes < 50_000
    assert (Path(result.adapter) / "adapter_model.safetensors").is_file()
    assert len(shown) == 3
