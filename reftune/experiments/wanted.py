"""A model that is there already: one of ours, an adapter of PEFT, or a model as it is."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from peft import PeftConfig, PeftModel
from peft.utils import load_peft_weights
from safetensors import SafetensorError

from reftune.experiments.loading import Base, load_classifier, load_language_model
from reftune.experiments.model_files import files_digest
from reftune.experiments.trained_model import load_trained, read_facts
from reftune.tasks.labels import Labels


@dataclass(frozen=True)
class Wanted:
    """Which model is to be scored.

    Attributes:
        model: base model; `None` for the adapter's own.
        adapter: a folder of `reftune run`, or a folder or hub id of PEFT; `None` for none.
        dtype: of the base model; `None` for that with which the adapter was trained, where
            `reftune run` noted it, and else that of the model's files.
    """

    model: str | None
    adapter: str | None
    dtype: str | None = None

    def facts(self) -> dict[str, Any] | None:
        """Return what `reftune run` noted of the adapter, if it was written by it."""
        return read_facts(self.adapter) if self.adapter else None

    def its_dtype(self) -> str:
        """Return the dtype that the base model is loaded in."""
        return self.dtype or (self.facts() or {}).get("dtype", "auto")

    def told(self) -> dict[str, Any]:
        """Return what tells the model from others that share its base and its kind."""
        trained = "none"
        if self.adapter is not None and self.facts() is not None:
            trained = files_digest(Path(self.adapter), ("*.safetensors",))
        return {"dtype": self.its_dtype(), "trained": trained}

    def generator(self) -> str:
        """Return what to call the model in files for a judge, as `reftune run` does."""
        name, facts = Path(self.base_name()).name, self.facts()
        if self.adapter is None:
            return name
        return f"{name}-{facts['method'] if facts else Path(self.adapter).name}"

    def base_name(self) -> str:
        """Return the base model.

        Raises:
            ValueError: there is neither a model nor an adapter, or no such adapter.
        """
        if self.model is not None:
            return self.model
        if self.adapter is None:
            raise ValueError("expected --model, --adapter or both")
        facts = self.facts()
        own = facts["model"] if facts else _peft_config(self.adapter).base_model_name_or_path
        if not own:
            raise ValueError(f'adapter "{self.adapter}" does not name its base model; say --model')
        return own


def load_wanted_language_model(wanted: Wanted) -> Base:
    """Load a language model, with what is trained of it.

    Raises:
        ValueError: there is no such model or adapter, or they do not fit.
    """
    return _with_adapter(load_language_model(wanted.base_name(), wanted.its_dtype()), wanted)


def load_wanted_classifier(wanted: Wanted, labels: Labels) -> Base:
    """Load a classifier, with what is trained of it; its head must be trained.

    Raises:
        ValueError: there is no such model or adapter, or they do not fit.
    """
    trained = wanted.adapter is None
    base = load_classifier(wanted.base_name(), wanted.its_dtype(), labels, trained)
    return _with_adapter(base, wanted)


def _with_adapter(base: Base, wanted: Wanted) -> Base:
    if wanted.adapter is None:
        return base
    facts = wanted.facts()
    if facts is not None:
        return replace(base, model=load_trained(base.model, wanted.adapter, facts))
    _peft_config(wanted.adapter)
    _check_head(base.drawn, wanted.adapter)
    try:
        model = PeftModel.from_pretrained(base.model, wanted.adapter).eval()
    except (RuntimeError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:160]
        raise ValueError(
            f'adapter "{wanted.adapter}" cannot be put on the model ({reason})'
        ) from error
    return replace(base, model=model)


def _check_head(drawn: Collection[str], adapter: str) -> None:
    """Check that an adapter has the parameters of a head that the base model lacks.

    Raises:
        ValueError: it has not; the scores would be those of a head that was never trained.
    """
    if not drawn:
        return
    try:
        stored = load_peft_weights(adapter, device="cpu")
    except (OSError, ValueError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:160]
        raise ValueError(f'adapter "{adapter}" cannot be read ({reason})') from error
    lacking = [name for name in sorted(drawn) if not any(one.endswith(name) for one in stored)]
    if lacking:
        raise ValueError(
            f'adapter "{adapter}" has no {", ".join(lacking):.100}, and neither has the model; '
            "expected an adapter of task type SEQ_CLS, with a trained head"
        )


def _peft_config(adapter: str) -> PeftConfig:
    try:
        return PeftConfig.from_pretrained(adapter)
    except (TypeError, KeyError, ValueError) as error:
        reason = " ".join(str(error).split())[:160]
        raise ValueError(f'adapter "{adapter}": expected a folder of PEFT ({reason})') from error
