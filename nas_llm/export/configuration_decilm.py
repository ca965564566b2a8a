"""Configuration of a Llama whose blocks differ in FFN width and may lack sublayers; needs nothing but transformers.

Runtimes that know the architecture ``DeciLMForCausalLM`` read ``block_configs[layer].attention`` (``no_op``,
``n_heads_in_group``: query heads that share a KV head) and ``block_configs[layer].ffn`` (``no_op``,
``intermediate_size``) as attributes.
"""

from transformers import LlamaConfig


class Section(dict):
    """A dictionary whose keys are attributes too, so that it is still plain JSON."""

    def __getattr__(self, name):
        """The value of a key; asking for one that is not there is an AttributeError, as ``hasattr`` expects."""
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


def _sections(value):
    if isinstance(value, dict):
        return Section({key: _sections(item) for key, item in value.items()})
    return value


class DeciLMConfig(LlamaConfig):
    """Llama configuration with ``block_configs``, one entry a layer."""

    model_type = "nemotron-nas"

    def __init__(self, block_configs=None, **kwargs):
        super().__init__(**kwargs)
        self.block_configs = [_sections(block) for block in block_configs or ()]
