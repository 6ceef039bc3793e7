"""OpenAI's HTTP API on the engine: one router per file, put together by `app`."""
