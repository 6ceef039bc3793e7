"""What is done to the logits of some tokens is done again to those of all."""

import pytest
import torch

from reftune.logits_tail import Tail


def masked(logits):
    logits[:, :, torch.tensor([1, 3])] = torch.finfo(logits.dtype).min
    return logits


def scaled_in_place(logits):
    logits.mul_(0.5)
    return logits + 1


@pytest.mark.parametrize(
    "change",
    [
        lambda logits: logits,
        lambda logits: logits.float().contiguous(),  # gives back what it was given
        lambda logits: logits.half().float(),
        lambda logits: torch.tanh(logits / 3) * 3,
        lambda logits: logits[..., :4] * logits.size(1) / 5,
        lambda logits: torch.where(logits > 0, logits, logits.amax(-1, keepdim=True)),
        masked,
        scaled_in_place,
    ],
)
def test_a_tail_is_repeated(change):
    some, every = torch.randn(1, 5, 6), torch.randn(2, 4, 6)
    head = some.clone()
    tail = Tail()
    tail.begin(head)
    changed = change(head)
    tail.end()
    again = tail.replay(changed)(every.clone())
    torch.testing.assert_close(changed, change(some.clone()), atol=0, rtol=0)
    if changed.shape[-1] == 6:
        torch.testing.assert_close(again, change(every.clone()), atol=0, rtol=0)
    else:  # a number that is read is read once: of the tokens it was noted on
        torch.testing.assert_close(again, every[..., :4])


def test_nothing_is_noted_after_the_end():
    head = torch.randn(1, 2, 3)
    tail = Tail()
    tail.begin(head)
    doubled = head * 2
    tail.end()
    tail.end()
    _ = doubled + 1
    assert torch.equal(tail.replay(doubled)(head), doubled)
