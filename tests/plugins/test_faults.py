"""What fails in code of one's own is said in one line, with its place; what fails in ours is a fault of ours."""

from __future__ import annotations

from pathlib import Path

import pytest
from seed_oss import save_seed_oss
from whole_fronts import make_run

from nas_llm.errors import ConfigError, Interrupted
from nas_llm.models import LlamaAdapter, load_model
from nas_llm.models.families import _registry
from nas_llm.plugins import load_module, named_faults
from nas_llm.workflow import export_points

FAILS = """
from nas_llm.finishing import FinishingMethod
from nas_llm.models import LlamaAdapter, register_family


class Fails(FinishingMethod):
    name = "fails"

    def in_words(self):
        return "not at all"

    def refit(self, inputs, genome, on_layer):
        raise KeyError("gone")


class Short(Fails):
    def refit(self, inputs, genome):
        return lambda layer, sliced: sliced


class Late(Fails):
    def refit(self, inputs, genome, on_layer):
        return lambda layer, sliced: sliced["nowhere"]


@register_family
class Seed(LlamaAdapter):
    name = "seed"
    model_types = ("seed_oss",)

    def architecture(self, config):
        return config.nothing
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for part in ("_named", "_uses"):
        monkeypatch.setattr(_registry._FAMILIES, part, dict(getattr(_registry._FAMILIES, part)))
    (tmp_path / "own.py").write_text(FAILS + f"# {tmp_path}\n", encoding="utf-8")
    load_module("own.py", base_dir=tmp_path)
    return tmp_path


def test_a_family_is_named(own: Path) -> None:
    with pytest.raises(ConfigError, match=r"family Seed failed in line 32 of own\.py: AttributeError: .* 'nothing'"):
        load_model(str(save_seed_oss(own / "dense")))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Fails", r"finishing method Fails failed in line 13 of own\.py: KeyError: 'gone'"),
        ("Short", "finishing method Short failed: TypeError: Short.refit.. takes 3 positional arguments but 4 were"),
        ("Late", r"finishing method Late failed in line 23 of own\.py: KeyError: 'nowhere'"),
    ],
)
def test_a_finishing_method_is_named(own: Path, monkeypatch: pytest.MonkeyPatch, name: str, said: str) -> None:
    monkeypatch.chdir(own)
    run = make_run(own / "run", f"reconstruction.method='own.py:{name}'")
    with pytest.raises(ConfigError, match=said):
        export_points(run, run.front.points[4:5], out=own / "models")


def test_what_is_no_fault_and_what_is_ours_passes() -> None:
    class Own:
        pass

    for error in (Interrupted("stop"), MemoryError(), KeyboardInterrupt(), ConfigError("said already")):
        with pytest.raises(type(error)), named_faults("thing", Own()):
            raise error
    with pytest.raises(ZeroDivisionError), named_faults("family", LlamaAdapter()):
        raise ZeroDivisionError
