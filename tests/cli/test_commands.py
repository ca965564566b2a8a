from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from fake_workflow import FakeWorkflow, Outcome

from nas_llm.evaluation import HeldOutGap, MemoryScore, SpeedScore, TaskScore, Workload
from nas_llm.runs import RunLock
from nas_llm.workflow import Resources

Command = Callable[..., Outcome]


def started_run(workplace: Path, name: str = "runs/mine") -> Path:
    directory = workplace / name
    (directory / "checkpoint").mkdir(parents=True)
    (directory / "exports").mkdir()
    for file in ("problem.toml", "history.sqlite", "front.json", "checkpoint/gen-00001.ckpt"):
        (directory / file).write_text("", encoding="utf-8")
    return directory


def test_search_shows_progress_the_front_and_what_comes_next(run: Command, fake: FakeWorkflow) -> None:
    outcome = run("search", "tiny-llama")
    assert outcome.code == 0
    assert fake.calls[0]["run_dir"] == Path("runs/tiny-llama")
    assert "data: reading text" in outcome.err
    assert "note: the sample was cut [bold]short[/bold]" in outcome.err
    assert "generation 1, 16/64 evaluations, hypervolume 0.2500" in outcome.err
    assert "20.00 at 100.00k; 12.00 at 200.00k" in outcome.err
    assert "\x1b" not in outcome.err
    for word in ("dense", "p04", "knee", "optimised for: <wiki>.txt, 8 windows of 128 tokens", "runs/tiny-llama"):
        assert word in outcome.out
    assert "next: nas-llm export runs/tiny-llama --point knee" in outcome.out


def test_search_takes_overrides_and_a_run_directory(run: Command, fake: FakeWorkflow) -> None:
    outcome = run(
        "search", "tiny-llama", "--run", "here", "--set", "front.size=3", "--seed", "5", "--evaluations", "99"
    )
    assert outcome.code == 0
    problem = fake.calls[0]["loaded"].problem
    assert (problem.front.size, problem.seed, problem.search.evaluations) == (3, 5, 99)
    assert fake.calls[0]["run_dir"] == Path("here")
    assert fake.calls[0]["resume"] is False


