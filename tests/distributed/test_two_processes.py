"""A training in two processes is that of one process, and either can go on with the other's."""

from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
from packaging.version import Version

from reftune.output_folder import last_checkpoint
from reftune.recipe import TrainingRecipe
from tests.distributed.ranks import on_ranks
from tests.distributed.trainings import Case, adapter, run, run_all, steps

RECIPE = TrainingRecipe(epochs=2, batch_size=4, accumulation=2, lr=0.01, save_steps=0)
SHORT = replace(RECIPE, epochs=1)
# In the middle of the second epoch.
STOPPED, RESUMED = Case(RECIPE, stop=2), Case(RECIPE, options={"existing": "resume"})
ALIKE = {
    "uneven": Case(RECIPE),
    "checkpointed": Case(SHORT, checkpointing=True),
    "bf16": Case(replace(SHORT, bf16=True)),
    "reusing": Case(RECIPE, positions="l2", reuse=True),
}
# In this order; a name that is there twice is a folder that is trained into twice.
BY_TWO = [
    *ALIKE.items(),
    ("from two to one", STOPPED),
    ("from one to two", RESUMED),
    ("like lengths", Case(replace(SHORT, group_by_length=True, accumulation=1))),
    ("uneven", Case(RECIPE)),
    ("uneven", RESUMED),
    ("from other settings", Case(replace(RECIPE, lr=0.02), options={"existing": "resume"})),
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, list[list[str]]]:
    """Where one process trained, and two, and what each of the two says went wrong."""
    one, two = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("two")
    assert not any(run_all(one, list(ALIKE.items())))
    for name in ("from one to two", "from other settings"):
        assert run(two / name, STOPPED).startswith("TrainingInterrupted")
    return one, two, on_ranks(run_all, two, BY_TWO)


def assert_alike(found: Path, expected: Path) -> None:
    torch.testing.assert_close(torch.tensor(steps(found)), torch.tensor(steps(expected)))
    torch.testing.assert_close(adapter(found), adapter(expected))


@pytest.mark.parametrize("name", ALIKE)
def test_losses_and_adapter_are_those_of_one_process(trained, name):
    one, two, said = trained
    assert_alike(two / name, one / name)
    assert [lines[: len(ALIKE)] for lines in said] == [[""] * len(ALIKE)] * 2


def test_one_process_writes_and_leaves_nothing_else(trained):
    one, two, _ = trained
    assert {path.name for path in (two / "uneven").iterdir()} == {
        path.name for path in (one / "uneven").iterdir()
    }


def test_a_signal_to_one_process_stops_all_at_the_same_step_and_one_process_goes_on(trained):
    one, two, said = trained
    out = two / "from two to one"
    assert [lines[4] for lines in said] == ["TrainingInterrupted: stopped after step 3"] * 2
    assert last_checkpoint(out / "checkpoints") == out / "checkpoints" / "checkpoint-3"
    assert run(out, RESUMED) == ""
    assert_alike(out, one / "uneven")


@pytest.mark.skipif(
    Version(version("transformers")) < Version("5.23"),
    reason="an older Trainer cannot load an optimizer's state onto a processor that has a number",
)
def test_two_processes_go_on_with_what_one_began(trained):
    one, two, said = trained
    assert [lines[5] for lines in said] == ["", ""]
    assert_alike(two / "from one to two", one / "uneven")


def test_batches_of_like_length_have_every_row(trained):
    _, two, said = trained
    assert [lines[6] for lines in said] == ["", ""]
    assert [step for step, *_ in steps(two / "like lengths")] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("number", "kind", "says"),
    [
        (7, "FileExistsError", "holds a finished adapter; expected an empty folder"),
        (8, "FileExistsError", "there is nothing to resume"),
        (9, "ValueError", "cannot resume"),
    ],
)
def test_what_the_first_process_refuses_ends_all(trained, number, kind, says):
    first, other = (lines[number] for lines in trained[2])
    assert first.startswith(f"{kind}: ")
    assert says in first
    assert other == f"OtherProcessError: process 0 failed: {first}"
