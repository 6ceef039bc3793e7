"""Splitting a validation set in two: rows to choose the best epoch by, and rows to score on."""

import torch

MANY, FEW = 5000, 1000


def halves(rows: int, seed: int) -> tuple[list[int], list[int]]:
    """Split a validation set of GLUE once per seed, as the published code does.

    Half of the rows choose the epoch, but no more than 1,000 of a set with more than 5,000 (QNLI,
    QQP, MNLI). The same rows as there, given the rows in the same order: `random_split` draws from
    torch's generator, into which only the seed has gone by then
    (https://github.com/stanfordnlp/pyreft/blob/dafd099/examples/loreft/train.py). The script behind
    the paper's numbers, `original_code/task_steer.py`, halved by numpy's generator.

    Returns:
        Indices of the rows that choose the epoch, and of those that are scored.

    Raises:
        ValueError: there are fewer than two rows.
    """
    if rows < 2:
        raise ValueError(f"a validation set of {rows} rows: expected 2 or more, to be halved")
    choosing = FEW if rows > MANY else rows // 2
    order = torch.randperm(rows, generator=torch.Generator().manual_seed(seed)).tolist()
    return order[rows - choosing :], order[: rows - choosing]
