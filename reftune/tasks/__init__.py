"""The tasks that ReFT was published with: texts, answers and scores exactly as in the paper.

Prompts and scoring are those of the paper's code, which has its data from LLM-Adapters (commonsense
and arithmetic) and the prompt of GSM8K with rationales from LoftQ:
https://github.com/stanfordnlp/pyreft/tree/dafd099/examples/loreft
"""

from reftune.tasks.classification import CLASSIFICATION, ClassificationTask
from reftune.tasks.glue import GLUE
from reftune.tasks.language import LANGUAGE
from reftune.tasks.task import Judged, Score, Task

TASKS: dict[str, Task | ClassificationTask] = {
    **LANGUAGE,
    **GLUE,
    CLASSIFICATION.name: CLASSIFICATION,
}

__all__ = ["LANGUAGE", "TASKS", "ClassificationTask", "Judged", "Score", "Task"]
