"""How the bundled tiny chat model is made: data, tokenizer, training, evaluation."""
