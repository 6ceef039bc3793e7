"""`import pyreft` and `import pyvene` mean ours, and only while they are asked to."""

import sys
from typing import Any

import pytest
import torch
import transformers
from transformers import TrainingArguments

import reftune.pyreft
from reftune.pyreft import interventions, model, trainers
from reftune.pyreft.scripts.installing import install, installed, load_ipython_extension, uninstall


@pytest.fixture(autouse=True)
def _uninstalled() -> Any:
    yield
    uninstall()


def test_pyreft_means_ours_by_every_one_of_its_module_names() -> None:
    with installed():
        import pyreft
        import pyreft.reft_model
        import pyreft.utils
        from pyreft import dataset
        from pyreft.config import ReftConfig
        from pyreft.dataset import IGNORE_INDEX, ReftDataset, get_intervention_locations
        from pyreft.interventions import LoreftIntervention, SourcelessIntervention
        from pyreft.reft_trainer import ReftTrainer, make_data_collator, make_dataloader

        assert pyreft is reftune.pyreft
        assert pyreft.LoreftIntervention is LoreftIntervention is interventions.LoreftIntervention
        assert SourcelessIntervention is reftune.pyreft.SourcelessIntervention
        assert pyreft.ReftConfig is ReftConfig
        assert pyreft.reft_trainer.ReftTrainer is ReftTrainer is trainers.ReftTrainer
        assert pyreft.utils.get_reft_model is reftune.pyreft.get_reft_model
        assert pyreft.reft_model.count_parameters(torch.nn.Linear(2, 3)) == 9
        assert dataset.ReftDataset is ReftDataset
        assert IGNORE_INDEX == -100
        assert callable(make_dataloader)
        assert callable(make_data_collator)
        assert get_intervention_locations.__module__.startswith("reftune.pyreft")


def test_a_module_of_ours_is_not_loaded_a_second_time_under_pyrefts_name() -> None:
    with installed():
        import pyreft.locations
        import pyreft.model

        assert pyreft.model is model
        assert sys.modules["pyreft.locations"] is sys.modules["reftune.pyreft.locations"]


def test_star_imports_bring_the_public_names() -> None:
    with installed():
        names: dict[str, Any] = {}
        exec("from pyreft.dataset import *\nfrom pyvene import *", names)
        assert names["ReftDataset"].__module__.startswith("reftune.pyreft")
        assert names["SourcelessIntervention"] is reftune.pyreft.SourcelessIntervention


def test_pyvene_means_what_we_have_of_it() -> None:
    with installed():
        import pyvene as pv
        from pyvene.models.intervenable_base import IntervenableModel
        from pyvene.models.interventions import TrainableIntervention

        assert IntervenableModel is model.ReftModel
        assert TrainableIntervention is pv.TrainableIntervention
        assert pv.models.constants.CONST_OUTPUT_HOOK == pv.CONST_OUTPUT_HOOK
        assert not hasattr(pv, "CausalModel")


@pytest.mark.parametrize(
    "line",
    [
        "from pyvene import CausalModel",
        "import pyvene; pyvene.CausalModel",
        "from pyvene.data_generators.causal_model import CausalModel",
        "from pyvene.models.interventions import CausalModel",
    ],
)
def test_what_we_lack_of_pyvene_is_an_error_that_names_what_we_have(line: str) -> None:
    with (
        installed(),
        pytest.raises((ImportError, AttributeError), match=r"reftune stands in for pyvene.*Loc"),
    ):
        exec(line, {})


def test_what_is_no_part_of_pyreft_is_an_import_error() -> None:
    with installed():
        with pytest.raises(ModuleNotFoundError, match="reftune stands in for pyreft"):
            exec("import pyreft.nothing", {})
        with pytest.raises(ImportError, match="Nothing"):
            exec("from pyreft import Nothing", {})


def test_an_installed_pyreft_is_out_of_sight_and_comes_back(tmp_path, monkeypatch) -> None:
    package = tmp_path / "pyreft"
    package.mkdir()
    (package / "__init__.py").write_text("mark = 'real'")
    (package / "extra.py").write_text("mark = 'real'")
    monkeypatch.syspath_prepend(tmp_path)
    import pyreft.extra

    before = pyreft
    with installed():
        exec("import pyreft; assert not hasattr(pyreft, 'mark')", {})
        with pytest.raises(ModuleNotFoundError):
            exec("import pyreft.extra", {})
    exec("import pyreft.extra; assert pyreft.extra.mark == 'real'", {})
    assert sys.modules["pyreft"] is before
    for name in ("pyreft", "pyreft.extra"):
        del sys.modules[name]


def test_installing_twice_is_installing_once_and_uninstalling_leaves_nothing() -> None:
    path, finders = list(sys.path), list(sys.meta_path)
    before = {kind: dict(vars(kind)) for kind in (TrainingArguments, transformers.Trainer)}
    names, ours = set(vars(transformers)), set(vars(reftune.pyreft))
    load_ipython_extension(None)
    install()
    assert len(sys.meta_path) == len(finders) + 1
    uninstall()
    uninstall()
    assert (sys.path, sys.meta_path) == (path, finders)
    assert {kind: dict(vars(kind)) for kind in before} == before
    assert set(vars(transformers)) == names
    assert set(vars(reftune.pyreft)) == ours
    assert not {"pyreft", "pyvene"} & {name.partition(".")[0] for name in sys.modules}


def test_an_import_alone_changes_nothing() -> None:
    assert "pyreft" not in sys.modules
    assert not hasattr(transformers, "AdamW")
    with pytest.raises(TypeError, match="evaluation_strategy"):
        TrainingArguments("out", evaluation_strategy="no")
