"""Ways to give chosen points their weights, one a file."""

from nas_llm.finishing.methods._admm import AdmmFinish
from nas_llm.finishing.methods._closed_form import ClosedFormFinish
from nas_llm.finishing.methods._method import FinishingMethod
from nas_llm.finishing.methods._none import NoFinish
from nas_llm.finishing.methods._registry import FINISHING, register_finishing_method
from nas_llm.finishing.methods._sequential import SequentialFinish

__all__ = [
    "FINISHING",
    "AdmmFinish",
    "ClosedFormFinish",
    "FinishingMethod",
    "NoFinish",
    "SequentialFinish",
    "register_finishing_method",
]
