"""What the real pyreft ran and ours must repeat: plain data, which needs neither of the two.

`make_golden.py` completes it (token ids, the locations that pyreft computes) and writes it, with
what came out, to `cases.json` and the tensors beside it.
"""

KINDS = ("Loreft", "Noreft", "Nodireft", "Direft", "Consreft", "Lobireft")
FREE = ("Noreft", "Nodireft")  # whose second matrix is a torch.nn.Linear that may have a bias
WITH_ACTIVATION = ("Loreft", "Noreft", "Nodireft", "Direft")


def edit(kind: str, layer: int | None, rank: int = 4, component="block_output", width=16, **more):
    """Return one representation; `layer` is left out where the component is a path."""
    if kind in FREE:
        more = {"add_bias": False, **more}
    arguments = {"embed_dim": width, "low_rank_dimension": rank, "dtype": "float32", **more}
    where = {"component": component} if layer is None else {"layer": layer, "component": component}
    return {**where, "low_rank_dimension": rank, "kind": f"{kind}Intervention"} | {
        "arguments": arguments
    }


def case(name, representations, *, model="llama", inputs="right", locations="last", **call) -> dict:
    """Return one case.

    Args:
        locations: `unit_locations`; or arguments of `get_intervention_locations`; or "last", the
            last prompt token.
        call: more arguments of the call.
    """
    if locations == "last":
        locations = {"positions": "l1"}
    named = {"name": name, "model": model, "inputs": inputs, "representations": representations}
    return {**named, "unit_locations": locations, "call": call}


def columns(*places: list[list[int]]) -> dict:
    """Return `unit_locations` from columns of the batch: for every edit, for every row, a list."""
    return {"sources->base": [None, list(places)]}


def layers(kind: str, *indices: int, **more) -> list[dict]:
    return [edit(kind, index, **more) for index in indices]


def component_cases(model: str, widths: dict[str, int]) -> list[dict]:
    return [
        case(
            f"{model}_{component}",
            [edit("Loreft", 1, 2, component, width)],
            model=model,
            locations={"positions": "f1+l1", "share_weights": True},
        )
        for component, width in widths.items()
    ]


def path_cases(model: str, *paths: str, **more) -> list[dict]:
    return [
        case(f"path_{path}", [edit("Loreft", None, component=path)], model=model, **more)
        for path in paths
    ]


