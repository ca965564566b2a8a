"""Reconstruction: refitting inherited weights so that a subnet repairs what it omits."""

from nas_llm.reconstruction._block import BlockReconstructor, Residual
from nas_llm.reconstruction._closed_form import Refit, closed_form

__all__ = ["BlockReconstructor", "Refit", "Residual", "closed_form"]
