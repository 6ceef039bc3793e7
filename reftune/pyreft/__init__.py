"""pyreft's names on reftune: scripts, notebooks and checkpoints written for it run unchanged.

`import reftune.pyreft as pyreft`; or, for code that imports pyreft itself, `reftune pyreft SCRIPT`
and `install()`.
"""

from reftune.pyreft.bases import (
    ConstantSourceIntervention,
    DistributedRepresentationIntervention,
    SourcelessIntervention,
    TrainableIntervention,
)
from reftune.pyreft.config import ReftConfig
from reftune.pyreft.data.collators import ReftDataCollator, ReftRewardCollator
from reftune.pyreft.data.data_modules import (
    make_last_position_supervised_chat_data_module,
    make_last_position_supervised_data_module,
    make_multiple_position_supervised_data_module,
)
from reftune.pyreft.data.datasets import ReftDataset, ReftRawDataset
from reftune.pyreft.data.positions import get_intervention_locations, parse_positions
from reftune.pyreft.data.preference_datasets import ReftPreferenceDataset, ReftRewardDataset
from reftune.pyreft.data.supervised_datasets import (
    ReftClassificationDataset,
    ReftGenerationDataset,
    ReftSupervisedDataset,
)
from reftune.pyreft.interventions import (
    ConsreftIntervention,
    DireftIntervention,
    LobireftIntervention,
    LoreftIntervention,
    NodireftIntervention,
    NoreftIntervention,
)
from reftune.pyreft.model import ReftModel
from reftune.pyreft.scripts.installing import install, load_ipython_extension, uninstall
from reftune.pyreft.sublayers import LowRankRotateLayer
from reftune.pyreft.tasks import TaskType
from reftune.pyreft.trainers import (
    ReftTrainer,
    ReftTrainerForCausalLM,
    ReftTrainerForCausalLMDistributed,
    ReftTrainerForSequenceClassification,
)
from reftune.pyreft.wrapping import get_reft_model

__all__ = [
    "ConsreftIntervention",
    "ConstantSourceIntervention",
    "DireftIntervention",
    "DistributedRepresentationIntervention",
    "LobireftIntervention",
    "LoreftIntervention",
    "LowRankRotateLayer",
    "NodireftIntervention",
    "NoreftIntervention",
    "ReftClassificationDataset",
    "ReftConfig",
    "ReftDataCollator",
    "ReftDataset",
    "ReftGenerationDataset",
    "ReftModel",
    "ReftPreferenceDataset",
    "ReftRawDataset",
    "ReftRewardCollator",
    "ReftRewardDataset",
    "ReftSupervisedDataset",
    "ReftTrainer",
    "ReftTrainerForCausalLM",
    "ReftTrainerForCausalLMDistributed",
    "ReftTrainerForSequenceClassification",
    "SourcelessIntervention",
    "TaskType",
    "TrainableIntervention",
    "get_intervention_locations",
    "get_reft_model",
    "install",
    "load_ipython_extension",
    "make_last_position_supervised_chat_data_module",
    "make_last_position_supervised_data_module",
    "make_multiple_position_supervised_data_module",
    "parse_positions",
    "uninstall",
]
