"""Generation, all layers f7+l7 edited: whole answers, the prompt alone, and decoding alone."""

from functools import partial

from benchmarks.crew import Crew, attempt
from benchmarks.interleaving import Samples, interleave
from benchmarks.plans import Plan
from benchmarks.rows import Row, make_rows
from benchmarks.settings import TIED
from benchmarks.shapes import SHAPES

METHODS = (
    "frozen",
    "reftune",
    "lora_qv",
    "lora_all",
    "frozen_pyreft",
    "pyreft",
    "frozen_adapters",
    "adapters_prefix",
    "adapters",
)
# Each against the frozen model in its own environment, whose `generate` is another.
REFERENCES = {
    "": "frozen",
    "pyreft": "frozen_pyreft",
    "adapters": "frozen_adapters",
    "adapters_prefix": "frozen_adapters",
}
CHECK_SEED = 1000
PAIR = ("frozen", "reftune")
PATIENCE = 2.5  # times the budget of a case


def measure_generation(crew: Crew, plan: Plan) -> list[Row]:
    """Time greedy answers of a fixed length; ours and pyreft's are compared first."""
    rows: list[Row] = []
    edits = TIED.described(SHAPES[plan.shape].num_hidden_layers)
    matrices = crew.edits("generation", plan.shape, edits)
    present = crew.keep(METHODS)
    for count, prompt in plan.generation:
        errors: dict[str, str] = {}
        details: dict[str, dict] = {}
        for method in present:
            build = partial(crew.build, method, plan.shape, edits, prompt, matrices)
            if attempt(errors, method, build) is not None:
                details[method] = {}
        _agreement(crew, count, prompt, plan.new, errors, details)
        given = {"rows": count, "prompt": prompt}
        case, timed = f"batch {count}, prompt {prompt}", {}
        for what, new in (("generate", plan.new), ("prefill", 1)):
            jobs = {
                method: partial(_answer, crew, method, {**given, "new": new})
                for method in details
                if method not in errors
            }
            known = set(errors)
            timed[what] = interleave(jobs, plan.rounds, plan.budget, errors)
            failed = {m: why for m, why in errors.items() if what == "generate" or m not in known}
            kept = details if what == "generate" else {}
            rows += make_rows(what, case, timed[what], failed, REFERENCES, kept)
        decoding = differences(timed["generate"], timed["prefill"])
        rows += make_rows("decode", case, decoding, {}, REFERENCES, {})
    return rows


def measure_decoding(crew: Crew, plan: Plan) -> list[Row]:
    """Time prompt and decoding of ours and of the frozen model alone, in many rounds.

    With all peers in a round there are few of them, and the noise of a few is more than what an
    adapter costs here.
    """
    rows: list[Row] = []
    edits = TIED.described(SHAPES[plan.shape].num_hidden_layers)
    present = crew.keep(PAIR)
    for count, prompt in plan.generation:
        errors: dict[str, str] = {}
        for method in present:
            attempt(errors, method, partial(crew.build, method, plan.shape, edits, prompt))
        given, case, timed = (
            {"rows": count, "prompt": prompt},
            f"batch {count}, prompt {prompt}",
            {},
        )
        for what, new in (("generate", plan.new), ("prefill", 1)):
            jobs = {
                method: partial(_answer, crew, method, {**given, "new": new})
                for method in present
                if method not in errors
            }
            timed[what] = interleave(jobs, plan.rounds, PATIENCE * plan.budget, errors)
        decoding = differences(timed["generate"], timed["prefill"])
        rows += make_rows("prefill pair", case, timed["prefill"], errors, {"": "frozen"}, {})
        rows += make_rows("decode pair", case, decoding, {}, {"": "frozen"}, {})
    return rows


def differences(whole: Samples, prefill: Samples) -> Samples:
    """Return the seconds of the tokens after the first, round by round."""
    return {
        method: {
            number: seconds - prefill[method][number]
            for number, seconds in values.items()
            if number in prefill[method]
        }
        for method, values in whole.items()
        if method in prefill
    }


def _answer(crew: Crew, method: str, given: dict[str, int], number: int) -> float:
    return crew.worker(method).ask("answer", **given, seed=number)


def _agreement(
    crew: Crew, rows: int, prompt: int, new: int, errors: dict[str, str], details: dict
) -> None:
    """Note how many of pyreft's tokens are reftune's too, with the same R, W and b."""
    given = {"rows": rows, "prompt": prompt, "new": new, "seed": CHECK_SEED}
    answers = {}
    for method in ("reftune", "pyreft"):
        if method in details and method not in errors:
            work = partial(crew.worker(method).ask, "tokens", **given)
            answers[method] = attempt(errors, method, work)
    if answers.get("reftune") and answers.get("pyreft"):
        pairs = [
            ours == theirs
            for row, other in zip(answers["reftune"], answers["pyreft"], strict=True)
            for ours, theirs in zip(row, other, strict=True)
        ]
        details["pyreft"]["same tokens"] = sum(pairs) / len(pairs)
