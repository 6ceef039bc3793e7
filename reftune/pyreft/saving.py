"""Between a `ReftModel` and a checkpoint of pyreft's."""
