"""What a finishing method is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar

from nas_llm.events import EventHandler, ignore
from nas_llm.finishing._inputs import Finished, FinishInputs
from nas_llm.space import Genome
from nas_llm.subnet import BlockEdit


class FinishingMethod(ABC):
    """One way to give chosen points their weights; a subclass of yours, in any module or file, is a method like ours.

    A definition names it as ``reconstruction.method = "my_package.my_module:Halved"``, or ``"halved.py:Halved"`` where
    the file lies beside the definition; ``--method`` takes the same, and :func:`register_finishing_method` gives it a
    name. ``reconstruction.method_args`` are the arguments of its constructor: numbers, strings, truth values and lists
    of these. What it needs is a name, words, and a refit::

        class Halved(FinishingMethod):
            name = "halved"

            def __init__(self, *, share: float = 0.5) -> None:
                self.share = share

            def in_words(self) -> str:
                return f"inherited, output projections times {self.share:g}"

            def refit(self, inputs, genome, on_layer):
                name = f"{inputs.dense.adapter.names.o}.weight"

                def edit(layer, sliced):
                    return {**sliced, name: sliced[name] * self.share} if name in sliced else sliced

                return edit

    The weights may depend on nothing but the inputs, the genome and the arguments: an export is known by these and by
    version and hash of the method's file, and points may be finished in any order and in several processes.

    Attributes:
        name: What it is called in tables and file names: letters, digits, dots, hyphens and underscores.
        keys: Keys of ``[reconstruction]`` that its weights depend on; the constructor gets them by these names, too.
        needs_text: Whether it looks at text or Grams.
        refits: Whether it changes any weight.
    """

    name: ClassVar[str]
    keys: ClassVar[tuple[str, ...]] = ()
    needs_text: ClassVar[bool] = True
    refits: ClassVar[bool] = True

    @abstractmethod
    def in_words(self) -> str:
        """What becomes of the weights, for the model card; text and code are named behind it."""

    @abstractmethod
    def refit(self, inputs: FinishInputs, genome: Genome, on_layer: Callable[[int], None]) -> BlockEdit | Finished:
        """Refit one point.

        Args:
            inputs: The problem, loaded. ``inputs.splits.finish`` are the windows to fit to,
                :func:`nas_llm.finishing.grams_of` gives their Grams, ``inputs.dense.block_state(layer)`` the dense
                weights, and ``inputs.dense.adapter.slice_block`` slices them.
            genome: Its masks.
            on_layer: To be called with the index of a block when it is done.

        Returns:
            What is called with the index of a block and the state dict of the sliced block and returns the state dict
            to use, of the same names and shapes; or this with residuals.
        """

    def start(  # noqa: B027 # most methods need nothing
        self, inputs: FinishInputs, *, memory_gb: float | None = None, on_event: EventHandler = ignore
    ) -> None:
        """Get ready; called once, before the first point.

        Args:
            inputs: The problem, loaded.
            memory_gb: What the process may have, as ``--memory`` says.
            on_event: Called with events of what takes time.
        """

    def at_once(self, inputs: FinishInputs) -> int:
        """How many points :meth:`finish` should get at a time, as far as memory allows."""
        return 1

    def point_bytes(self, inputs: FinishInputs) -> int:
        """Memory that one point takes under way, beside dense model and subnet."""
        shape = inputs.dense.architecture
        widest = max(shape.intermediate_size, shape.num_heads * shape.head_dim)
        return 4 * 8 * widest**2

    def finish(
        self,
        inputs: FinishInputs,
        genomes: Sequence[Genome],
        *,
        jobs: int = 1,
        on_done: Callable[[int], None] = lambda done: None,
    ) -> list[Finished]:
        """Refit several points: here one by one.

        Args:
            inputs: The problem, loaded.
            genomes: Their masks.
            jobs: Processes that do this at the same time.
            on_done: To be called with the number of layers that are done, of as many as the model has.

        Returns:
            One result a genome; none depends on the other genomes.
        """
        layers = inputs.dense.architecture.num_layers
        results = []
        for turn, genome in enumerate(genomes):

            def on_layer(layer: int, before: int = turn * layers) -> None:
                on_done((before + layer + 1) // len(genomes))

            found = self.refit(inputs, genome, on_layer)
            results.append(found if isinstance(found, Finished) else Finished(found))
        return results
