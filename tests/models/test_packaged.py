"""Models that come as Python packages, whole or in pieces."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import pytest

from nas_llm.errors import ModelError
from nas_llm.models import PACKAGED_MODELS, PackagedModel

TEXT = b"a model in two pieces"


@pytest.fixture
def pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for number, part in enumerate((TEXT[:9], TEXT[9:])):
        folder = tmp_path / f"piece_{number}" / "data"
        folder.mkdir(parents=True)
        (folder.parent / "__init__.py").write_text("raise SystemExit('was imported')")
        (folder / "model.part").write_bytes(part)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("NAS_LLM_CACHE", str(tmp_path / "cache"))
    return tmp_path


def _model(sha256: str) -> PackagedModel:
    return PackagedModel(
        name="pieced",
        package="piece_0",
        path="model.gguf",
        install="pip install pieced",
        about="for a test",
        parts=(("piece_0", "data/model.part"), ("piece_1", "data/model.part")),
        sha256=sha256,
    )


def test_pieces_are_put_together_once_and_not_imported(pieces: Path) -> None:
    model = _model(hashlib.sha256(TEXT).hexdigest())
    path = model.locate()
    assert path.read_bytes() == TEXT
    assert path.name == "model.gguf"
    before = path.stat().st_mtime_ns
    assert model.locate() == path
    assert path.stat().st_mtime_ns == before
    assert "piece_0" not in sys.modules


def test_damaged_pieces_leave_nothing(pieces: Path) -> None:
    with pytest.raises(ModelError, match="'pieced' are damaged; install them anew: pip install pieced"):
        _model("0" * 64).locate()
    assert not list((pieces / "cache").rglob("*.gguf"))


def test_a_missing_piece_says_what_to_install(pieces: Path) -> None:
    (pieces / "piece_1" / "__init__.py").unlink()
    (pieces / "piece_1" / "data" / "model.part").unlink()
    (pieces / "piece_1" / "data").rmdir()
    (pieces / "piece_1").rmdir()
    with pytest.raises(ModelError, match="'pieced' is not installed; install it with: pip install pieced"):
        _model(hashlib.sha256(TEXT).hexdigest()).locate()


def test_a_cut_piece_is_damage(pieces: Path) -> None:
    (pieces / "piece_1" / "data" / "model.part").unlink()
    with pytest.raises(ModelError, match="'pieced' are damaged"):
        _model(hashlib.sha256(TEXT).hexdigest()).locate()


def test_gemma_comes_in_four_pieces() -> None:
    model = PACKAGED_MODELS["gemma3-270m"]
    assert len(model.parts) == 4
    pytest.importorskip(model.parts[0][0])
    path = model.locate()
    assert hashlib.sha256(path.read_bytes()).hexdigest() == model.sha256
