from __future__ import annotations

from nas_llm.hints import did_you_mean, meant, nearest


def test_the_nearest_name_is_offered_and_nothing_where_none_is_similar() -> None:
    names = ["population", "evaluations", "ratio"]
    assert did_you_mean("populaton", names) == 'did you mean "population"?'
    assert did_you_mean("zzz", names) == ""
    assert nearest("populaton", names) == "population"
    assert nearest("zzz", names) is None


def test_wording_fits_the_sentence_around() -> None:
    assert did_you_mean("rato", ["ratio", "rate"], most=2, quote="", after=" ") == "did you mean ratio or rate? "
    assert did_you_mean("ratoi", ["ratio"], quote="'", prefix="space.") == "did you mean 'space.ratio'?"
    assert did_you_mean("tiny-lama", ["tiny-llama"], what="the packaged ") == 'did you mean the packaged "tiny-llama"?'
    assert did_you_mean("zzz", ["ratio"], after=" ") == ""
    assert meant("a", "b") == 'did you mean "a" or "b"?'
