from __future__ import annotations

from pathlib import Path

import pytest

from nas_llm.config import Problem, SplitSection, list_problems, load_problem, override_problem
from nas_llm.errors import ConfigError

MINIMAL = 'name = "mine"\nmodel.source = "some/model"\n'


def fault(tmp_path: Path, text: str = MINIMAL, overrides: tuple[str, ...] = ()) -> str:
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_problem(path, overrides=overrides)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("name", ["smollm2-135m", "tiny-llama"])
def test_packaged_problems_load_by_name(name: str) -> None:
    loaded = load_problem(name)
    assert loaded.problem.name == name
    assert loaded.base_dir == Path.cwd()
    assert name in [entry.name for entry in list_problems()]


def test_list_gives_the_descriptions_of_the_files() -> None:
    for entry in list_problems():
        assert entry.description == load_problem(entry.path).problem.description != ""


def test_a_file_is_read_and_its_folder_kept(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(MINIMAL, encoding="utf-8")
    loaded = load_problem(str(path))
    assert loaded.problem == Problem.model_validate({"name": "mine", "model": {"source": "some/model"}})
    assert loaded.base_dir == tmp_path.resolve()


def test_the_definition_that_a_run_left_is_a_definition(tmp_path: Path) -> None:
    path = tmp_path / "problem.toml"
    path.write_text(MINIMAL + f'[resolved]\nbase_dir = "{tmp_path / "first"}"\n', encoding="utf-8")
    loaded = load_problem(path)
    assert loaded.problem.name == "mine"
    assert loaded.base_dir == tmp_path / "first"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("search.poplation = 3", 'unknown key "search.poplation"; did you mean "search.population"?'),
        ("population = 3", 'unknown key "population"; did you mean "search.population"?'),
        ("zzz = 3", 'unknown key "zzz"; known are name, description, seed'),
        ("data.fitness = {tokens = 9, sources = [{sorce = 'self'}]}", 'did you mean "data.fitness.sources[0].source"?'),
        ("seed = -1", "seed = -1 should be greater than or equal to 0"),
        ("seed = true", "seed = true should be a valid integer"),
        ('search.population = "40"', 'search.population = "40" should be a valid integer'),
        ("search.population = 40.0", "search.population = 40.0 should be a valid integer"),
        ("search.algorithm_args.x = [1]", "search.algorithm_args.x = [1] should be one number, string, true or false"),
        ("data.held_out = 5", "data.held_out = 5 should be a section, [data.held_out]"),
        ("data.held_out = {tokens = 600, sources = []}", "data.held_out.sources = [] should have at least 1 item"),
        ("space.attn_ratio = 3", "space.attn_ratio = 3 should be a list"),
        ("space.attn_ratio = [0.0, 1]", "space.attn_ratio[0] = 0.0 should be greater than 0"),
        ("space.attn_ratio = [0.9, 0.3]", "space.attn_ratio has its floor 0.9 above its ceiling 0.3"),
        (
            'fitness.weights = "inherit"',
            'fitness.weights = "inherit" is not known; did you mean "inherited"?',
        ),
        (
            'objectives = ["perplexty", "params"]',
            'objectives[0] = "perplexty" is not known; did you mean "perpl',
        ),
        (
            'reconstruction.method = "sequental"',
            'reconstruction.method = "sequental" is not known; did you mean "sequential"? known are sequential, closed',
        ),
        ("reconstruction.damping = -1", "reconstruction.damping = -1 should be a number above 0, or a list of such"),
        ("reconstruction.damping = [0.1, 0]", "reconstruction.damping = [0.1, 0] should be a number above 0, or a li"),
        ("reconstruction.damping = []", "reconstruction.damping = [] should be a number above 0, or a list of such"),
        ("reconstruction.damping = true", "reconstruction.damping = true should be a number above 0, or a list"),
        ("reconstruction.damping = [inf]", "reconstruction.damping = inf keeps all weights; add a finite one"),
        ('reconstruction.target = "residul"', 'is not known; did you mean "residual"? known are residual, sublayer an'),
        ("reconstruction.target = 1.5", "reconstruction.target = 1.5 is not known; known are residual, sublayer and n"),
        ("reconstruction.tokens = 100", "reconstruction.tokens (100) is less than one window (512)"),
        ("reconstruction.sources = []", "reconstruction.sources = [] should have at least 1 item"),
        ("reconstruction.iterations = 0", "reconstruction.iterations = 0 should be greater than 0"),
        ("reconstruction.rho = 0", "reconstruction.rho = 0 should be greater than 0"),
        ("reconstruction.validation = 1.0", "reconstruction.validation = 1.0 should be less than 1"),
        ("search.evaluations = 3", "search.evaluations (3) is below search.population (16)"),
        ("constraints = {min_ratio = 0.9, max_ratio = 0.5}", "constraints.min_ratio 0.9 is above"),
    ],
)
def test_each_fault_is_one_line_with_its_path_and_the_mend(tmp_path: Path, line: str, expected: str) -> None:
    message = fault(tmp_path, MINIMAL + line)
    assert expected in message
    assert message.startswith(str(tmp_path / "mine.toml"))
    assert message.count(": ") == 1


def test_missing_key_is_named(tmp_path: Path) -> None:
    assert '"model" is missing' in fault(tmp_path, 'name = "mine"')
    assert '"space.attn_ratio[1]" is missing' in fault(tmp_path, MINIMAL + "space.attn_ratio = [0.5]")


