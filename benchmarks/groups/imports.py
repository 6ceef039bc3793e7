"""Import times, each in a fresh process."""

import subprocess
from functools import partial

from benchmarks.crew import Crew
from benchmarks.interleaving import interleave
from benchmarks.plans import Plan
from benchmarks.process import Refused
from benchmarks.pythons import ROOT
from benchmarks.rows import Row, make_rows

STATEMENTS = {
    "transformers, peft": ("reftune", "import transformers, peft"),
    "transformers, peft, reftune": ("reftune", "import transformers, peft, reftune"),
    "transformers, pyreft": ("pyreft", "import transformers, pyreft"),
    "transformers, adapters": ("adapters", "import transformers, adapters"),
}
PROGRAM = "import time; started = time.perf_counter(); {}; print(time.perf_counter() - started)"


def measure_imports(crew: Crew, plan: Plan) -> list[Row]:
    """Time the statements in turn; the first round fills the file cache."""
    errors: dict[str, str] = {}
    jobs = {
        name: partial(_seconds, crew.pythons[environment], statement)
        for name, (environment, statement) in STATEMENTS.items()
        if environment in crew.pythons
    }
    samples = interleave(jobs, plan.imports, 3600.0, errors)
    return make_rows("import", "fresh process", samples, errors, {"": "transformers, peft"}, {})


def _seconds(python: str, statement: str, number: int) -> float:
    command = [python, "-c", PROGRAM.format(statement)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    if done.returncode != 0:
        raise Refused(done.stderr.strip().splitlines()[-1])
    return float(done.stdout.split()[-1])
