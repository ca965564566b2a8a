from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from nas_llm.config import DataSection, OffTextSection, SourceSection, SplitSection
from nas_llm.data import Splits, build_splits, token_windows
from nas_llm.data._allocation import region_rows, share
from nas_llm.errors import DataError
from nas_llm.settings import AUTO_KINDS, OFF_KIND

Prose = Callable[..., str]
SPLITS = ("calibration", "fitness", "held_out")


def _section(window: int = 8, **splits: tuple[int, list[dict[str, Any]]]) -> DataSection:
    return DataSection.model_validate(
        {"window": window, "off_text": {"tokens": 0}}
        | {name: {"tokens": n, "sources": sources} for name, (n, sources) in splits.items()}
    )


def _no_self(tokens: int, kind: str = "") -> list[str]:
    raise AssertionError(f"nothing asks for {tokens} tokens of self")


def _rows(splits: Splits) -> list[tuple[int, ...]]:
    return [tuple(row) for name in SPLITS for row in getattr(splits, name).tokens.tolist()]


@given(st.integers(0, 500), st.lists(st.floats(0.01, 100.0), min_size=1, max_size=8))
def test_shares_are_exact_and_within_one_of_the_ideal(total: int, weights: list[float]) -> None:
    counts = share(total, weights)
    assert sum(counts) == total
    for count, weight in zip(counts, weights, strict=True):
        assert abs(count - total * weight / sum(weights)) < 1 + 1e-9


def test_largest_remainder_by_hand() -> None:
    assert share(10, [1, 1, 1]) == [4, 3, 3]
    assert share(7, [0.5, 0.3, 0.2]) == [4, 2, 1]


