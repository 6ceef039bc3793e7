"""Group relative policy optimization: the model learns from a score of what it writes itself.

python examples/trl/grpo.py --model MODEL --data prompts.jsonl --output_dir adapter

`beta` holds the answers near to those of the same model with the adapter switched off.
"""

from datasets import load_dataset
from transformers import HfArgumentParser
from trl import GRPOConfig, GRPOTrainer

from reftune import ReftConfig


def variety(completion_ids: list[list[int]], **columns: list) -> list[float]:
    """Score answers: the more different tokens, the better."""
    return [float(len(set(ids))) for ids in completion_ids]


def main() -> GRPOTrainer:
    parser = HfArgumentParser(GRPOConfig)
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True, help="JSON lines: prompt")
    parser.set_defaults(beta=0.04, learning_rate=1e-3, save_strategy="no", report_to="none")
    args, given = parser.parse_args_into_dataclasses()
    trainer = GRPOTrainer(
        model=given.model,
        reward_funcs=variety,
        args=args,
        train_dataset=load_dataset("json", data_files=given.data, split="train"),
        peft_config=ReftConfig(r=4, positions="f1+l1", task_type="CAUSAL_LM"),
    )
    trainer.train()
    trainer.save_model()
    return trainer


if __name__ == "__main__":
    main()
