"""What is prompt in the rows of one forward pass, read from the inputs of the model.

In this order: what `prompt_mask` says; in `generate`, everything handed to it; with labels, the
tokens before the first one that is not -100 (of every document of a packed row); without, all real
tokens. Nothing is prompt in a forward pass that continues a cache.
"""

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from reftune.generate_call import GenerateCall
from reftune.plan import Decoding, Prompt, rank_of

Kind = Literal["causal", "decoder", "encoder"]
RECURRENT_CACHES = ("cache_params", "state", "mems")
CONTINUOUS_BATCHING = (
    "continuous batching does not tell where prompts end: expected generate(), or no active adapter"
)
# Collators that pack leave the first token of every document without a label, also in plain text.
PLAIN_TEXT = (
    "labels from the second token of a packed document on, as in plain text: expected -100 on "
    "the prompt, which cannot be told if it is one token"
)


class Inputs:
    """The inputs of one forward pass, as far as they tell where the prompt is.

    Args:
        inputs: the arguments of the model's forward by name.
        kind: `"causal"` if labels mark the completion; `"decoder"` if the model is a decoder beside
            an encoder, whose labels are shifted against its inputs; `"encoder"` if every real token
            is the prompt.

    Raises:
        ValueError: the inputs are those of continuous batching, which do not tell the prompts.
    """

    def __init__(self, inputs: Mapping[str, Any], kind: Kind):
        if inputs.get("write_index") is not None:
            raise ValueError(CONTINUOUS_BATCHING)
        self.kind = kind
        prefix = "decoder_" if kind == "decoder" else ""
        self.labels: Tensor | None = inputs.get("labels") if kind != "encoder" else None
        self._mask: Any = inputs.get(f"{prefix}attention_mask")
        self._position_ids = None if prefix else _text_positions(inputs.get("position_ids"))
        self._borders: Tensor | None = inputs.get("cu_seq_lens_q")
        cache = inputs.get("past_key_values")
        self.past: int | Tensor = 0 if cache is None else cache.get_seq_length()
        # The caches of recurrent models do not tell how many tokens they have seen.
        self.uncounted = any(inputs.get(name) is not None for name in RECURRENT_CACHES)
        self._keeps_cache = inputs.get("use_cache") is not False
        shown = (inputs.get(f"{prefix}input_ids"), inputs.get(f"{prefix}inputs_embeds"))
        self._shown = next((tensor for tensor in shown if tensor is not None), None)
        if self._shown is None and kind == "decoder":
            self._shown = self.labels  # the model makes its inputs from them

    @property
    def has_tokens(self) -> bool:
        return self._shown is not None

    @property
    def shown(self) -> Tensor:
        """Whatever has the shape `(batch, length, ...)` of the tokens of this forward pass."""
        assert self._shown is not None
        return self._shown

    @property
    def batch(self) -> int:
        return self.shown.shape[0]

    @property
    def length(self) -> int:
        return self.shown.shape[1]

    def real(self) -> Tensor:
        """Return `(batch, length)` bool, false at padding.

        Raises:
            ValueError: the attention mask is a prepared one, which does not tell padding.
        """
        if self._mask is None:
            return torch.ones(self.batch, self.length, dtype=torch.bool, device=self.shown.device)
        if not isinstance(self._mask, Tensor) or self._mask.dim() != 2:
            got = tuple(self._mask.shape) if isinstance(self._mask, Tensor) else type(self._mask)
            raise ValueError(f"attention_mask {got}: expected (batch, seq), which tells padding")
        if self._mask.shape[1] == self.length:
            return self._mask.bool()
        # It covers the tokens in the cache too, and may cover a static cache to its end.
        now = self.past + torch.arange(self.length, device=self._mask.device)
        return self._mask.index_select(1, now).bool()

    def document(self) -> Tensor | None:
        """Return `(batch, length)` int64 document numbers if a row may pack several."""
        if self._position_ids is not None:
            ids = self._position_ids.expand(self.batch, -1)
            real = self.real()
            column = torch.arange(self.length, device=ids.device)
            # The last real token before each one: padding, also inside a row, is no border.
            before = torch.where(real, column, 0).cummax(dim=1).values.roll(1, dims=1)
            restart = real & (ids <= ids.gather(1, before)) & (column > 0)
            number = restart.long().cumsum(dim=1)
        elif self._borders is not None:
            column = torch.arange(self.length, device=self.shown.device, dtype=self._borders.dtype)
            number = torch.searchsorted(self._borders[1:].contiguous(), column, right=True)[None]
        else:
            return None
        return number.expand(self.batch, -1).contiguous()

    def all_prompt(self) -> Prompt:
        """Every real token is prompt; none, if a cache that only the device knows holds some."""
        real = self.real()
        begins = torch.ones_like(real) if isinstance(self.past, int) else (self.past == 0)
        return Prompt(real & begins, real & ~begins, self.document(), 0, self.length)

    def decoding(self) -> Decoding:
        """Nothing is prompt: a cache is continued, and nobody counted its steps."""
        return Decoding(self.batch, self.length, None, self.shown.device)

    def with_prompt(self, prompt_mask: Tensor) -> Prompt:
        """What the caller says is prompt; other real tokens are the completion.

        Args:
            prompt_mask: `(batch, seq)`, true at prompt tokens, counted from the first token in the
                cache if there is one. It may reach beyond this forward pass, over a prompt that
                comes in chunks, or end before it, where all is completion.

        Raises:
            ValueError: the mask has another number of rows or dimensions.
        """
        if prompt_mask.dim() != 2 or len(prompt_mask) != self.batch:
            raise ValueError(
                f"prompt_mask {tuple(prompt_mask.shape)}: expected (batch, seq) with a batch of "
                f"{self.batch}"
            )
        past = int(self.past)  # of a static cache that is a synchronisation, paid by who asks
        beyond = past + self.length - prompt_mask.shape[1]
        tokens = torch.nn.functional.pad(prompt_mask.bool(), (0, max(0, beyond)))
        real = torch.ones_like(tokens)
        if isinstance(self._mask, Tensor) and self._mask.dim() == 2:
            real[:, : self._mask.shape[1]] = self._mask[:, : real.shape[1]].bool()
        document = self.document() if tokens.shape[1] == self.length else None
        return Prompt(tokens & real, real & ~tokens, document, past, self.length)

    def from_labels(self) -> Prompt:
        """The prompt ends where the labels begin, in every document of every row.

        Raises:
            ValueError: labels of another shape, with no prompt before them, or with a gap.
        """
        assert self.labels is not None
        if tuple(self.labels.shape) != (self.batch, self.length):
            raise ValueError(
                f"labels {tuple(self.labels.shape)}: expected {(self.batch, self.length)} as the "
                "inputs"
            )
        labelled = self.labels != -100
        if self.kind == "decoder":  # its input is one token behind the labels
            begun = torch.nn.functional.pad(labelled.cumsum(dim=1)[:, :-1] > 0, (1, 0))
            return Prompt(self.real() & ~begun, self.real() & begun, None, 0, self.length)
        real, document = self.real(), self.document()
        begun = rank_of(labelled, document)[0] >= 0
        _refuse_labels(labelled & real, begun, real, document)
        if document is not None and self._borders is not None:
            _refuse(labelled & (rank_of(real & ~begun, document)[1] == 1), PLAIN_TEXT)
        return Prompt(real & ~begun, real & begun, document, 0, self.length)

    def in_generation(self, generation: GenerateCall, counts: bool) -> Prompt | Decoding:
        """The prompt was fixed when `generate` was called; this is some part of it, or after it.

        Args:
            generation: the running call; its progress is noted there.
            counts: whether somebody wants to know the number of generated tokens.
        """
        past = generation.seen
        if isinstance(self.past, int) and not self.uncounted:
            past = self.past
        # A decoder may begin several times in one call: to detect a language, or per segment.
        begins = self.kind == "decoder" and past == 0 and self._keeps_cache
        if generation.tokens is None or begins:
            generation.tokens = torch.nn.functional.pad(self.real(), (past, 0), value=True)
        width = generation.tokens.shape[1]
        if past < width or counts:
            # A static cache answers with an int before it is filled, and with a tensor after. Not
            # at every step, because a compiled step is compiled again for every new int it meets.
            generation.seen = past + self.length
        if past >= width:
            return Decoding(self.batch, self.length, past - width, self.shown.device)
        copies, rest = divmod(self.batch, len(generation.tokens))
        if rest:
            raise ValueError(
                f"a forward pass of {self.batch} rows within generate() for "
                f"{len(generation.tokens)} prompts: expected a multiple of them"
            )
        tokens = generation.tokens.repeat_interleave(copies, dim=0)
        tokens = torch.nn.functional.pad(tokens, (0, max(0, past + self.length - width)))
        after = torch.arange(tokens.shape[1], device=tokens.device) >= width
        return Prompt(tokens, after.expand_as(tokens), None, past, self.length)


