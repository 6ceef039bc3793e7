"""Import every module of the package installed in a folder, as a user without the extras would."""

import importlib
import importlib.util
import pkgutil
import sys

import reftune

if not str(reftune.__file__).startswith(sys.argv[1]):
    raise SystemExit(f"reftune comes from {reftune.__file__}, not from {sys.argv[1]}")
for extra in ("matplotlib", "pytest", "trl", "lm_eval", "optuna", "sqlalchemy", "fastapi", "vllm"):
    if importlib.util.find_spec(extra):
        raise SystemExit(f"{extra} is installed, so this environment proves nothing")

BUILD_ON_MORE = (
    "reftune.harness",
    "reftune.server.",
    *(f"reftune.vllm.{name}" for name in ("client", "plugin", "probe", "resolver", "worker")),
)
names = [module.name for module in pkgutil.walk_packages(reftune.__path__, "reftune.")]
for name in names:
    # A plug-in, and what needs an extra: what they build upon is not there.
    if not name.endswith("__main__") and not name.startswith(BUILD_ON_MORE):
        importlib.import_module(name)
if not names:
    raise SystemExit("no module found")
print(f"{len(names)} modules imported")