@given(st.lists(st.integers(0, 40), min_size=1, max_size=5), st.integers(0, 300))
def test_regions_are_disjoint_contiguous_exact_and_even(demand: list[int], spare: int) -> None:
    available = sum(demand) + spare
    rows = region_rows(available, demand)
    assert [len(taken) for taken in rows] == demand
    joined = np.concatenate(rows)
    assert (np.diff(joined) > 0).all(), "increasing over all regions: no overlap, and the order is kept"
    assert joined.size == 0 or (joined[0] >= 0 and joined[-1] < available)
    for taken in rows:
        gaps = np.diff(taken)
        assert gaps.size == 0 or gaps.max() - gaps.min() <= 1


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory, prose: Prose) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    (folder / "a.txt").write_text(prose(1200), encoding="utf-8")
    shutil.copy(folder / "a.txt", folder / "copy_of_a.raw")
    documents = [prose(60, start=10_000 + 60 * i) for i in range(25)]
    (folder / "b.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in documents), encoding="utf-8")
    return folder


SOURCE = st.fixed_dictionaries(
    {"source": st.sampled_from(["a.txt", "copy_of_a.raw", "b.jsonl", "self"]), "weight": st.floats(0.1, 5.0)}
)
SPLIT = st.tuples(st.integers(8, 500), st.lists(SOURCE, min_size=1, max_size=4))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(calibration=SPLIT, fitness=SPLIT, held_out=SPLIT)
def test_splits_never_share_a_window_and_fill_their_quota(
    corpus: Path,
    prose: Prose,
    tokenizer: PreTrainedTokenizerFast,
    calibration: tuple[int, list[dict[str, Any]]],
    fitness: tuple[int, list[dict[str, Any]]],
    held_out: tuple[int, list[dict[str, Any]]],
) -> None:
    data = _section(calibration=calibration, fitness=fitness, held_out=held_out)
    asked: list[int] = []

    def self_texts(tokens: int) -> list[str]:
        asked.append(tokens)
        return [prose(1200, start=50_000)]

    splits = build_splits(data, tokenizer=tokenizer, self_texts=self_texts, base_dir=corpus)
    rows = _rows(splits)
    assert len(set(rows)) == len(rows), "all windows of the corpus differ, so must all that are taken"
    assert len(asked) <= 1
    for name in SPLITS:
        section, windows = getattr(data, name), getattr(splits, name)
        assert windows.name == name
        assert windows.tokens.shape == (section.tokens // 8, 8)
        counts = [source["windows"] for source in windows.sources]
        assert counts == share(section.tokens // 8, [source.weight for source in section.sources])
    again = build_splits(data, tokenizer=tokenizer, self_texts=self_texts, base_dir=corpus)
    assert [getattr(again, name).digest() for name in SPLITS] == [getattr(splits, name).digest() for name in SPLITS]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(calibration=SPLIT, fitness=SPLIT, held_out=SPLIT, reconstruction=SPLIT)
def test_what_finishes_sees_no_window_that_judges_and_moves_no_other(
    corpus: Path,
    prose: Prose,
    tokenizer: PreTrainedTokenizerFast,
    calibration: tuple[int, list[dict[str, Any]]],
    fitness: tuple[int, list[dict[str, Any]]],
    held_out: tuple[int, list[dict[str, Any]]],
    reconstruction: tuple[int, list[dict[str, Any]]],
) -> None:
    data = _section(calibration=calibration, fitness=fitness, held_out=held_out)
    own = SplitSection.model_validate({"tokens": reconstruction[0], "sources": reconstruction[1]})

    def build(split: SplitSection | None) -> Splits:
        # As little text as is asked for, so that the finish has to ask for more.
        return build_splits(
            data,
            tokenizer=tokenizer,
            self_texts=lambda tokens: [prose(4, start=50_000 + 4 * i) for i in range(tokens // 4)],
            base_dir=corpus,
            reconstruction=split,
        )

    before, after = build(None), build(own)
    assert before.reconstruction is None
    assert before.finish is before.calibration
    assert [getattr(before, name).digest() for name in SPLITS] == [getattr(after, name).digest() for name in SPLITS]
    assert after.finish is after.reconstruction is not None
    assert after.finish.name == "reconstruction"
    assert after.finish.tokens.shape == (own.tokens // 8, 8)
    counts = [source["windows"] for source in after.finish.sources]
    assert counts == share(own.tokens // 8, [source.weight for source in own.sources])
    taken = [tuple(row) for row in after.finish.tokens.tolist()]
    assert len(set(taken)) == len(taken)
    judges = {tuple(row) for name in ("fitness", "held_out") for row in getattr(after, name).tokens.tolist()}
    assert not judges & set(taken)
    assert build(own).finish.digest() == after.finish.digest()


def test_a_sample_that_is_exchanged_for_a_longer_one_gives_no_document_twice(
    prose: Prose, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    data = _section(**{name: (80, [{"source": "self"}]) for name in SPLITS})
    short = [prose(40, start=40 * i) for i in range(12)]
    # Another sample, which happens to hold documents of the first.
    long = [prose(40, start=40 * i) for i in range(20, 60)] + short
    asked: list[int] = []

    def self_texts(tokens: int) -> list[str]:
        asked.append(tokens)
        return short if tokens <= 31 * 8 else long

    own = SplitSection.model_validate({"tokens": 1200, "sources": [{"source": "self"}]})
    splits = build_splits(data, tokenizer=tokenizer, self_texts=self_texts, base_dir=tmp_path, reconstruction=own)
    assert asked == [31 * 8, (10 + 10 + 150 + 1) * 8]
    rows = _rows(splits)[10:] + [tuple(row) for row in splits.finish.tokens.tolist()]
    assert len(set(rows)) == len(rows)


def test_the_corpus_of_the_property_test_has_no_equal_windows(
    corpus: Path, prose: Prose, tokenizer: PreTrainedTokenizerFast
) -> None:
    texts = [(corpus / "a.txt").read_text(), prose(1200, start=50_000)]
    texts += [json.loads(line)["text"] for line in (corpus / "b.jsonl").read_text().splitlines()]
    rows = [tuple(row) for text in texts for row in token_windows(tokenizer, [text], window=8).tolist()]
    assert len(set(rows)) == len(rows)


def test_windows_come_in_order_from_contiguous_regions(corpus: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    source = [{"source": "a.txt"}]
    data = _section(calibration=(80, source), fitness=(40, source), held_out=(40, source))
    splits = build_splits(data, tokenizer=tokenizer, self_texts=_no_self, base_dir=corpus)
    pool = token_windows(tokenizer, [(corpus / "a.txt").read_text()], window=8)
    place = {tuple(row): index for index, row in enumerate(pool.tolist())}
    rows = [place[row] for row in _rows(splits)]
    assert rows == sorted(rows)
    for index, region in zip(rows, [0] * 10 + [1] * 5 + [2] * 5, strict=True):
        low, high = ((0, 0.5), (0.5, 0.75), (0.75, 1))[region]
        assert low * len(pool) - 1 <= index <= high * len(pool)
    assert rows[-1] > 0.9 * len(pool), "the whole text is used, not its head"


def test_sources_of_one_split_share_by_weight_and_say_where_they_come_from(
    corpus: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    mixed = [{"source": "a.txt", "weight": 3}, {"source": "b.jsonl", "weight": 1}]
    only_b = [{"source": "b.jsonl"}]
    data = _section(calibration=(64, mixed), fitness=(16, only_b), held_out=(16, only_b))
    splits = build_splits(data, tokenizer=tokenizer, self_texts=_no_self, base_dir=corpus)
    first, second = splits.calibration.sources
    assert (first["windows"], second["windows"]) == (6, 2)
    assert (first["source"], first["weight"], first["column"]) == ("a.txt", 3.0, "text")
    assert first["content"] != second["content"] == splits.fitness.sources[0]["content"]
    json.dumps(splits.calibration.describe())


def test_self_is_asked_once_for_all_splits(prose: Prose, tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    asked: list[int] = []

    def self_texts(tokens: int) -> list[str]:
        asked.append(tokens)
        return [prose(1000)]

    own = [{"source": "self"}]
    data = _section(calibration=(100, own), fitness=(20, own), held_out=(40, own))
    splits = build_splits(data, tokenizer=tokenizer, self_texts=self_texts, base_dir=tmp_path)
    assert asked == [(12 + 2 + 5 + 1) * 8]
    assert len(set(_rows(splits))) == 19


def test_relative_paths_start_from_the_problem_then_from_the_current_directory(
    corpus: Path,
    prose: Prose,
    tokenizer: PreTrainedTokenizerFast,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = [{"source": "a.txt"}]
    data = _section(calibration=(80, source), fitness=(8, source), held_out=(8, source))
    (tmp_path / "problem").mkdir()
    monkeypatch.chdir(corpus)
    from_cwd = build_splits(data, tokenizer=tokenizer, self_texts=_no_self, base_dir=tmp_path / "problem")
    (tmp_path / "problem" / "a.txt").write_text(prose(1000, start=90_000))
    from_problem = build_splits(data, tokenizer=tokenizer, self_texts=_no_self, base_dir=tmp_path / "problem")
    monkeypatch.chdir(tmp_path)
    expected = build_splits(data, tokenizer=tokenizer, self_texts=_no_self, base_dir=corpus)
    assert from_cwd.calibration.digest() == expected.calibration.digest() != from_problem.calibration.digest()


def test_a_large_corpus_is_read_only_as_far_as_it_helps(
    prose: Prose, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    documents = [prose(20, start=20 * i) for i in range(300)]
    (tmp_path / "big.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in documents))
    source = [{"source": "big.jsonl"}]
    data = _section(calibration=(8, source), fitness=(8, source), held_out=(8, source))
    splits = build_splits(data, tokenizer=tokenizer, self_texts=_no_self, base_dir=tmp_path)
    every = len(token_windows(tokenizer, documents, window=8))
    assert 3 * 64 <= splits.fitness.sources[0]["windows_available"] < every


def test_messages(corpus: Path, prose: Prose, tokenizer: PreTrainedTokenizerFast) -> None:
    def build(source: str, tokens: int = 8, reconstruction: SplitSection | None = None) -> None:
        sources = [{"source": source}]
        data = _section(calibration=(tokens, sources), fitness=(8, sources), held_out=(16, sources))
        build_splits(
            data,
            tokenizer=tokenizer,
            self_texts=lambda _: [prose(30)],
            base_dir=corpus,
            reconstruction=reconstruction,
        )

    held = 8 * len(token_windows(tokenizer, [(corpus / "a.txt").read_text()], window=8))
    with pytest.raises(
        DataError,
        match=rf"source 'a\.txt' is too short: it has {held} tokens in whole windows of 8, needed are 80024 "
        r"\(calibration 80000, fitness 8, held_out 16\); give a longer text, fewer tokens or a shorter window",
    ):
        build("a.txt", 80_000)
    with pytest.raises(DataError, match="source 'self' is too short"):
        build("self", 4000)
    own = SplitSection.model_validate({"tokens": 80_000, "sources": [{"source": "a.txt"}]})
    with pytest.raises(
        DataError,
        match=rf"source 'a\.txt' is too short: it has {held} tokens in whole windows of 8, needed are 80024 "
        r"\(fitness 8, held_out 16, reconstruction 80000\); give a longer text",
    ):
        build("a.txt", reconstruction=own)
    with pytest.raises(DataError, match=r"b\.json does not exist; did you mean 'b\.jsonl'\?"):
        build("./b.json")
    with pytest.raises(DataError, match=r"aa\.txt does not exist; did you mean 'a\.txt'\?"):
        build("aa.txt")


def _written(asked: dict[str, list[int]]) -> Callable[..., list[str]]:
    """A model that writes other text of every kind."""

    def self_texts(tokens: int, kind: str = "") -> list[str]:
        asked.setdefault(kind, []).append(tokens)
        start = 100_000 * (1 + [*AUTO_KINDS, OFF_KIND].index(kind))
        return [" ".join(f"w{number}" for number in range(start, start + 4 * tokens))]

    return self_texts


def test_auto_is_a_mix_of_kinds_and_leaves_one_to_judge_by(
    prose: Prose, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    data = DataSection.model_validate(
        {"window": 8, "calibration": {"tokens": 960}, "fitness": {"tokens": 96}, "held_out": {"tokens": 480}}
        | {"off_text": {"tokens": 64}}
    )
    asked: dict[str, list[int]] = {}
    splits = build_splits(data, tokenizer=tokenizer, self_texts=_written(asked), base_dir=tmp_path)
    assert set(asked) == {*AUTO_KINDS, OFF_KIND}
    found = {name: len(places) for name, places in splits.calibration.kinds.items()}
    assert found == {f"auto ({kind})": 10 * part for kind, part in AUTO_KINDS.items()}
    assert splits.off_text is not None
    assert {name: len(places) for name, places in splits.off_text.kinds.items()} == {f"auto ({OFF_KIND})": 8}
    sets = [splits.calibration, splits.fitness, splits.held_out, splits.off_text]
    rows = [tuple(row) for windows in sets for row in windows.tokens.tolist()]
    assert len(set(rows)) == len(rows)
    # Every kind's windows are where the description says.
    for windows in sets:
        assert [place for places in windows.kinds.values() for place in places] == list(range(len(windows.tokens)))


def test_a_small_mix_has_the_largest_kinds_and_what_is_named_beside_it(
    prose: Prose, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    (tmp_path / "own.txt").write_text(prose(2000), encoding="utf-8")
    sources = [{"source": "own.txt", "weight": 2}, {"source": "auto", "weight": 1}]
    data = _section(calibration=(240, sources), fitness=(24, sources), held_out=(240, sources))
    splits = build_splits(data, tokenizer=tokenizer, self_texts=_written({}), base_dir=tmp_path)
    assert splits.off_text is None
    assert {name: len(places) for name, places in splits.fitness.kinds.items()} == {"own.txt": 2, "auto (prose)": 1}
    assert len(splits.calibration.kinds["own.txt"]) == 20


def test_text_of_another_kind_is_one_window_at_least(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    data = _section(**{name: (80, [{"source": "auto", "kind": "prose"}]) for name in SPLITS})
    judged = data.model_copy(update={"off_text": OffTextSection(tokens=1)})
    splits = build_splits(judged, tokenizer=tokenizer, self_texts=_written({}), base_dir=tmp_path)
    assert splits.off_text is not None
    assert splits.off_text.tokens.shape == (1, data.window)


def test_text_of_another_kind_moves_no_other_window(
    prose: Prose, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    (tmp_path / "own.txt").write_text(prose(2000), encoding="utf-8")
    data = _section(**{name: (80, [{"source": "own.txt"}]) for name in SPLITS})
    before = build_splits(data, tokenizer=tokenizer, self_texts=_written({}), base_dir=tmp_path)
    judged = data.model_copy(update={"off_text": OffTextSection(tokens=64)})
    own = SplitSection.model_validate({"tokens": 400, "sources": [{"source": "auto", "kind": OFF_KIND}]})
    after = build_splits(judged, tokenizer=tokenizer, self_texts=_written({}), base_dir=tmp_path, reconstruction=own)
    assert [getattr(after, name).digest() for name in SPLITS] == [getattr(before, name).digest() for name in SPLITS]
    assert after.off_text is not None
    seen = {tuple(row) for row in after.finish.tokens.tolist()}
    assert not seen & {tuple(row) for row in after.off_text.tokens.tolist()}


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"source": "self", "kind": "code"}, 'kind is for source = "auto"'),
        ({"source": "auto", "kind": "poems"}, "prose"),
        ({"source": "auto", "template": "{a}"}, "a template needs columns"),
    ],
)
def test_kinds_that_are_none_are_refused(section: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SourceSection.model_validate(section)
