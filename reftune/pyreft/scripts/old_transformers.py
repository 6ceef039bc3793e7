"""Lets transformers 5 be called as transformers 4 was, for code that cannot be edited.

Only `reftune.pyreft.scripts.installing` does this, never an import. It is done in place, because
scripts derive classes of their own from those of transformers.
"""

import functools
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import fields, make_dataclass
from typing import Any

import transformers
from transformers import optimization
from transformers import trainer as transformers_trainer
from transformers.trainer_callback import CallbackHandler

from reftune.pyreft.model import ReftModel
from reftune.pyreft.scripts.moved_arguments import (
    TRAINING_ARGUMENTS,
    AdamW,
    forget,
    settle_loading,
    settle_tokenizer,
    settle_training_arguments,
    tell,
)
from reftune.pyreft.training_steps import accept_less

_NOTHING = object()


def adapt_transformers(undo: ExitStack) -> None:
    """Make transformers take the old arguments and names.

    Args:
        undo: closing it makes transformers what it was.
    """
    undo.callback(forget)
    _adapt_training_arguments(undo)
    _adapt_trainer(undo)
    _adapt_loading(undo)
    _adapt_tokenizers(undo)
    for module in (transformers, optimization):
        if not hasattr(module, "AdamW"):
            _put(undo, module, "AdamW", AdamW)


def _put(undo: ExitStack, owner: Any, name: str, value: Any) -> None:
    """Set an attribute of a class or a module until `undo` is closed."""
    before = vars(owner).get(name, _NOTHING)
    setattr(owner, name, value)
    if before is _NOTHING:
        undo.callback(delattr, owner, name)
    else:
        undo.callback(setattr, owner, name, before)


def _adapt_training_arguments(undo: ExitStack) -> None:
    """Give `TrainingArguments` its old fields again.

    As fields, they are also arguments of the data classes that scripts derive from it, and options
    of the command lines that `HfArgumentParser` makes of these.
    """
    base: Any = transformers.TrainingArguments
    known = {field.name for field in fields(base)}
    missing = {name: row for name, row in TRAINING_ARGUMENTS.items() if name not in known}
    old: Any = make_dataclass("Old", [(name, row.kind, None) for name, row in missing.items()])
    for name, row in missing.items():
        _put(undo, base, name, None)
        base.__annotations__[name] = row.kind
        undo.callback(base.__annotations__.pop, name, None)
    for kind in _with_subclasses(base):
        own = vars(kind).get("__dataclass_fields__", {})
        for field in fields(old):
            if field.name not in own:
                own[field.name] = field
                undo.callback(own.pop, field.name, None)
        if "__init__" in vars(kind):
            _put(undo, kind, "__init__", _taking(kind.__init__, missing))

    checked = base.__post_init__

    @functools.wraps(checked)
    def check(self: Any, *args: Any, **kwargs: Any) -> None:
        settle_training_arguments(self)
        checked(self, *args, **kwargs)

    _put(undo, base, "__post_init__", check)


def _with_subclasses(kind: type) -> Iterator[type]:
    yield kind
    for derived in kind.__subclasses__():
        yield from _with_subclasses(derived)


def _taking(made: Callable, names: Any) -> Callable:
    """Return an `__init__` that sets these arguments itself."""

    @functools.wraps(made)
    def make(self: Any, *args: Any, **kwargs: Any) -> None:
        for name in names:
            if name in kwargs:
                setattr(self, name, kwargs.pop(name))
        made(self, *args, **kwargs)

    return make


def _adapt_callbacks(undo: ExitStack) -> None:
    handler: Any = CallbackHandler
    called = handler.call_event

    @functools.wraps(called)
    def call_event(self: Any, *args: Any, **kwargs: Any) -> Any:
        return called(self, *args, **{"tokenizer": self.processing_class, **kwargs})

    _put(undo, handler, "call_event", call_event)


def _adapt_trainer(undo: ExitStack) -> None:
    """Let `Trainer`, and the classes that scripts derive from it, train a `ReftModel`."""
    _adapt_callbacks(undo)
    trainer: Any = transformers.Trainer
    module: Any = transformers_trainer
    made, aligned = trainer.__init__, module.align_special_tokens

    @functools.wraps(made)
    def make(self: Any, *args: Any, **kwargs: Any) -> None:
        settle_tokenizer(kwargs)
        options = kwargs.get("args", args[1] if len(args) > 1 else None)
        if options is not None:
            settle_training_arguments(options)  # those that were assigned later
        made(self, *args, **kwargs)

    def align(model: Any, processing_class: Any) -> None:
        # It would write into the config of the edits.
        if not isinstance(model, ReftModel):
            aligned(model, processing_class)

    _put(undo, trainer, "__init__", make)
    _put(undo, trainer, "__init_subclass__", classmethod(accept_less))
    _put(undo, module, "align_special_tokens", align)
    if not hasattr(trainer, "tokenizer"):
        old = property(
            lambda self: self.processing_class,
            lambda self, tokenizer: setattr(self, "processing_class", tokenizer),
        )
        _put(undo, trainer, "tokenizer", old)


def _adapt_loading(undo: ExitStack) -> None:
    """Adapt `from_pretrained` of models, configs and tokenizers, and of their `Auto` classes."""
    # Every Auto class of models has a copy of the method of their base, which has no public name.
    shared: Any = transformers.AutoModel.__base__
    for kind in _with_subclasses(shared):
        _adapt_from_pretrained(undo, kind, is_model=True)
    _adapt_from_pretrained(undo, transformers.PreTrainedModel, is_model=True)
    others = ("PreTrainedConfig", "AutoConfig", "PreTrainedTokenizerBase", "AutoTokenizer")
    for name in others:
        _adapt_from_pretrained(undo, getattr(transformers, name), is_model=False)


def _adapt_from_pretrained(undo: ExitStack, kind: type, is_model: bool) -> None:
    if "from_pretrained" not in vars(kind):
        return
    loaded = vars(kind)["from_pretrained"].__func__

    @functools.wraps(loaded)
    def load(cls: type, *args: Any, **kwargs: Any) -> Any:
        settle_loading(kwargs, is_model)
        return loaded(cls, *args, **kwargs)

    _put(undo, kind, "from_pretrained", classmethod(load))


def _adapt_tokenizers(undo: ExitStack) -> None:
    tokenizer: Any = transformers.PreTrainedTokenizerBase
    applied = tokenizer.apply_chat_template

    @functools.wraps(applied)
    def apply_chat_template(self: Any, *args: Any, **kwargs: Any) -> Any:
        if kwargs.get("tokenize", True) and "return_dict" not in kwargs:
            tell(
                "tokenizer.apply_chat_template",
                "it returns ids here, as in transformers 4; transformers 5 does so where "
                "return_dict=False",
            )
            kwargs["return_dict"] = False
        return applied(self, *args, **kwargs)

    _put(undo, tokenizer, "apply_chat_template", apply_chat_template)
    for name in ("encode_plus", "batch_encode_plus"):
        if not hasattr(tokenizer, name):
            _put(undo, tokenizer, name, _call_as(name))


def _call_as(name: str) -> Callable:
    def encode(self: Any, *args: Any, **kwargs: Any) -> Any:
        tell(f"tokenizer.{name}()", "transformers 5 has tokenizer() alone")
        return self(*args, **kwargs)

    return encode
