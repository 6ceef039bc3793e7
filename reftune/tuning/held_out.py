"""Holding out a share of the rows."""

from datasets import Dataset


def split_rows(rows: Dataset, share: float, seed: int) -> tuple[Dataset, Dataset]:
    """Split rows at random, the same way for the same seed.

    Args:
        rows: all of them.
        share: of the rows that are held out, between 0 and 1.
        seed: of the choice.

    Returns:
        The rows to train on, and those held out.

    Raises:
        ValueError: the share is none, or one of the parts would be empty.
    """
    if not 0 < share < 1:
        raise ValueError(f"held out {share}: expected a share between 0 and 1")
    count = round(share * len(rows))
    if not 0 < count < len(rows):
        raise ValueError(
            f"held out {share} of {len(rows)} rows is {count}; expected some of them, and not all"
        )
    order = rows.shuffle(seed=seed)
    return order.select(range(count, len(rows))), order.select(range(count))
