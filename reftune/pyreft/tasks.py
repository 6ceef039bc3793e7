"""pyreft's names of tasks and of methods, which nothing depends on."""

from enum import StrEnum


class TaskType(StrEnum):
    """The kinds of tasks that pyreft names."""

    SEQ_CLS = "SEQ_CLS"
    CAUSAL_LM = "CAUSAL_LM"


class ReftType(StrEnum):
    """The kinds of edits that pyreft names."""

    LOREFT = "LOREFT"
    NLOREFT = "NOREFT"
