"""Labels of reports by a language model: `labeller` -> `prompts` -> mavl.llm (the server) -> `answers` -> `cache`."""
