"""GLUE, in the form of its own files and in that of the hub (https://gluebenchmark.com/tasks).

Columns and classes are those of https://huggingface.co/datasets/nyu-mll/glue; the other names stand
in GLUE's own TSV files. The sets for testing are without labels, so scores are of the validation
set. Protocol and metrics are the paper's (appendix D, and examples/loreft of pyreft).
"""

from typing import Any

from reftune.tasks.classification import SPLITS, ClassificationTask

YES_NO = ("entailment", "not_entailment")


def _task(name: str, **more: Any) -> ClassificationTask:
    more.setdefault("text_pair", ())
    return ClassificationTask(
        name=name,
        source="GLUE",
        needs_pair=bool(more["text_pair"]),
        tests=(name,),
        halves=True,
        hub=f"nyu-mll/glue:{name}",
        **more,
    )


MNLI = _task(
    "mnli",
    text=("premise", "sentence1"),
    text_pair=("hypothesis", "sentence2"),
    label=("label", "gold_label"),
    names=("entailment", "neutral", "contradiction"),
    splits={**SPLITS, "validation": ("validation_matched", "dev_matched")},
)
SST2 = _task("sst2", text=("sentence",), names=("negative", "positive"))
MRPC = _task(
    "mrpc",
    text=("sentence1", "#1 String"),
    text_pair=("sentence2", "#2 String"),
    label=("label", "Quality"),
    names=("not_equivalent", "equivalent"),
)
COLA = _task(
    "cola",
    text=("sentence",),
    names=("unacceptable", "acceptable"),
    metric="matthews",
    header=("source", "label", "mark", "sentence"),
)
QNLI = _task("qnli", text=("question",), text_pair=("sentence",), names=YES_NO)
QQP = _task(
    "qqp",
    text=("question1",),
    text_pair=("question2",),
    label=("label", "is_duplicate"),
    names=("not_duplicate", "duplicate"),
)
RTE = _task("rte", text=("sentence1",), text_pair=("sentence2",), names=YES_NO)
STSB = _task(
    "stsb",
    text=("sentence1",),
    text_pair=("sentence2",),
    label=("label", "score"),
    metric="pearson",
)
GLUE = {task.name: task for task in (MNLI, SST2, MRPC, COLA, QNLI, QQP, RTE, STSB)}
