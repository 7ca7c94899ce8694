"""Vision-language and language models, by transformers and by vLLM."""
