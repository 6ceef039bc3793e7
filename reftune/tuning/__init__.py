"""Finding layers, positions, rank and training settings for given data, by trying many."""

from reftune.tuning.plan import TuningPlan
from reftune.tuning.report import TuningResult
from reftune.tuning.search import tune

__all__ = ["TuningPlan", "TuningResult", "tune"]
