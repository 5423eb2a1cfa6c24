"""Models in Hugging Face's folders, both ways: GPT-2, and Llama and its like. No Hugging Face code is needed."""

from .export import export, huggingface_config
from .weights import from_huggingface, to_huggingface

__all__ = ["export", "from_huggingface", "huggingface_config", "to_huggingface"]
