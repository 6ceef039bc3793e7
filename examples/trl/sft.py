"""Supervised finetuning: the answers of a file are learned, from their edited prompts.

python examples/trl/sft.py --model MODEL --data rows.jsonl --output_dir adapter
"""

from datasets import load_dataset
from transformers import HfArgumentParser
from trl import SFTConfig, SFTTrainer

from reftune import ReftConfig


def main() -> SFTTrainer:
    parser = HfArgumentParser(SFTConfig)
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True, help="JSON lines: prompt, completion")
    # TRL's own default is a learning rate for all weights of a model.
    parser.set_defaults(learning_rate=4e-3, save_strategy="no", report_to="none")
    args, given = parser.parse_args_into_dataclasses()

    trainer = SFTTrainer(
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
