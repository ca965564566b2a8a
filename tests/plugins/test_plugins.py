"""References, registries and entry points, on real files and a real installed distribution."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from nas_llm.errors import ConfigError
from nas_llm.plugins import Registry, anchored, check_name, load_module, load_reference, short_reference, use_of


class Thing:
    """What the registry of these tests holds."""


def registry() -> Registry[type[Thing]]:
    def accept(found: object) -> type[Thing]:
        if isinstance(found, type) and issubclass(found, Thing):
            return found
        raise TypeError("is no subclass of Thing")

    made: Registry[type[Thing]] = Registry("thing", accept)
    made.add("plain", Thing)
    return made


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_is_found_beside_the_definition_and_its_use_names_its_content(tmp_path: Path) -> None:
    write(tmp_path, "ops.py", "class Swap:\n    number = 1\n")
    found = load_reference("ops.py:Swap", base_dir=tmp_path)
    assert found.number == 1
    use = use_of("ops.py:Swap", found)
    assert (use.reference, use.version, len(use.sha256)) == ("ops.py:Swap", "", 32)
    write(tmp_path, "ops.py", "class Swap:\n    number = 2\n")
    changed = load_reference("ops.py:Swap", base_dir=tmp_path)
    assert changed.number == 2
    assert use_of("ops.py:Swap", changed).sha256 != use.sha256
    # Named again without a folder, it is what it was last.
    assert load_reference("ops.py:Swap") is changed


def test_the_same_file_elsewhere_is_the_same_module(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / name, "same_code.py", "class Swap: pass\n")
    first, second = (load_reference("same_code.py:Swap", base_dir=tmp_path / name) for name in ("a", "b"))
    assert first.__module__ == second.__module__
    before = use_of("same_code.py:Swap", second)
    write(tmp_path / "a", "same_code.py", "class Swap: number = 3\n")
    assert use_of("same_code.py:Swap", second) == before
    assert use_of("same_code.py:Swap", load_reference("same_code.py:Swap", base_dir=tmp_path / "a")) != before


def test_references_to_files_are_anchored_and_said_without_their_folder(tmp_path: Path) -> None:
    path = write(tmp_path, "ops.py", "class Swap: pass\n")
    for reference, whole in (("ops.py:Swap", f"{path}:Swap"), ("ops.py", str(path))):
        assert anchored(reference, tmp_path) == whole
        assert short_reference(whole) == reference
    for other in ("gone.py:Swap", "package.module:Swap", "plain", "gone.py"):
        assert anchored(other, tmp_path) == short_reference(other) == other


def test_a_module_that_is_not_installed_is_found_beside_the_definition(tmp_path: Path) -> None:
    write(tmp_path, "beside_pkg/__init__.py", "")
    write(tmp_path, "beside_pkg/inner.py", "from beside_pkg import other\nclass Swap: value = other.VALUE\n")
    write(tmp_path, "beside_pkg/other.py", "VALUE = 3\n")
    assert load_reference("beside_pkg.inner:Swap", base_dir=tmp_path).value == 3


def test_installed_code_is_known_by_its_version() -> None:
    assert use_of("numpy:ndarray", load_reference("numpy:ndarray")).version == sys.modules["numpy"].__version__


def test_a_folder_without_use_does_not_stay_on_the_path(tmp_path: Path) -> None:
    load_module("json.tool", base_dir=tmp_path)
    assert str(tmp_path) not in sys.path


@pytest.mark.parametrize(
    ("reference", "text", "expected"),
    [
        ("ops.py:Swop", "class Swap: pass\n", "ops.py has no 'Swop'; it has Swap"),
        ("gone.py:Swap", "", "there is no file"),
        ("no_such_package_xyz.ops:Swap", "", "there is no module 'no_such_package_xyz'; install it"),
        ("ops.py:", "", "is not of the right form"),
        (":Swap", "", "is not of the right form"),
        ("ops.py:Swap", "import no_such_dependency_xyz\n", "ModuleNotFoundError: No module named 'no_such_dependency_"),
        ("ops.py:Swap", "1 / 0\n", "ZeroDivisionError: division by zero"),
        ("ops.py:Swap", "def broken(:\n", "SyntaxError"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path: Path, reference: str, text: str, expected: str) -> None:
    write(tmp_path, "ops.py", text)
    with pytest.raises(ConfigError) as caught:
        load_reference(reference, base_dir=tmp_path)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_module_whose_own_import_is_missing_is_not_called_missing_itself(tmp_path: Path) -> None:
    write(tmp_path, "half_there.py", "import no_such_dependency_xyz\n")
    with pytest.raises(ConfigError, match="No module named 'no_such_dependency_xyz'"):
        load_module("half_there", base_dir=tmp_path)


def test_a_registry_knows_names_decorated_classes_and_references(tmp_path: Path) -> None:
    things = registry()

    @things.register("mine")
    class Mine(Thing):
        """A stranger's."""

    write(tmp_path, "mine.py", f"from {__name__} import Thing\nclass Other(Thing): pass\n")
    assert things.get("plain") is Thing
    assert things.get("mine") is Mine
    assert issubclass(things.get("mine.py:Other", base_dir=tmp_path), Thing)
    assert things.names() == ("plain", "mine")
    assert things.use("plain") is None
    used = things.use("mine")
    assert used is not None
    assert used.sha256