def test_search_takes_resources_and_where_to_start_from(run: Command, fake: FakeWorkflow) -> None:
    options = ("--workers", "2", "--threads", "3", "--memory", "1.5", "--ray", "auto", "--start-from", "old")
    assert run("search", "tiny-llama", *options).code == 0
    assert fake.calls[0]["resources"] == Resources(workers=2, ray_address="auto", threads=3, memory_gb=1.5)
    assert fake.calls[0]["loaded"].problem.search.start_from == (str(Path("old").resolve()),)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("search", "tiny-lama"), 'error: problem "tiny-lama" does not exist; did you mean the packaged "tiny-llama"?'),
        (("search", "tiny-llama", "--set", "search.evaluation=9"), 'did you mean "search.evaluations"?'),
        (("search", "tiny-llama", "--evaluations", "3"), "search.evaluations (3) is below search.population"),
        (("search", "tiny-llama", "--resume"), "error: runs/tiny-llama holds no run to resume"),
        (("search", "tiny-llama", "--resume", "--force"), "give one of them"),
        (("search", "tiny-llama", "--run", "runs/mine"), "error: runs/mine holds a run; continue it with --resume"),
        (("search", "tiny-llama", "--run", "runs"), "error: runs is not empty and holds no run"),
        (("search", "tiny-llama", "--run", "runs/mine/problem.toml"), "is a file"),
        (("front", "nix"), "error: no run 'nix'; runs here: runs/mine"),
        (("front", "mine", "--max-macs", "ten"), "error: --max-macs 'ten' is not a positive number"),
        (("front", "mine", "--max-macs", "1k"), "error: no point of the front lies within max_macs 1000"),
        (("export", "mine", "--point", "p77"), "error: the front has no point 'p77'"),
        (("export", "mine", "--max-params", "-3"), "error: --max-params '-3' is not a positive number"),
        (("export", "nix", "--point", "all"), "error: no run 'nix'; runs here: runs/mine"),
        (("export", "mine", "--format", "hf,,gguf"), "error: --format 'hf,,gguf' has an empty name"),
        (("export", "mine", "--dtype", "gguf="), "error: --dtype 'gguf=' names no type; write e.g. --dtype float16"),
        (("export", "mine", "--dtype", "f16", "--dtype", "f32"), "error: --dtype f16 and f32 are both for all formats"),
        (("export", "mine", "--dtype", "hf=f16", "--dtype", "hf=f32"), "error: --dtype gives hf two types"),
        (("reconstruct", "nix"), "error: no run 'nix'; runs here: runs/mine"),
        (("reconstruct", "mine", "--point", "p77"), "error: the front has no point 'p77'"),
        (("reconstruct", "mine", "--damping", "0.1,x"), "error: --damping '0.1,x' is no number; write e.g. 0.01 or"),
        (("reconstruct", "mine", "--damping", ""), "error: --damping '' is no number"),
        (("servable", "tiny-lama"), 'error: problem "tiny-lama" does not exist; did you mean the packaged'),
        (("servable", "tiny-llama", "--set", "seed=x"), "error: --set: seed"),
        (("evaluate", "m", "--text", "nix.txt"), "error: text file nix.txt does not exist"),
        (("evaluate", "m", "--windows", "0"), "error: --windows '0' is neither a positive number nor all; write e.g."),
        (("evaluate", "m", "--windows", "1.5"), "error: --windows '1.5' is neither a positive number nor all"),
        (("evaluate", "m", "--tasks", "piqa,"), "error: --tasks 'piqa,' has an empty name"),
        (
            ("evaluate", "m", "--protocol", "paper", "--limit", "3"),
            "error: --protocol paper says what is measured; leave --limit out",
        ),
        (
            ("evaluate", "m", "--protocol", "paper", "--window", "512"),
            "error: --protocol paper says what is measured; leave --window out",
        ),
        (("problems", "nix"), 'error: problem "nix" does not exist'),
    ],
)
def test_bad_input_is_one_line_and_code_2(
    run: Command, fake: FakeWorkflow, workplace: Path, arguments: tuple[str, ...], expected: str
) -> None:
    started_run(workplace)
    outcome = run(*arguments)
    assert outcome.code == 2
    assert outcome.out == ""
    assert expected in outcome.err
    assert outcome.err.count("\n") == 1
    assert outcome.err.startswith("error: ")


@pytest.mark.parametrize(
    "arguments", [("search",), ("serch", "x"), ("front", "x", "--max"), ("export", "x", "--format")]
)
def test_wrong_usage_is_code_2(run: Command, arguments: tuple[str, ...]) -> None:
    outcome = run(*arguments)
    assert outcome.code == 2
    assert "Error: " in outcome.err
    assert "Traceback" not in outcome.err


def test_force_sets_an_earlier_run_aside(run: Command, fake: FakeWorkflow, workplace: Path) -> None:
    for number in (1, 2):
        directory = started_run(workplace)
        outcome = run("search", "tiny-llama", "--run", "runs/mine", "--force")
        assert outcome.code == 0
        assert f"the earlier run was moved to runs/mine.old-{number}" in outcome.err
        assert not directory.exists()
        assert (workplace / f"runs/mine.old-{number}" / "history.sqlite").exists()


def test_force_does_not_move_what_is_no_run(run: Command, fake: FakeWorkflow, workplace: Path) -> None:
    (workplace / "home").mkdir()
    (workplace / "home" / "front.json").write_text("mine", encoding="utf-8")
    assert run("search", "tiny-llama", "--run", "home", "--force").code == 2
    assert (workplace / "home" / "front.json").exists()


def test_force_leaves_a_live_run_alone(run: Command, fake: FakeWorkflow, workplace: Path) -> None:
    directory = started_run(workplace)
    with RunLock(directory):
        outcome = run("search", "tiny-llama", "--run", "runs/mine", "--force")
    assert outcome.code == 2
    assert "is in use" in outcome.err
    assert (directory / "history.sqlite").exists()


def test_resume_continues(run: Command, fake: FakeWorkflow, workplace: Path) -> None:
    started_run(workplace)
    assert run("search", "tiny-llama", "--run", "runs/mine", "--resume").code == 0
    assert fake.calls[0]["resume"] is True
    assert (workplace / "runs/mine/history.sqlite").exists()


