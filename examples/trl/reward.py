"""A reward model: a score per answer, higher for the better one of two.

python examples/trl/reward.py --model MODEL --data pairs.jsonl --output_dir adapter

The score is read at the last token. A prompt with its answer is all prompt to the adapter: "l1" is
the token with the score, and what is edited in a layer below reaches it through attention.
"""

from datasets import load_dataset
from transformers import HfArgumentParser
from trl import RewardConfig, RewardTrainer

from reftune import ReftConfig


def main() -> RewardTrainer:
    parser = HfArgumentParser(RewardConfig)
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True, help="JSON lines: prompt, chosen, rejected")
    parser.set_defaults(learning_rate=1e-3, save_strategy="no", report_to="none")
    args, given = parser.parse_args_into_dataclasses()

    trainer = RewardTrainer(
        model=given.model,
        args=args,
        train_dataset=load_dataset("json", data_files=given.data, split="train"),
        # The head, `score`, is new, and trained and saved with the adapter.
        peft_config=ReftConfig(r=4, positions="f1+l1", task_type="SEQ_CLS"),
    )
    trainer.train()
    trainer.save_model()
    return trainer


if __name__ == "__main__":
    main()
