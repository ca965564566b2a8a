"""Reconstruction: refitting inherited weights so that a subnet repairs what it omits."""

from nas_llm.reconstruction._admm import AdmmRefit, admm
from nas_llm.reconstruction._block import BlockReconstructor, BlockResidual, GramSource, Residual, Solver
from nas_llm.reconstruction._closed_form import closed_form
from nas_llm.reconstruction._damping import DAMPING_SCALES
from nas_llm.reconstruction._held_out import held_out_windows
from nas_llm.reconstruction._moments import TokenWeights
from nas_llm.reconstruction._queries import QueryRefit, refit_queries
from nas_llm.reconstruction._reconstruction import Reconstruction, SequentialResidual
from nas_llm.reconstruction._refit import Refit
from nas_llm.reconstruction._sequential import SequentialReconstructor
from nas_llm.reconstruction._target import TARGETS

__all__ = [
    "DAMPING_SCALES",
    "TARGETS",
    "AdmmRefit",
    "BlockReconstructor",
    "BlockResidual",
    "GramSource",
    "QueryRefit",
    "Reconstruction",
    "Refit",
    "Residual",
    "SequentialReconstructor",
    "SequentialResidual",
    "Solver",
    "TokenWeights",
    "admm",
    "closed_form",
    "held_out_windows",
    "refit_queries",
]