def test_the_first_interrupt_lets_the_search_save_and_says_how_to_go_on(
    run: Command, fake: FakeWorkflow, workplace: Path
) -> None:
    def interrupt() -> None:
        started_run(workplace, "my runs/a")
        os.kill(os.getpid(), signal.SIGINT)

    fake.during_search = interrupt
    before = signal.getsignal(signal.SIGINT)
    outcome = run("search", "tiny-llama", "--seed", "3", "--run", "my runs/a")
    assert outcome.code == 130
    assert "stopping after the present step" in outcome.err
    command = "nas-llm search tiny-llama --run 'my runs/a' --resume --set seed=3"
    assert f"interrupted; continue with: {command}" in outcome.out
    assert signal.getsignal(signal.SIGINT) is before


def test_an_interrupt_before_anything_was_written_does_not_speak_of_resuming(run: Command, fake: FakeWorkflow) -> None:
    fake.during_search = lambda: os.kill(os.getpid(), signal.SIGTERM)
    outcome = run("search", "tiny-llama")
    assert outcome.code == 130
    assert "nothing was written, start it again" in outcome.out
    assert "--resume" not in outcome.out


def test_the_second_interrupt_aborts_without_a_traceback(run: Command, fake: FakeWorkflow) -> None:
    def twice() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    fake.during_search = twice
    before = signal.getsignal(signal.SIGINT)
    outcome = run("search", "tiny-llama")
    assert outcome.code == 130
    assert outcome.err.endswith("error: interrupted\n")
    assert signal.getsignal(signal.SIGINT) is before


def test_front_filters_and_writes_csv(run: Command, fake: FakeWorkflow, workplace: Path) -> None:
    started_run(workplace)
    everything = run("front", "mine", "--csv", "front.csv")
    assert everything.code == 0
    assert all(name in everything.out for name in ("p01", "p02", "p03", "p04"))
    assert (workplace / "front.csv").read_text(encoding="utf-8").count("\n") == 6
    assert run("front", "mine", "--csv", "front.csv").err.startswith("error: front.csv exists")
    assert run("front", "mine", "--csv", "front.csv", "--force").code == 0
    some = run("front", "runs/mine", "--max-macs", "0.2M", "--min-ratio", "0.5")
    assert "p03" in some.out
    assert "p02" not in some.out
    assert "p04" not in some.out


def test_export_writes_the_chosen_points(run: Command, fake: FakeWorkflow, workplace: Path) -> None:
    started_run(workplace)
    outcome = run("export", "mine", "--point", "knee", "--point", "p04", "--out", "models", "--force")
    assert outcome.code == 0
    expected = {
        "points": ["p02", "p04"],
        "out": Path("models"),
        "formats": ["hf"],
        "dtype": {},
        "max_shard_size": "5GB",
        "method": None,
        "samples": None,
        "jobs": 1,
        "memory_gb": None,
        "force": True,
        "pad": False,
    }
    assert fake.calls[-1] == expected
    for word in (
        "dense",
        "p02 (knee)",
        "models/p02/hf",
        "models/p04/hf",
        "16.50",
        "load: nas_llm.load(DIRECTORY), or ",
    ):
        assert word in outcome.out
    assert run("export", "mine").code == 0
    assert fake.calls[-1]["points"] == ["p02"]


def test_export_takes_several_formats_types_and_workers(run: Command, fake: FakeWorkflow, workplace: Path) -> None:
    started_run(workplace)
    words = ("--format", "hf,GGUF", "--format", "hf", "--dtype", "f16", "--dtype", "gguf=q8_0", "--workers", "3")
    outcome = run("export", "mine", "--point", "all", *words, "--max-shard-size", "2GB")
    assert outcome.code == 0
    call = fake.calls[-1]
    assert call["points"] == ["p01", "p02", "p03", "p04"]
    assert (call["formats"], call["dtype"]) == (["hf", "gguf"], {"hf": "f16", "gguf": "q8_0"})
    assert (call["jobs"], call["max_shard_size"]) == (3, "2GB")
    assert "gguf, q8_0" in outcome.out
    assert outcome.out.count("load: ") == 2
    assert "load: llama-cli -m DIRECTORY/model-TYPE.gguf" in outcome.out
    assert "270.1 MB" in outcome.out
    assert run("export", "mine", "--point", "all", "--max-macs", "0.2M", "--jobs", "2").code == 0
    assert fake.calls[-1]["points"] == ["p03", "p04"]