def test_many_faults_are_cut(tmp_path: Path) -> None:
    message = fault(tmp_path, MINIMAL + "seed = -1\nfoo = 1\nbar = 2\nsequence_length = 0\nfront.size = 0")
    assert message.count("; ") >= 3
    assert message.endswith("and 2 more")


def test_toml_faults_name_the_line(tmp_path: Path) -> None:
    assert "is not valid TOML" in (message := fault(tmp_path, 'name = "a"\nseed = = 3'))
    assert "line 2" in message


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_bytes(b'name = "\xff"')
    with pytest.raises(ConfigError, match="not UTF-8 text"):
        load_problem(tmp_path / "bad.toml")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("smolm2-135m", 'problem "smolm2-135m" does not exist; did you mean the packaged "smollm2-135m"?'),
        ("folder/tinyllama.toml", 'did you mean the packaged "tiny-llama"?'),
        ("qqq", "packaged are smollm2-135m, smollm2-135m-wikitext2, tiny-llama"),
        (".", "is a directory"),
    ],
)
def test_a_missing_file_names_what_there_is(name: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_problem(name)
    assert expected in str(caught.value)


def test_a_missing_file_names_a_similar_one_beside_it(tmp_path: Path) -> None:
    (tmp_path / "wikitext.toml").write_text(MINIMAL, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"wikitext\.toml"):
        load_problem(tmp_path / "wikitxt.toml")


def test_overrides_are_toml_values_or_plain_strings(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(MINIMAL, encoding="utf-8")
    problem = load_problem(
        path,
        overrides=[
            "search.evaluations=100",
            "search.operators.alpha = 0.5",
            "model.source=other/model",
            'objectives=["kl", "params"]',
            "search.operators.temperature=inf",
            "search.algorithm_args.pop_name=a = b",
        ],
    ).problem
    assert problem.search.evaluations == 100
    assert problem.search.operators.alpha == 0.5
    assert problem.search.operators.temperature == float("inf")
    assert problem.model.source == "other/model"
    assert problem.objectives == ("kl", "params")
    assert problem.search.algorithm_args == {"pop_name": "a = b"}


def test_overridden_paths_are_relative_to_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "text.txt").write_text("words", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    overrides = ['data.fitness.sources=[{source = "text.txt"}]', "model.source=self"]
    problem = load_problem("tiny-llama", overrides=overrides).problem
    assert problem.data.fitness.sources[0].source == str(tmp_path.resolve() / "text.txt")
    assert problem.model.source == "self"


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("seed", "is not of the form key=value"),
        ("a..b=1", "is not of the form key=value"),
        ("name.x=1", "--set name.x: name is a value, not a section"),
        ("search.evaluation=100", '--set: unknown key "search.evaluation"; did you mean "search.evaluations"?'),
        ("qqqqqqq.deep=1", '--set: unknown key "qqqqqqq"'),
        ("search.evaluations=1", "with --set: search.evaluations (1) is below"),
    ],
)
def test_faulty_overrides_are_said_to_be_overrides(tmp_path: Path, override: str, expected: str) -> None:
    assert expected in fault(tmp_path, overrides=(override,))


def test_the_reconstruction_has_text_of_its_own_if_it_asks_for_it() -> None:
    problem = load_problem("tiny-llama", overrides=["data.calibration.sources=[{source='a.txt'}]"]).problem
    calibration = problem.data.calibration
    assert problem.reconstruction_split is None
    more = override_problem(problem, {"reconstruction.tokens": 9000})
    assert more.reconstruction_split == SplitSection(tokens=9000, sources=calibration.sources)
    other = override_problem(problem, {"reconstruction.sources": [{"source": "b.txt"}]})
    assert other.reconstruction_split is not None
    assert other.reconstruction_split.tokens == calibration.tokens
    assert [source.source for source in other.reconstruction_split.sources] == ["b.txt"]
    assert override_problem(more, {"reconstruction.method": "none"}).reconstruction_split is None


def test_candidates_are_priced_with_the_middle_damping() -> None:
    problem = load_problem("tiny-llama").problem
    for damping, dampings, middle in (
        (0.5, (0.5,), 0.5),
        ([1, 0.001, 0.01], (1.0, 0.001, 0.01), 0.01),
        ((0.1, float("inf")), (0.1, float("inf")), 0.1),
    ):
        section = override_problem(problem, {"reconstruction.damping": damping}).reconstruction
        assert (section.dampings, section.pricing_damping) == (dampings, middle)


def test_a_problem_with_other_values_is_validated_anew() -> None:
    problem = load_problem("tiny-llama").problem
    assert override_problem(problem, {}) is problem
    assert override_problem(problem, {"reconstruction.target": 1}).reconstruction.target == 1.0
    with pytest.raises(ConfigError, match='^reconstruction.method = "admn" is not known; did you mean "admm"?'):
        override_problem(problem, {"reconstruction.method": "admn"})


def test_a_byte_order_mark_is_no_toml(tmp_path: Path) -> None:
    path = tmp_path / "windows.toml"
    path.write_bytes(load_problem("tiny-llama").path.read_text(encoding="utf-8").encode("utf-8-sig"))
    assert load_problem(path).problem == load_problem("tiny-llama").problem
