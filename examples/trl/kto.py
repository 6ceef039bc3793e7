"""Kahneman-Tversky optimization: answers marked good become likelier, those marked bad less so.

python examples/trl/kto.py --model MODEL --data answers.jsonl --output_dir adapter

The reference is the same model with the adapter switched off: there is no second copy of it.
"""

from datasets import load_dataset
from transformers import HfArgumentParser
from trl import KTOConfig, KTOTrainer

from reftune import ReftConfig


def main() -> KTOTrainer:
    parser = HfArgumentParser(KTOConfig)
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True, help="JSON lines: prompt, completion, label")
    parser.set_defaults(learning_rate=1e-3, save_strategy="no", report_to="none")
    args, given = parser.parse_args_into_dataclasses()

    trainer = KTOTrainer(
        model=given.model,
        args=args,
        train_dataset=load_dataset("json", data_files=given.data, split="train"),
        peft_config=ReftConfig(r=4, positions="f1+l1", task_type="CAUSAL_LM"),
    )
    trainer.train()
    trainer.save_model()
    return trainer


if __name__ == "__main__":
    main()
