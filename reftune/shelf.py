"""A base model whose rows name their adapters, which are attached when a row asks for them."""

from collections.abc import Mapping
from dataclasses import replace
from itertools import count
from pathlib import Path

from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from reftune.generation import GenerationSettings, Model, answer_batch
from reftune.groups import BASE
from reftune.prompt_batches import PromptBatch
from reftune.serving.slots import Slots

ROOM = 64


def attach(model: Model, folder: Path, name: str = "default") -> PeftModel:
    """Put a saved adapter on a model.

    Raises:
        ValueError: it was made for another model.
    """
    try:
        if isinstance(model, PeftModel):
            model.load_adapter(str(folder), adapter_name=name)
        else:
            model = PeftModel.from_pretrained(model, str(folder), adapter_name=name)
    except (RuntimeError, KeyError, ValueError) as error:
        reason = " ".join(str(error).split())[:160]
        raise ValueError(f'adapter "{folder}" does not fit the model ({reason})') from error
    model.eval()
    return model


class Shelf:
    """Answers batches in which every row has its own adapter.

    As many adapters are attached as there is room for; the one that was used least recently makes
    room.

    Args:
        model: the base model, without adapters.
        tokenizer: of the same model.
        folders: of the adapters, by the names that rows have for them.
        settings: how to answer.
        room: adapters that are attached at once; it is more if a batch may have more.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        folders: Mapping[str, Path],
        settings: GenerationSettings,
        room: int = ROOM,
    ) -> None:
        self.model: Model = model
        self.tokenizer, self.folders, self.settings = tokenizer, folders, settings
        self._slots = Slots(max(room, settings.batch_size))
        # By slot: the name that rows have for an adapter, and the one that the model has.
        self._attached: dict[int, tuple[str, str]] = {}
        self._numbers = count()

    def answer(self, batch: PromptBatch) -> list[str]:
        """Answer a batch whose `adapters` are names of folders, or `"__base__"`.

        Raises:
            ValueError: an adapter does not fit the model.
        """
        wanted = [name for name in dict.fromkeys(batch.adapters or ()) if name != BASE]
        slots: dict[str, int] = {}
        try:
            for name in wanted:
                slots[name] = self._take(name)
            taken = {name: self._put(name, slot) for name, slot in slots.items()}
        finally:
            for name in slots:
                self._slots.give(name)
        names = None  # of a model that has no adapters yet, and knows of no names
        if isinstance(self.model, PeftModel):
            names = [taken.get(name, BASE) for name in batch.adapters or ()]
        named = replace(batch, adapters=names)
        return answer_batch(self.model, self.tokenizer, named, self.settings)

    def _take(self, name: str) -> int:
        place = self._slots.take(name)
        assert place is not None  # there are as many slots as rows in a batch
        return place[0]

    def _put(self, name: str, slot: int) -> str:
        """Return the name under which an adapter is attached; attach it if it is not."""
        there = self._attached.get(slot)
        # A slot may still have another one's adapter although it is not new: if attaching failed.
        if there is not None and there[0] == name:
            return there[1]
        attached = f"row_adapter_{next(self._numbers)}"  # folders may have a dot in their name
        self.model = attach(self.model, self.folders[name], attached)
        if there is not None:
            self.model.set_adapter(attached)  # PEFT warns if an active one is deleted
            self.model.delete_adapter(there[1])
        self._attached[slot] = (name, attached)
        return attached
