"""Supervised finetuning without padding: several rows one after the other, each edited as if alone.

python examples/trl/sft_packed.py --model MODEL --data rows.jsonl --max_length 2048

Rows of up to `max_length` tokens are filled beforehand (packing). With `--packing False
--padding_free True` the rows of a batch are joined as they come.
"""

from datasets import load_dataset
from transformers import HfArgumentParser
from trl import SFTConfig, SFTTrainer

from reftune import ReftConfig


def main() -> SFTTrainer:
    parser = HfArgumentParser(SFTConfig)
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True, help="JSON lines: prompt, completion")
    parser.set_defaults(packing=True, learning_rate=4e-3, save_strategy="no", report_to="none")
    args, given = parser.parse_args_into_dataclasses()
    if not args.packing:
        args.max_length = None  # TRL does not shorten rows that it joins, and wants to be told

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
