"""pyreft's names on reftune: scripts, notebooks and checkpoints written for it run unchanged.

`import reftune.pyreft as pyreft`, or `reftune pyreft SCRIPT.py` for code that imports pyreft itself.
"""

from reftune.pyreft.bases import (
    ConstantSourceIntervention,
    DistributedRepresentationIntervention,
    SourcelessIntervention,
    TrainableIntervention,
)
from reftune.pyreft.config import ReftConfig
from reftune.pyreft.interventions import (
    ConsreftIntervention,
    DireftIntervention,
    LobireftIntervention,
    LoreftIntervention,
    NodireftIntervention,
    NoreftIntervention,
)
from reftune.pyreft.model import ReftModel, TaskType, get_reft_model
from reftune.pyreft.rotation import LowRankRotateLayer
