"""Representation finetuning (ReFT) for language models, as a PEFT method.

Importing the package makes PEFT know `ReftConfig`, so that `peft.get_peft_model`,
`PeftModel.from_pretrained` and everything built on them work with it.
"""

from reftune.config import ReftConfig
from reftune.interventions import INTERVENTIONS
from reftune.tuner import register

__version__ = "0.1.0"
__all__ = ["INTERVENTIONS", "ReftConfig"]

register()
