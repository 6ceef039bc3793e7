"""A module imports only modules of its own layer or of a lower one."""

import ast
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "reftune"
LAYERS = [
    {
        "orthonormal",
        "formulas",
        "interventions",
        "positions",
        "architectures",
        "assets",
        "emoji_text",
        "device",
        "dtypes",
        "divided",
        "number_fields",
        "hub",
    },
    {
        "config",
        "plan",
        "prompts",
        "anatomy",
        "sites",
        "generate_call",
        "groups",
        "planner",
        "building",
        "hooking",
        "precision",
        "rotations",
        "deferred_logits",
        "logits_tail",
        "adapter_losses",
    },
    {
        "layer",
        "labelled_loss",
        "reuse",
        "attached",
        "tuner",
        "data",
        "rendering",
        "encoding",
        "collation",
        "__init__",
    },
    {
        "processes",
        "even_batches",
        "training_log",
        "output_folder",
        "stopping",
        "recipe",
        "training",
        "jobs",
        "micro_batches",
        "job_training",
        "crew",
        "many",
        "answers_file",
        "shelf",
        "row_adapters",
        "prompt_batches",
        "cluster",
        "adapter_digest",
        "generation",
        "demo",
        "tasks",
        "experiments",
        "report",
        "tuning",
        "serving",
    },
    {"cli", "pyreft", "harness", "server", "vllm", "__main__"},
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}


def module_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    """Return the modules of the package that a file imports."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    parts = [name.split(".") for name in names]
    return {part[1] for part in parts if part[0] == "reftune" and len(part) > 1} & set(LEVEL)


def test_every_module_has_a_layer_and_imports_no_higher_one():
    for path in sorted(PACKAGE.rglob("*.py")):
        name = module_of(path)
        for other in imported(path):
            assert LEVEL[other] <= LEVEL[name], f"{path} imports {other}"


def test_the_mathematics_knows_nothing_of_the_engines():
    for name in ("orthonormal", "interventions", "positions", "plan"):
        text = (PACKAGE / f"{name}.py").read_text()
        assert "transformers" not in text
        assert "peft" not in text
