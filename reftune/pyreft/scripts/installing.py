"""Makes `import pyreft` mean `reftune.pyreft` in a process, and `import pyvene` what it has of it.

For code that cannot be edited. A pyreft that is installed as well is not touched, and not imported.
"""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from reftune.pyreft.pyvene import NOT_HERE
from reftune.pyreft.scripts.old_transformers import adapt_transformers

_OURS = "reftune.pyreft"
# What pyreft and pyvene keep in modules of other names, and where it is here.
_PARTS = {
    "pyreft.dataset": (
        "data.datasets",
        "data.supervised_datasets",
        "data.preference_datasets",
        "data.data_modules",
        "data.collators",
        "data.positions",
        "data.templates",
    ),
    "pyreft.interventions": ("interventions", "reft_intervention", "sublayers", "bases"),
    "pyreft.reft_model": ("model", "trained_parts"),
    "pyreft.reft_trainer": ("trainers", "data.collators"),
    "pyreft.utils": ("tasks", "wrapping", "model"),
    "pyvene": ("pyvene",),
    "pyvene.models": ("pyvene",),
    "pyvene.models.basic_utils": ("pyvene",),
    "pyvene.models.configuration_intervenable_model": ("pyvene",),
    "pyvene.models.constants": ("pyvene",),
    "pyvene.models.intervenable_base": ("pyvene",),
    "pyvene.models.intervenable_modelcard": ("pyvene",),
    "pyvene.models.intervention_utils": ("pyvene",),
    "pyvene.models.interventions": ("pyvene",),
    "pyvene.models.layers": ("pyvene",),
    "pyvene.models.modeling_utils": ("pyvene",),
}
# pyreft's own import makes these attributes of it.
_AT_ONCE = ("pyreft", "pyreft.config", *_PARTS)

_undo: ExitStack | None = None


def install() -> None:
    """Make `import pyreft` and `import pyvene` mean reftune's until `uninstall`.

    transformers takes the arguments then that it took when pyreft's scripts were written, and warns
    once of each. Doing it again does nothing.
    """
    global _undo
    if _undo is not None:
        return
    with ExitStack() as stack:
        stack.callback(_put_back, {name: sys.modules[name] for name in _loaded()})
        _forget_modules()
        finder = _Finder()
        sys.meta_path.insert(0, finder)
        stack.callback(sys.meta_path.remove, finder)
        for name in _AT_ONCE:
            import_module(name)
        adapt_transformers(stack)
        _undo = stack.pop_all()


def uninstall() -> None:
    """Take back what `install` did."""
    global _undo
    if _undo is not None:
        _undo.close()
        _undo = None


@contextmanager
def installed() -> Iterator[None]:
    """Do what `install` does within the block, if it is not done already."""
    if _undo is not None:
        yield
        return
    install()
    try:
        yield
    finally:
        uninstall()


def load_ipython_extension(ipython: Any) -> None:
    """Do what `install` does: `%load_ext reftune.pyreft` in a notebook."""
    install()


def _loaded() -> list[str]:
    return [name for name in sys.modules if name.partition(".")[0] in ("pyreft", "pyvene")]


def _forget_modules() -> None:
    for name in _loaded():
        del sys.modules[name]


def _put_back(modules: dict[str, ModuleType]) -> None:
    _forget_modules()
    sys.modules.update(modules)
    package = vars(import_module(_OURS))
    for name in _PARTS:
        top, _, part = name.partition(".")
        if top == "pyreft":
            package.pop(part, None)


class _Finder(MetaPathFinder, Loader):
    """Finds every module of pyreft and pyvene: one of ours by another name, or a view of ours."""

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        top = fullname.partition(".")[0]
        if top not in ("pyreft", "pyvene"):
            return None
        if fullname not in _PARTS and (top == "pyvene" or not _is_ours(fullname)):
            # No ModuleNotFoundError with a name: the import of a name from a package would go on,
            # and end with a message that says less.
            raise ModuleNotFoundError(_lacks(fullname))
        return ModuleSpec(fullname, self, is_package=top == "pyvene")

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        name = module.__name__
        if name in _PARTS:
            _fill(module)
        else:
            # Twice loaded, its classes would be two.
            sys.modules[name] = import_module(f"reftune.{name}")


def _is_ours(name: str) -> bool:
    return name.count(".") <= 1 and find_spec(f"reftune.{name}") is not None


def _fill(module: ModuleType) -> None:
    """Give a module the names of those of ours that stand for it."""
    sources = [import_module(f"{_OURS}.{part}") for part in _PARTS[module.__name__]]
    if not module.__name__.startswith("pyvene"):
        sources.append(import_module(_OURS))

    def find(name: str) -> Any:
        for source in sources:
            if not name.startswith("__") and name in vars(source):
                return vars(source)[name]
        if module.__name__.startswith("pyvene") and name in NOT_HERE:
            return _not_here(name)
        raise AttributeError(_lacks(f"{module.__name__}.{name}"), name=name, obj=module)

    public = {name for source in sources for name in vars(source) if not name.startswith("_")}
    vars(module).update(__getattr__=find, __all__=sorted(public), __doc__=__doc__)


def _not_here(name: str) -> type:
    """Return what stands for a name of pyvene that scripts import and seldom use."""

    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError(_lacks(f"pyvene.{name}"))

    return type(name, (), {"__new__": refuse})


def _lacks(name: str) -> str:
    top, _, part = name.partition(".")
    shown = f"{_OURS}.pyvene" if top == "pyvene" else _OURS
    has = getattr(import_module(shown), "__all__", ())
    return f"reftune stands in for {top} here, which has no {part}; it has {', '.join(has)}"
