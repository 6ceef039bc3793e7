"""What `reftune serve` hands on to its engine."""

import argparse

import pytest

from reftune.cli import serve
from reftune.cli.serve_vllm import make_vllm_engine


def options(*given: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    serve.add_arguments(parser)
    return parser.parse_args(given)


def test_what_was_said_about_the_engine() -> None:
    assert serve._engine_settings(options()) == {}
    asked = options("--slots", "3", "--adapter-bytes", "1000", "--max-batch-requests", "2")
    assert serve._engine_settings(asked) == {"slots": 3, "adapter_bytes": 1000, "requests": 2}


@pytest.mark.parametrize("option", ["--slots", "--adapter-bytes", "--cache-tokens"])
def test_numbers_that_mean_nothing(option) -> None:
    with pytest.raises(ValueError, match=f"{option} 0: expected 1 or more"):
        serve._engine_settings(options(option, "0"))


def test_vllm_has_a_quantization_of_its_own() -> None:
    asked = options("--engine", "vllm", "--dtype", "nf4")
    with pytest.raises(ValueError, match=r"--dtype nf4: expected auto.*quantization.*bitsandbytes"):
        make_vllm_engine(asked, "no/model", "no", {})