COMPONENTS = ("block_output", "block_input", "attention_output", "mlp_output", "attention_input")
COMPONENTS = (*COMPONENTS, "mlp_input", "attention_value_output", "query_output")
WIDTHS = dict.fromkeys(COMPONENTS, 16)
TIED = {"share_weights": True}
FORWARD = [
    *[case(f"{kind}_rank1", layers(kind, 2, rank=1)) for kind in KINDS],
    *[case(f"{kind}_layers", layers(kind, 0, 1, 3)) for kind in KINDS],
    *[case(f"{kind}_every_token", layers(kind, 1), locations=None) for kind in KINDS],
    *[
        case(f"{kind}_relu", layers(kind, 2, act_fn="relu", dropout=0.0))
        for kind in WITH_ACTIVATION
    ],
    *[case(f"{kind}_bias", layers(kind, 2, add_bias=True)) for kind in FREE],
    case("three_kinds", [edit("Loreft", 0), edit("Noreft", 2), edit("Lobireft", 3, 1)]),
    case("one_dict", edit("Loreft", 2)),
    case("tied", layers("Loreft", 1, 3), inputs="spare", locations={"positions": "f2+l1", **TIED}),
    case("untied", layers("Loreft", 1, 3, 1, 3), inputs="spare", locations={"positions": "f2+l1"}),
    case("untied_by_layer", layers("Noreft", 1, 1, 3, 3), locations={"positions": "f1+l1"}),
    case(
        "columns",
        layers("Loreft", 1, 2),
        locations=columns([[0, 3], [1, 2], [4, 0]], [[5, 1], [0, 3], [2, 1]]),
    ),
    case(
        "left",
        layers("Loreft", 1, 3),
        inputs="left",
        locations=columns([[0, 3], [2, 4], [1, 3]], [[3, 2], [4, 5], [3, 5]]),
    ),
    *[
        case(f"short_{positions}", layers("Loreft", 1), inputs="spare_single", locations=places)
        for positions in ("f4", "l3", "f3+l3", "f1+l4")
        if (places := {"positions": positions, **TIED})
    ],
    case("short_untied", layers("Loreft", 1, 1), inputs="spare", locations={"positions": "f3+l3"}),
    case("short_uneven", layers("Direft", 1, 1), inputs="spare", locations={"positions": "f1+l3"}),
    # Here the places that are left over fall on a real token, more than once.
    case(
        "pad_mode_last",
        layers("Nodireft", 1),
        locations={"positions": "f3+l3", "pad_mode": "last", **TIED},
    ),
    case(
        "pad_mode_last_untied",
        layers("Nodireft", 1, 1),
        locations={"positions": "f3+l3", "pad_mode": "last"},
    ),
    case("int_pair", layers("Loreft", 1, 2), locations={"sources->base": [None, 3]}),
    case("int_alone", layers("Loreft", 1, 2), locations={"sources->base": 3}),
    case("int_base", layers("Loreft", 1, 2), locations={"base": 2}),
    case("list_base", layers("Loreft", 1, 2), locations={"base": [0, 1, 3]}),
    # pyvene takes two integers for a place in the source and one in the base.
    case("pair_base", layers("Loreft", 1, 2), locations={"base": [0, 3]}),
    case("nested_base", layers("Loreft", 1), locations={"base": [[[0], [3], [1]]]}),
    case("labels", layers("Loreft", 1, 2), labels=True),
    case("labels_gpt2", layers("Direft", 1), model="gpt2", labels=True),
    case(
        "labels_roberta",
        layers("Noreft", 1, component="roberta.encoder.layer[1].output"),
        model="roberta",
        labels=True,
    ),
    case("original", layers("Loreft", 1), output_original_output=True),
    case("return_dict", layers("Loreft", 1), output_original_output=True, return_dict=True),
    case("no_cache", layers("Loreft", 1), use_cache=False),
    *component_cases("llama", {**WIDTHS, "mlp_activation": 24, "key_output": 8, "value_output": 8}),
    *component_cases(
        "gpt2", {**WIDTHS, "mlp_activation": 64, "key_output": 16, "value_output": 16}
    ),
    *path_cases(
        "llama",
        "model.layers[2].output",
        "model.layers[1].input",
        "model.layers[1].mlp.output",
        "model.layers[1].self_attn.output",
        "model.layers[1].self_attn.o_proj.input",
        "model.embed_tokens.output",
        "model.norm.output",
        "lm_head.input",
    ),
    *path_cases("gpt2", "transformer.h[1].output", "transformer.h[0].attn.c_proj.input"),
    *path_cases(
        "roberta",
        "roberta.encoder.layer[1].output",
        "roberta.encoder.layer[0].attention.self.output",
        "roberta.encoder.layer[2].intermediate.input",
        locations={"positions": "f1+l1", **TIED},
    ),
]
GREEDY = {"max_new_tokens": 8, "do_sample": False}
PROMPT = {**GREEDY, "intervene_on_prompt": True}
GENERATION = [
    case("one_prompt", layers("Loreft", 2), inputs="one", **PROMPT),
    case(
        "two_prompts",
        layers("Loreft", 1, 3),
        inputs="equal",
        locations={"positions": "f1+l1", **TIED},
        **PROMPT,
    ),
    case(
        "untied", layers("Direft", 1, 1), inputs="equal", locations={"positions": "f2+l2"}, **PROMPT
    ),
    case(
        "left", layers("Loreft", 1), inputs="uneven", locations=columns([[0, 4], [2, 4]]), **PROMPT
    ),
    case("prompt_int", layers("Loreft", 1), inputs="equal", locations={"base": 2}, **PROMPT),
    case("every_token", layers("Loreft", 1), inputs="equal", locations=None, **PROMPT),
    case("generated_tokens", layers("Loreft", 1), inputs="equal", locations=None, **GREEDY),
    case(
        "generated_tokens_left", layers("Lobireft", 1, 2), inputs="uneven", locations=None, **GREEDY
    ),
    case(
        "generated_tokens_int", layers("Noreft", 1), inputs="one", locations={"base": 0}, **GREEDY
    ),
    case(
        "generated_tokens_nested",
        layers("Loreft", 1),
        inputs="equal",
        locations={"base": [[[0], [0]]]},
        **GREEDY,
    ),
    case("original", layers("Loreft", 2), inputs="one", output_original_output=True, **PROMPT),
    case("beams", layers("Loreft", 2), inputs="one", num_beams=3, **PROMPT),
    case("gpt2", layers("Loreft", 1), model="gpt2", inputs="equal", **PROMPT),
    case(
        "gpt2_generated",
        layers("Loreft", 1),
        model="gpt2",
        inputs="equal",
        locations=None,
        **GREEDY,
    ),
    case("mlp_output", layers("Loreft", 1, component="mlp_output"), inputs="equal", **PROMPT),
    case(
        "path",
        [edit("Loreft", None, component="model.layers[1].self_attn.o_proj.input")],
        inputs="equal",
        **PROMPT,
    ),
]
CHECKPOINTS = [
    *[
        case(kind.lower(), layers(kind, 1, 3), locations={"positions": "f1+l1", **TIED})
        for kind in KINDS
    ],
    case("noreft_bias", layers("Noreft", 2, add_bias=True)),
    case("untied", layers("Loreft", 1, 3, 1, 3), locations={"positions": "f1+l1"}),
    case("path", [edit("Loreft", None, component="model.layers[2].mlp.output")]),
    case("several_components", [edit("Loreft", 1, 2, "attention_output"), edit("Direft", 2, 1)]),
    case(
        "bfloat16", [*layers("Loreft", 1, 2, dtype="bfloat16"), edit("Direft", 3, dtype="bfloat16")]
    ),
    case("trainer", layers("Loreft", 1, 3)),
    case(
        "trainer_classifier",
        layers("Loreft", 0, component="roberta.encoder.layer[1].output"),
        model="roberta",
    ),
]
