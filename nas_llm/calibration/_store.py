"""Output-projection Grams kept for reconstruction, on disk between runs."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import load_file, save_file

from nas_llm.calibration._gram import Gram


class GramStore:
    """Grams of the inputs of o and fc2 of every block; each block is one file, read when asked for.

    Size on disk: L x ((H d)^2 + P^2) x 4 bytes (323 MB for SmolLM2-135M).

    Args:
        directory: Folder of the files; created when missing.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)

    def put(self, layer: int, o_in: Gram, fc2_in: Gram) -> None:
        """Keep one block's Grams."""
        tensors = {}
        for name, gram in (("o_in", o_in), ("fc2_in", fc2_in)):
            tensors[f"{name}.matrix"], tensors[f"{name}.total"] = gram.matrix.cpu(), gram.total.cpu()
        save_file(tensors, self._path(layer), metadata={"tokens": str(o_in.tokens)})

    def get(self, layer: int, tokens: int) -> tuple[Gram, Gram]:
        """One block's Grams of the inputs of o and of fc2."""
        tensors = load_file(self._path(layer))
        o_in, fc2_in = (
            Gram(tensors[f"{name}.matrix"], tensors[f"{name}.total"], tokens) for name in ("o_in", "fc2_in")
        )
        return o_in, fc2_in

    @staticmethod
    def file_name(layer: int) -> str:
        """Name of a block's file."""
        return f"layer-{layer:03d}.safetensors"

    def _path(self, layer: int) -> Path:
        return self.directory / self.file_name(layer)
