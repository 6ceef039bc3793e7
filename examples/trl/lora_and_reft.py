"""A LoRA and a ReFT on one model, trained together and saved beside each other.

python examples/trl/lora_and_reft.py --model MODEL --data rows.jsonl --output_dir adapters
"""

from datasets import load_dataset
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, HfArgumentParser
from trl import SFTConfig, SFTTrainer

from reftune import ReftConfig


def main() -> SFTTrainer:
    parser = HfArgumentParser(SFTConfig)
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True, help="JSON lines: prompt, completion")
    parser.set_defaults(learning_rate=4e-4, save_strategy="no", report_to="none")
    args, given = parser.parse_args_into_dataclasses()

    model = AutoModelForCausalLM.from_pretrained(given.model)
    lora = get_peft_model(model, LoraConfig(r=4, task_type="CAUSAL_LM"), adapter_name="low_rank")
    del model.peft_config  # else PEFT takes the two for adapters of one method
    trainer = SFTTrainer(
        model=model,
        args=args,
        train_dataset=load_dataset("json", data_files=given.data, split="train"),
        peft_config=ReftConfig(r=4, positions="f1+l1", task_type="CAUSAL_LM"),
    )
    lora.set_requires_grad("low_rank")  # to attach the ReFT froze all that was there before
    trainer.train()
    for adapter, own in ((trainer.model, "reft_edits"), (lora, "lora_")):
        tensors = {name: t for name, t in adapter.state_dict().items() if own in name}
        adapter.save_pretrained(args.output_dir, state_dict=tensors)  # LoRA's below, in low_rank
    return trainer


if __name__ == "__main__":
    main()
