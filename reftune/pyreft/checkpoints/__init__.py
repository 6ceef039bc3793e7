"""pyreft's checkpoints: read from any of its versions, without running what is in them; written."""