def test_export_takes_another_reconstruction(run: Command, fake: FakeWorkflow, workplace: Path) -> None:
    started_run(workplace)
    assert run("export", "mine", "--method", "sequential", "--samples", "128").code == 0
    assert (fake.calls[-1]["method"], fake.calls[-1]["samples"]) == ("sequential", 128)


def test_reconstruct_shows_what_it_brings(run: Command, fake: FakeWorkflow, workplace: Path) -> None:
    started_run(workplace)
    outcome = run("reconstruct", "mine")
    assert outcome.code == 0
    options = ("method", "samples", "damping", "target", "step", "blend")
    plain = {"points": ["p02"], **dict.fromkeys(options)}
    assert fake.calls[-1] == plain | {"memory_gb": None}
    assert "reconstruction: p02: closed_form on 4,096 tokens" in outcome.err
    lines = [" ".join(row.split()) for row in outcome.out.splitlines()]
    assert "p02 (knee) 0.7143 20.00 14.50 22.00 15.25 1.2" in lines
    assert "0 mlp.down_proj 0.25 0.0625 0.01" in lines
    assert "residuals: runs/mine/reconstruction/p02-closed_form.csv" in lines
    assert "with inherited weights and after closed_form, self, 32 windows of 128 tokens" in " ".join(lines)
    assert "primal" not in outcome.out


def test_reconstruct_takes_a_method_and_its_settings(run: Command, fake: FakeWorkflow, workplace: Path) -> None:
    started_run(workplace)
    words = ("--method", "admm", "--samples", "64", "--damping", "0.001,0.1", "--damping", "inf", "--target", "0.5")
    words = (*words, "--memory", "4", "--step", "0.25", "--blend", "0.75")
    outcome = run("reconstruct", "mine", "--point", "all", "--max-macs", "0.2M", *words)
    assert outcome.code == 0
    settings = {"method": "admm", "samples": 64, "damping": [0.001, 0.1, float("inf")], "target": 0.5}
    shares = {"step": 0.25, "blend": 0.75}
    assert fake.calls[-1] == {"points": ["p03", "p04"], "memory_gb": 4.0} | settings | shares
    assert "mlp.down_proj" not in outcome.out
    outcome = run("reconstruct", "mine", "--point", "all", "--method", "admm", "--layers", "--target", "sublayer")
    lines = [" ".join(row.split()) for row in outcome.out.splitlines()]
    assert lines.count("0 mlp.down_proj 0.25 0.0625 0.01 0.0005 0.0007") == 4
    assert fake.calls[-1]["target"] == "sublayer"


def test_an_interrupted_reconstruction_is_one_line(run: Command, fake: FakeWorkflow, workplace: Path) -> None:
    started_run(workplace)
    fake.during_reconstruction = lambda: os.kill(os.getpid(), signal.SIGINT)
    outcome = run("reconstruct", "mine")
    assert (outcome.code, outcome.out) == (130, "")
    assert outcome.err.endswith("tokens\nerror: interrupted\n")


def test_export_shows_what_was_done_and_what_was_refused(run: Command, fake: FakeWorkflow, workplace: Path) -> None:
    started_run(workplace)
    fake.refused = ("p01/gguf", "p04/gguf")
    outcome = run("export", "mine", "--point", "all", "--format", "hf,gguf")
    assert outcome.code == 2
    assert outcome.err == "error: p01/gguf: has no form there\nerror: p04/gguf: has no form there\n"
    for word in ("exports/p01/hf", "exports/p02/gguf", "exports/p04/hf"):
        assert word in outcome.out
    assert "exports/p04/gguf" not in outcome.out