def _text_positions(position_ids: Tensor | None) -> Tensor | None:
    """Return `(1 or batch, length)`: of positions in several dimensions, those of the text.

    Models of pictures and text have three dimensions, in which a picture's tokens share positions,
    and may have those of the text before them as a fourth.
    """
    if position_ids is None or position_ids.dim() == 2:
        return position_ids
    return position_ids[0] if position_ids.shape[0] == 4 else None


def _refuse_labels(labelled: Tensor, begun: Tensor, real: Tensor, document: Tensor | None) -> None:
    first = real & (rank_of(real, document)[0] == 0)
    _refuse(
        labelled & first,
        "labels with no prompt token before them: expected -100 on the prompt, so that there is "
        "a token to edit",
    )
    gap = labelled[:, 1:] & ~labelled[:, :-1] & begun[:, :-1]
    if document is not None:
        gap = gap & (document[:, 1:] == document[:, :-1])
    _refuse(
        gap,
        "labels begin a second time in the same document: expected position_ids that restart "
        "where a packed row has a border, and one completion per conversation",
    )


def _refuse(bad: Tensor, message: str) -> None:
    """Raise if any of `(batch, seq)` is true; on a GPU by an asynchronous assertion, not a sync."""
    if bad.device.type == "meta":
        return
    if torch.compiler.is_compiling() or bad.device.type != "cpu":
        torch.ops.aten._assert_async.msg(~bad.any(), message)
    elif bad.any():
        rows = sorted(set(bad.nonzero()[:, 0].tolist()))
        raise ValueError(f"rows {rows}: {message}")


def refuse_padding(mask: Tensor | None) -> None:
    """Refuse padded inputs that are no tokens, such as sounds: the layers do not see what is real.

    Raises:
        ValueError: the mask has zeros.
    """
    if mask is not None:
        _refuse(mask == 0, "padding in inputs that are not tokens: expected rows of one length")
