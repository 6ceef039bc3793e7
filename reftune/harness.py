"""The model `reft` of lm-evaluation-harness, which knows where the context of a request ends.

The harness scores an answer in one row with its context, and its model `hf` does not tell the model
where the one ends and the other begins: all of it would be the prompt. Here it is told by
`prompt_mask`, so that an adapter edits the tokens that it edits in training. Importing the module
makes the harness know the model; `python -m reftune.harness` is `lm_eval` with it.
"""

import logging
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm

from reftune.attached import planners_of

try:
    from lm_eval.__main__ import cli_evaluate
    from lm_eval.api.registry import get_model, register_model
except ImportError as error:
    raise ImportError(
        "reftune.harness needs lm-evaluation-harness: pip install 'reftune[eval]'"
    ) from error

LOG = logging.getLogger(__name__)
HarnessModel: Any = get_model("hf")
Request = tuple[Any, list[int], list[int]]  # texts; tokens of the context, of the continuation


@register_model("reft")
class ReftLM(HarnessModel):
    """The harness's model for transformers, with the prompt known to a ReFT adapter.

    Args:
        pretrained: a model with an adapter, or a folder or hub id, and then `peft` names that of
            the adapter.
        kwargs: as for `lm_eval.models.huggingface.HFLM`.

    Raises:
        ValueError: there is no ReFT adapter, or the model is not a decoder alone.
    """

    def __init__(self, pretrained: Any, **kwargs: Any) -> None:
        super().__init__(pretrained, **kwargs)
        if [planner.kind for planner in planners_of(self.model)] != ["causal"]:
            raise ValueError(
                f'model "reft" with a {type(self.model).__name__} of the type '
                f'"{self.config.model_type}": expected a ReFT adapter (peft=FOLDER) on a decoder; '
                'other models are scored by the model "hf"'
            )

    def loglikelihood_rolling(self, requests: Any, disable_tqdm: bool = False) -> list[float]:
        """Return log-likelihoods of whole texts.

        Raises:
            ValueError: an adapter does not edit every token, and a text has no prompt that would
                say which it edits.
        """
        (planner,) = planners_of(self.model)
        for name in planner.planned():
            where = planner.where[name]
            if not (where.positions.everywhere and where.decode == "all"):
                raise ValueError(
                    f'adapter "{name}": a task of whole texts has no prompt, so that only '
                    'positions="all" with decode="all" has a meaning; expected a task of contexts '
                    "and continuations"
                )
        return super().loglikelihood_rolling(requests, disable_tqdm)

    def _loglikelihood_tokens(
        self,
        requests: list[Request],
        disable_tqdm: bool = False,
        override_bs: int | None = None,
    ) -> list[tuple[float, bool]]:
        """Return the log-likelihood of every continuation, and whether it is the likeliest.

        Requests that differ in their last token alone share a row, if their contexts are the same.
        """
        sharing: dict[tuple[tuple[int, ...], tuple[int, ...]], list[int]] = defaultdict(list)
        for number, (_, context, continuation) in enumerate(requests):
            if not 0 < len(continuation) <= self.max_length or not context:
                raise ValueError(
                    f"request {number} with a context of {len(context)} and a continuation of "
                    f"{len(continuation)} tokens: expected 1 or more, and a continuation of "
                    f"{self.max_length} at most"
                )
            sharing[tuple(context), tuple(continuation[:-1])].append(number)
        # The longest first, so that what does not fit into memory fails at once.
        groups = sorted(sharing.values(), key=lambda group: -_length(requests[group[0]]))
        scores: list[tuple[float, bool]] = [(0.0, False)] * len(requests)
        progress = tqdm(total=len(requests), disable=disable_tqdm, desc="Scoring continuations")
        for batch in self._batches(groups, requests, override_bs):
            rows = [requests[group[0]] for group in batch]
            for group, logs in zip(batch, self._log_probabilities(rows), strict=True):
                for number in group:
                    texts, _, continuation = requests[number]
                    scores[number] = _score(logs, continuation)
                    if texts is not None:
                        self.cache_hook.add_partial("loglikelihood", texts, scores[number])
                    progress.update()
        progress.close()
        return scores

    def _batches(
        self, groups: list[list[int]], requests: Sequence[Request], override: int | None
    ) -> Iterator[list[list[int]]]:
        """Cut groups into batches; one of each stands for its row."""
        rows, begin = [requests[group[0]] for group in groups], 0
        while begin < len(groups):
            size = self.batch_size
            if size == "auto":
                size = override or self._batch_scheduler(begin, rows)
            yield groups[begin : begin + int(size)]
            begin += int(size)

    def _log_probabilities(self, requests: Sequence[Request]) -> list[Tensor]:
        """Return `(continuation, vocabulary)` log-probabilities of every request."""
        rows, lengths = [], []
        for _, context, continuation in requests:
            beyond = len(context) + len(continuation) - self.max_length - 1
            if beyond > 0:
                LOG.warning(
                    "%d tokens of context and %d of continuation: expected %d together at most; "
                    "the first %d are left out",
                    *(len(context), len(continuation), self.max_length + 1, beyond),
                )
            row = (context + continuation)[-(self.max_length + 1) : -1]
            rows.append(torch.tensor(row, device=self.device))
            lengths.append((len(row) - len(continuation) + 1, len(row)))
        ids = pad_sequence(rows, batch_first=True)
        column = torch.arange(ids.shape[1], device=self.device)
        ends = torch.tensor(lengths, device=self.device)[:, :, None]
        dtype = self.mixed_precision_dtype
        with torch.no_grad(), torch.autocast(self.device.type, dtype, enabled=dtype is not None):
            logits = self.model(
                input_ids=ids,
                attention_mask=(column < ends[:, 1]).long(),
                prompt_mask=column < ends[:, 0],
                use_cache=False,
            ).logits
        return [
            row[prompt - 1 : end].log_softmax(-1, dtype=self.softmax_dtype)
            for row, (prompt, end) in zip(logits, lengths, strict=True)
        ]


def _length(request: Request) -> int:
    return len(request[1]) + len(request[2])


def _score(logs: Tensor, continuation: list[int]) -> tuple[float, bool]:
    tokens = torch.tensor(continuation, device=logs.device)
    greedy = bool((logs.argmax(dim=-1) == tokens).all())
    return float(logs.gather(1, tokens[:, None]).sum()), greedy


if __name__ == "__main__":
    cli_evaluate()
