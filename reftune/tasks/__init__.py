"""The tasks that ReFT was published with: prompts, answers and scores exactly as in the paper.

Prompts and scoring are those of the paper's code, which took them from LLM-Adapters (commonsense
and arithmetic) and LoftQ (GSM8K with rationales):
https://github.com/stanfordnlp/pyreft/tree/dafd099/examples/loreft
"""

from reftune.tasks.language import TASKS
from reftune.tasks.task import Judged, Score, Task

__all__ = ["TASKS", "Judged", "Score", "Task"]