def test_servable_shows_what_would_widen_the_choice(run: Command, fake: FakeWorkflow, workplace: Path) -> None:
    """The answers are made up in the form of the library's own; only the table is tested here."""
    hindrances = (
        SimpleNamespace(reason="keeps some groups", setting="space.attn_ratio", value="[1.0, 1.0]", blocks=True),
        SimpleNamespace(reason="rows of 16 stay F16", setting="space.ffn_multiple", value="32", blocks=False),
        SimpleNamespace(reason="the activation is gelu", setting=None, value=None, blocks=True),
    )
    fake.servable = {
        "hf": SimpleNamespace(format="hf", genomes="all", hindrances=()),
        "decilm": SimpleNamespace(format="decilm", genomes="some", hindrances=hindrances),
    }
    outcome = run("servable", "tiny-llama", "--set", "space.ffn_multiple=8")
    assert outcome.code == 0
    assert fake.calls[-1]["problem"].space.ffn_multiple == 8
    lines = [" ".join(row.split()) for row in outcome.out.splitlines()]
    assert "hf all" in lines
    assert "decilm some keeps some groups space.attn_ratio = [1.0, 1.0]" in lines
    assert "(loads all the same) rows of 16 stay F16 space.ffn_multiple = 32" in lines
    assert "the activation is gelu -" in lines
    shown = run("problems", "tiny-llama").out
    (workplace / "runs" / "mine").mkdir(parents=True)
    (workplace / "runs" / "mine" / "problem.toml").write_text(shown, encoding="utf-8")
    for name in ("mine", "runs/mine"):
        assert run("servable", name, "--set", "seed=4").code == 0
        assert fake.calls[-1]["problem"].seed == 4


def test_evaluate_gives_a_table_or_json(run: Command, fake: FakeWorkflow, workplace: Path) -> None:
    (workplace / "text.txt").write_text("words", encoding="utf-8")
    table = run("evaluate", "a", "b", "--text", "text.txt", "--windows", "8", "--base", "a")
    assert table.code == 0
    assert fake.calls[0]["models"] == ["a", "b"]
    assert fake.calls[0]["text"] == [Path("text.txt")]
    assert (fake.calls[0]["window"], fake.calls[0]["windows"], fake.calls[0]["base"]) == (1024, 8, "a")
    for word in ("0.5000", "145.00M", "134.52M", "29.200", "29.200 [28.50, 30.12]", "95 % interval"):
        assert word in table.out
    assert "text.txt (dddddddddddd), the first 8 of 12 windows of 1024 tokens" in table.out
    found = json.loads(run("evaluate", "a", "--json", "-").out)
    assert found["versions"] == {"torch": "2.0"}
    assert found["models"][0]["texts"][0]["perplexity"] == 29.2
    assert found["models"][0]["texts"][0]["interval"]["low"] == 28.5
    assert found["models"][0]["texts"][0]["losses"]["tokens"] == [1023] * 8
    assert found["models"][0]["inheriting_ratio"] is None
    outcome = run("evaluate", "a", "--json", "scores.json", "--html", "pages/scores.html")
    assert outcome.code == 0
    assert json.loads((workplace / "scores.json").read_text(encoding="utf-8")) == found
    assert "29.200" in (workplace / "pages" / "scores.html").read_text(encoding="utf-8")
    assert "written: scores.json\nwritten: pages/scores.html\n" in outcome.out


def test_evaluate_hands_its_options_on(run: Command, fake: FakeWorkflow) -> None:
    given = "--point knee,p03 --point all --perplexity wikitext2,ptb --tasks arc_easy,mmlu --limit 5 --latency --memory"
    more = "--prompt-tokens 64 --new-tokens 8 --batch 2 --rounds 3 --dtype bfloat16 --device cpu --method none"
    assert run("evaluate", "a", *given.split(), *more.split()).code == 0
    call = fake.calls[0]
    assert call["points"] == ["knee", "p03", "all"]
    assert call["text"] == ["wikitext2", "ptb"]
    assert (call["tasks"], call["limit"]) == (["arc_easy", "mmlu"], 5)
    assert call["workload"] == Workload(prompt_tokens=64, new_tokens=8, batch=2, rounds=3)
    assert (call["latency"], call["memory"], call["dtype"], call["device"]) == (True, True, torch.bfloat16, "cpu")
    assert call["method"] == "none"


def test_the_papers_protocol_says_what_is_measured(run: Command, fake: FakeWorkflow) -> None:
    assert run("evaluate", "a", "--protocol", "paper").code == 0
    call = fake.calls[0]
    assert (call["text"], call["window"], call["windows"]) == (["wikitext2", "ptb"], 2048, "all")
    assert (call["tasks"], call["limit"]) == (["commonsense7"], None)