def test_a_registry_refuses_what_it_does_not_hold(tmp_path: Path) -> None:
    things = registry()
    with pytest.raises(ConfigError, match='search.thing = "plian" is not known; did you mean "plain"\\?'):
        things.get("plian", where="search.thing")
    write(tmp_path, "number.py", "NUMBER = 3\n")
    with pytest.raises(ConfigError, match="thing 'number.py:NUMBER' is no subclass of Thing"):
        things.get("number.py:NUMBER", base_dir=tmp_path)
    with pytest.raises(ConfigError, match="'plain' cannot be registered: the name is taken"):
        things.register("plain")(Thing)


def test_names_are_checked_without_loading_anything() -> None:
    things = registry()
    things.register("known_by_decorator")(type("Decorated", (Thing,), {}))
    for name in ("plain", "known_by_decorator", "anything.at_all:Here"):
        check_name("thing", name, ["plain"], where="here")
    with pytest.raises(ConfigError, match="did you mean"):
        check_name("thing", "plani", ["plain"], where="here")


def test_an_installed_package_brings_its_plugins_by_entry_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A distribution as an installer leaves it: a module, and metadata that names it; beside it one that is broken."""
    from nas_llm.search.operators import MUTATIONS

    write(
        tmp_path,
        "stranger_plugin.py",
        "from nas_llm.search import Mutation, register_mutation\n"
        "@register_mutation('strangers_idle')\n"
        "class Idle(Mutation):\n"
        "    def __call__(self, genome, *, rng):\n"
        "        return genome\n",
    )
    write(
        tmp_path,
        "stranger_plugin-2.5.dist-info/METADATA",
        "Metadata-Version: 2.1\nName: stranger-plugin\nVersion: 2.5\n",
    )
    write(tmp_path, "stranger_plugin-2.5.dist-info/top_level.txt", "stranger_plugin\n")
    write(
        tmp_path,
        "stranger_plugin-2.5.dist-info/entry_points.txt",
        "[nas_llm.plugins]\nstranger = stranger_plugin\nbroken = no_such_module_xyz\n",
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert MUTATIONS.get("strangers_idle").__name__ == "Idle"
    assert "strangers_idle" in MUTATIONS.names()
    assert "plugin broken (no_such_module_xyz) does not load" in caplog.text
    with pytest.raises(ConfigError, match="plugin broken does not load: ModuleNotFoundError"):
        MUTATIONS.get("strangers_busy")
