"""Methods that refit each block for itself, from the dense model's Grams."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence

from torch import Tensor

from nas_llm.events import EventHandler, ignore
from nas_llm.finishing._grams import grams_of, split_grams
from nas_llm.finishing._inputs import Finished, FinishInputs
from nas_llm.finishing.methods._method import FinishingMethod
from nas_llm.reconstruction import BlockReconstructor, GramSource, Solver
from nas_llm.settings import several
from nas_llm.space import Genome


class BlockByBlock(FinishingMethod):
    """Refits the output projections of each block to the dense model's inputs.

    Args:
        damping: Ridge on the update, fraction of the mean diagonal; of several, each projection takes the one that does
            best on held-out windows.
        validation: Share of the windows that is held out for it.
    """

    def __init__(self, *, damping: float | Sequence[float], validation: float) -> None:
        self.dampings = several(damping)
        self.validation = validation
        self._grams: tuple[GramSource, GramSource | None] | None = None

    @property
    @abstractmethod
    def solver(self) -> tuple[str, Solver]:
        """What refits one projection, and what it is called, its settings included."""

    def start(self, inputs: FinishInputs, *, memory_gb: float | None = None, on_event: EventHandler = ignore) -> None:
        """Grams to fit to, and where there are several dampings, Grams to choose by."""
        if len(self.dampings) == 1:
            self._grams = grams_of(inputs, on_event=on_event), None
        else:
            self._grams = split_grams(inputs, validation=self.validation, on_event=on_event)

    def refit(self, inputs: FinishInputs, genome: Genome, on_layer: Callable[[int], None]) -> Finished:
        """Refit one point, block after block."""
        if self._grams is None:
            self.start(inputs)
        assert self._grams is not None
        dense, (grams, held_out), (label, solve) = inputs.dense, self._grams, self.solver
        reconstructor = BlockReconstructor(
            dense,
            grams,
            damping=self.dampings,
            held_out=held_out,
            solve=solve,
            label=label,
            device=inputs.device,
            residuals=True,
        )
        layers: list[dict[str, Tensor]] = []
        for layer in range(dense.architecture.num_layers):
            masks = genome.attn_mask[layer], genome.mlp_mask[layer]
            sliced = dense.adapter.slice_block(dense.architecture, dense.block_state(layer), *masks)
            refitted = reconstructor.refit(layer, sliced, *masks)
            layers.append({key: value for key, value in refitted.items() if value is not sliced[key]})
            on_layer(layer)
        return Finished(lambda layer, sliced: {**sliced, **layers[layer]}, tuple(reconstructor.residuals))