def test_many_numbers_become_rows(run: Command, fake: FakeWorkflow) -> None:
    score = TaskScore(
        task="piqa",
        metric="acc",
        value=0.655,
        stderr=0.0475,
        samples=100,
        fewshot=0,
        headline=True,
        cached=False,
        share=True,
        higher_is_better=True,
    )
    load = Workload(prompt_tokens=64, new_tokens=8, rounds=3)
    fake.measured = {
        "gap": HeldOutGap(calibration=20.0, fitness=21.0, held_out=25.5, gap=0.034),
        "tasks": (score, replace(score, metric="acc_norm", value=0.9, headline=False)),
        "speed": SpeedScore(
            device="cpu",
            threads=2,
            dtype="float32",
            workload=load,
            first_token_seconds=0.25,
            first_token_spread=0.02,
            prefill_tokens_per_second=256.0,
            decode_tokens_per_second=21.4,
            decode_spread=0.05,
            against="dense",
            prefill_speedup=1.28,
            decode_speedup=1.31,
        ),
        "memory": MemoryScore(
            device="cpu",
            dtype="float32",
            workload=load,
            peak_bytes=600_000_000,
            kv_cache_bytes=3_300_000,
            against="dense",
            peak_ratio=0.75,
            kv_cache_ratio=0.5,
        ),
    }
    out = run("evaluate", "model-a", "model-b").out
    lines = {line.strip().split("  ")[0]: line for line in out.splitlines() if line.strip()}
    assert lines["piqa acc"].split()[2:] == ["65.5", "±", "4.8", "65.5", "±", "4.8"]
    assert "piqa acc_norm" not in out
    assert lines["gap"].count("+3.4 %") == 2
    assert lines["prefill tok/s"].count("256 (1.28x)") == 2
    assert lines["decode tok/s"].count("21.4 (1.31x)") == 2
    assert lines["first token"].count("250 ms ± 2 %") == 2
    assert lines["peak memory"].count("600.0 MB (0.75x)") == 2
    assert lines["KV cache"].count("3.3 MB (0.50x)") == 2
    assert "in turns with dense" in out


def test_problems_are_listed_and_shown(run: Command, workplace: Path) -> None:
    listed = run("problems")
    assert listed.code == 0
    assert "smollm2-135m" in listed.out
    assert "tiny-llama" in listed.out
    shown = run("problems", "tiny-llama")
    assert "# A test-size problem" in shown.out
    (workplace / "copy.toml").write_text(shown.out, encoding="utf-8")
    assert run("problems", "copy.toml", "--resolved").out == run("problems", "tiny-llama", "--resolved").out
    assert "crossover_probability" in run("problems", "copy.toml", "--resolved").out


@pytest.mark.parametrize("command", ["search", "front", "reconstruct", "export", "evaluate", "problems", "servable"])
def test_every_command_has_examples(run: Command, command: str) -> None:
    outcome = run(command, "--help")
    assert outcome.code == 0
    assert f"  Examples:\n    nas-llm {command}" in outcome.out


def test_compare_hands_its_options_on_and_shows_a_verdict(run: Command, fake: FakeWorkflow) -> None:
    given = "--text ptb --window 512 --windows all --point p03,knee --method none --samples 4 --device cpu"
    outcome = run("compare", "a[b]", "c", *given.split(), "--dtype", "bfloat16", "--ratio", "0.9,0.8", "--ratio", "0.7")
    assert outcome.code == 0
    (call,) = fake.calls
    assert (call["models"], call["text"], call["window"], call["windows"]) == (["a[b]", "c"], "ptb", 512, "all")
    assert (call["points"], call["ratios"]) == (["p03", "knee"], [0.9, 0.8, 0.7])
    assert (call["method"], call["samples"], call["dtype"], call["device"]) == ("none", 4, torch.bfloat16, "cpu")
    for words in (
        "a[b]",
        "29.200 [28.50, 30.12]",
        "1.0000 [1.0000, 1.0000]",
        "no difference",
        "8 of 12 windows of 1024 tokens, evenly spread",
    ):
        assert words in outcome.out
    found = json.loads(run("compare", "a", "c", "--json", "-").out)
    assert found["versions"] == {"torch": "2.0"}
    assert found["groups"][0]["models"][1]["paired"]["ratio"] == 1.0
