"""The format ``gguf``, for llama.cpp."""

from nas_llm.export.gguf._gguf import export_gguf, write_gguf
from nas_llm.export.gguf._tokenizer import tokenizer_fields
from nas_llm.export.gguf._types import GGUF_TYPES, GgufType

__all__ = [
    "GGUF_TYPES",
    "GgufType",
    "export_gguf",
    "tokenizer_fields",
    "write_gguf",
]
