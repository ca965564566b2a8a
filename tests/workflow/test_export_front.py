"""A whole front in one call: resumable, killable, never half-written, never done twice."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from whole_fronts import POINTS, make_run

import nas_llm
from nas_llm.errors import ConfigError, ExportError, ModelError
from nas_llm.events import Event, Notice, StageStarted
from nas_llm.export import EXPORT_FORMATS, ExportFormat
from nas_llm.workflow import ExportRefused, Run, export_points, open_run, read_genomes

_EXPORT = """
import sys
from pathlib import Path
from nas_llm.workflow import export_points, open_run
run = open_run(Path(sys.argv[1]))
export_points(run, run.front.points, out=Path(sys.argv[2]), jobs=int(sys.argv[3]), max_shard_size="200kB")
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make_run(tmp_path_factory.mktemp("runs") / "made-up")


@pytest.fixture(scope="module")
def whole(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All points, exported without a break."""
    out = tmp_path_factory.mktemp("whole") / "models"
    records = export_points(run, run.front.points, out=out, max_shard_size="200kB")
    assert [record.path for record in records] == [out / point.id / "hf" for point in run.front.points]
    return out


@pytest.fixture
def part(whole: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may break."""
    out = tmp_path / "models"
    shutil.copytree(whole, out)
    return out


def again(run: Run, out: Path, **options: Any) -> list[Event]:
    told: list[Event] = []
    export_points(run, run.front.points, out=out, max_shard_size="200kB", on_event=told.append, **options)
    return told


def was_exported(told: list[Event]) -> str:
    return "; ".join(event.detail for event in told if isinstance(event, StageStarted) and event.stage == "export")


def contents(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}


def weights(out: Path) -> dict[str, bytes]:
    return {name: data for name, data in contents(out).items() if name.endswith(".safetensors")}


def check_finished(out: Path) -> int:
    """Whatever looks finished loads and works; returns how many that are."""
    directories = sorted(out.glob("*/hf"))
    for directory in directories:
        model, tokenizer = nas_llm.load(directory)
        document = json.loads((directory / "export.json").read_text())
        assert nas_llm.load_genome(directory).digest() == document["identity"]["genome"]
        ids = tokenizer("A house", return_tensors="pt")["input_ids"]
        assert torch.isfinite(model(ids).logits).all()
    return len(directories)


def test_the_folder_has_an_index_for_programs_and_one_for_people(run: Run, whole: Path) -> None:
    index = json.loads((whole / "front.json").read_text())
    assert list(index["exports"]) == [point.id for point in run.front.points]
    entry = index["exports"]["p05"]["hf"]
    assert (whole / entry["path"] / "config.json").is_file()
    files = (whole / "p05" / "hf").glob("*.safetensors")
    assert entry["weights"] == {path.name: path.stat().st_size for path in files}
    table = (whole / "README.md").read_text()
    for point in run.front.points:
        assert f"| {point.id}{' (knee)' if point.knee else ''} | {point.cost.inheriting_ratio:.4f} |" in table
        assert f"[hf, keep]({point.id}/hf)" in table
    assert check_finished(whole) == POINTS
    assert sorted(path.name for path in whole.iterdir()) == sorted(
        ["README.md", "front.json", *(point.id for point in run.front.points)]
    )


def test_a_uniform_point_is_a_stock_model(whole: Path) -> None:
    assert json.loads((whole / "p01" / "hf" / "config.json").read_text())["model_type"] == "llama"
    assert json.loads((whole / "p02" / "hf" / "config.json").read_text())["model_type"] == "nas_llama"


def test_what_is_finished_is_not_done_again_and_nothing_is_loaded(
    run: Run, part: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*args: object, **kwargs: object) -> None:
        raise AssertionError("the model was loaded")

    monkeypatch.setattr("nas_llm.workflow.export._export_points.reopen", forbidden)
    before = {path: path.stat().st_mtime_ns for path in part.glob("*/hf/*")}
    told = again(run, part)
    notes = [event.message for event in told if isinstance(event, Notice)]
    assert notes[0] == f"p01/hf is already exported: {part}/p01/hf"
    assert len(notes) == POINTS
    assert {path: path.stat().st_mtime_ns for path in part.glob("*/hf/*")} == before


def test_only_what_is_missing_is_done_and_it_is_the_same(run: Run, whole: Path, part: Path) -> None:
    shutil.rmtree(part / "p03")
    shutil.rmtree(part / "p07" / "hf")
    told = again(run, part)
    assert was_exported(told) == f"2 points as hf to {part}"
    assert contents(part) == contents(whole)


def test_records_of_earlier_calls_say_what_new_ones_said(run: Run, part: Path) -> None:
    fresh = export_points(run, run.front.points[:1], out=part / "more" / "deep", max_shard_size="200kB")[0]
    kept = export_points(run, run.front.points[:1], out=part, max_shard_size="200kB")[0]
    assert kept.already
    assert not fresh.already
    assert (kept.fitness_perplexity, kept.held_out_perplexity) == (fresh.fitness_perplexity, fresh.held_out_perplexity)
    assert kept.size == fresh.size > 0


def test_side_by_side_gives_the_same_as_one_by_one(run: Run, whole: Path, tmp_path: Path) -> None:
    again(run, tmp_path / "models", jobs=2)
    assert contents(tmp_path / "models") == contents(whole)


def test_fewer_are_done_at_a_time_where_memory_is_short(
    run: Run, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nas_llm.workflow.export._workers.available_bytes", lambda: 20_000_000)
    told: list[Event] = []
    points = run.front.points[:3]
    export_points(run, points, out=tmp_path, max_shard_size="200kB", jobs=3, on_event=told.append)
    assert Notice("memory is enough for 1 of 3 points at a time") in told
    assert weights(tmp_path) == {
        name: data for name, data in weights(whole).items() if name[:3] in ("p01", "p02", "p03")
    }


def _die(*arguments: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_worker_that_dies_is_told_from_a_finished_one(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("nas_llm.workflow.export._workers.export_point", _die)
        with pytest.raises(ExportError, match="an export process was killed, most likely for want of memory"):
            export_points(run, run.front.points[:3], out=tmp_path / "models", jobs=2)
    assert not (tmp_path / "models").exists()


def _record(directory: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((directory / "export.json").read_text())
    return found


def _with(directory: Path, **values: Any) -> None:
    (directory / "export.json").write_text(json.dumps(_record(directory) | values))


def _without(directory: Path, key: str) -> None:
    record = _record(directory)
    del record[key]
    (directory / "export.json").write_text(json.dumps(record))


@pytest.mark.parametrize("name", ["identity", "weights", "held_out_perplexity"])
def test_a_damaged_record_beside_does_not_stop_others(run: Run, part: Path, name: str) -> None:
    _without(part / "p04" / "hf", name)
    shutil.rmtree(part / "p05")
    export_points(run, run.front.select(["p05"]), out=part, max_shard_size="200kB")
    assert list(json.loads((part / "front.json").read_text())["exports"]) == [
        point.id for point in run.front.points if point.id != "p04"
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda directory: (directory / "export.json").unlink(), "exists and is no finished export of nas-llm"),
        (lambda directory: (directory / "export.json").write_text("{"), "exists and is no finished export of nas-llm"),
        (lambda directory: _without(directory, "identity"), "exists and is no finished export of nas-llm"),
        (lambda directory: _without(directory, "fitness_perplexity"), "exists and is no finished export of nas-llm"),
        (lambda directory: _with(directory, weights={"a": "b"}), "exists and is no finished export of nas-llm"),
        (lambda directory: _with(directory, identity={"genome": 3}), "exists and is no finished export of nas-llm"),
        (lambda directory: next(directory.glob("*.safetensors")).write_bytes(b"x"), "is damaged: .* has 1 bytes"),
        (lambda directory: next(directory.glob("*.safetensors")).unlink(), "is damaged: .* is missing"),
        (lambda directory: (shutil.rmtree(directory), directory.write_text("mine")), "no finished export"),
    ],
)
def test_what_is_no_whole_export_is_neither_taken_for_one_nor_lost(
    run: Run, part: Path, change: Any, message: str
) -> None:
    change(part / "p04" / "hf")
    before = contents(part)
    with pytest.raises(ExportError, match=message):
        again(run, part)
    assert contents(part) == before
    again(run, part, force=True)
    assert check_finished(part) == POINTS


@pytest.mark.parametrize(
    ("options", "message"),
    [({"dtype": "float32"}, "dtype keep, it is now float32"), ({"max_shard_size": "1GB"}, "max shard size 200kB")],
)
def test_other_settings_do_not_overwrite(run: Run, part: Path, options: dict[str, str], message: str) -> None:
    with pytest.raises(ExportError, match=f"p01/hf exists and was exported with {message}"):
        export_points(run, run.front.points, out=part, **{"max_shard_size": "200kB", **options})


def test_another_genome_under_the_same_id_does_not_overwrite(run: Run, part: Path) -> None:
    shutil.rmtree(part / "p02")
    (part / "p01").rename(part / "p02")
    with pytest.raises(ExportError, match="p02/hf exists and was exported with another genome"):
        again(run, part)


def test_exports_of_another_run_are_kept_apart(run: Run, part: Path, tmp_path: Path) -> None:
    other = make_run(tmp_path / "other", "seed=9")
    with pytest.raises(ExportError, match=r"holds exports of another run \(seed 0, now 9\)"):
        export_points(other, other.front.points, out=part)


@pytest.mark.parametrize("name", ["README.md", "front.json"])
def test_files_of_somebody_else_are_not_lost(run: Run, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("precious")
    with pytest.raises(ExportError, match=f"{name} .*would be lost; name another place with --out"):
        export_points(run, run.front.points, out=tmp_path)
    assert contents(tmp_path) == {name: b"precious"}


def test_a_run_directory_or_a_file_is_no_place_for_exports(run: Run, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="is a run directory"):
        export_points(run, run.front.points, out=run.directory)
    (tmp_path / "file").write_text("")
    with pytest.raises(ExportError, match="is a file"):
        export_points(run, run.front.points, out=tmp_path / "file")
    with pytest.raises(ExportError, match="cannot write"):
        export_points(run, run.front.points, out=tmp_path / "file" / "below")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"formats": ["hff"]}, r"unknown export format 'hff'; did you mean 'hf'\? formats are hf"),
        ({"formats": []}, "no format was chosen"),
        ({"dtype": "float15"}, r"unknown dtype 'float15' for hf; did you mean 'float16'\? take keep, float32"),
        ({"dtype": {"gguf": "f16"}}, "dtype f16 is for format 'gguf', which is not among the chosen ones"),
        ({"max_shard_size": "big"}, "max-shard-size 'big' is no size"),
        ({"jobs": 0}, "jobs = 0 should be at least 1"),
    ],
)
def test_bad_arguments_are_named(run: Run, tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        export_points(run, run.front.points, out=tmp_path / "o", **options)
    assert list(tmp_path.iterdir()) == []


def test_no_point_is_said(run: Run, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no point was chosen"):
        export_points(run, [], out=tmp_path)


def _flat(write: Any) -> ExportFormat:
    """A format that has a file of weights and no form for a block without attention."""

    def refusal(genome: Any, config: Any) -> str | None:
        missing = [layer for layer, groups in enumerate(genome.kv_groups.tolist()) if not groups]
        return f"layer {missing[0]} has no attention" if missing else None

    return ExportFormat(
        name="flat", summary="flat", dtypes=("f32", "q8_0"), write=write, refusal=refusal, loads="cat DIRECTORY"
    )


def _write_flat(subnet: Any, dense: Any, directory: Path, *, provenance: Any, settings: Any) -> None:
    directory.mkdir()
    if provenance.point == "p03":
        raise ExportError("layer 4 has no FFN")
    (directory / f"model-{settings.dtype}.gguf").write_bytes(bytes(1000))


def test_a_refused_point_is_reported_and_the_others_are_done(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(EXPORT_FORMATS._named, "flat", _flat(_write_flat))
    out = tmp_path / "models"
    options: dict[str, Any] = {"out": out, "formats": ["hf", "flat"], "dtype": {"flat": "Q8_0"}}
    with pytest.raises(ExportRefused) as caught:
        export_points(run, run.front.points[:4], **options)
    refusals = ["p02/flat: layer 3 has no attention", "p03/flat: layer 4 has no FFN"]
    assert caught.value.refusals == refusals
    names = [f"{record.point.id}/{record.format}" for record in caught.value.records]
    assert names == ["p01/hf", "p01/flat", "p02/hf", "p03/hf", "p04/hf", "p04/flat"]
    assert (out / "p04" / "flat" / "model-q8_0.gguf").is_file()
    assert not (out / "p03" / "flat").exists()
    assert list(json.loads((out / "front.json").read_text())["exports"]["p01"]) == ["hf", "flat"]
    with pytest.raises(ExportRefused) as caught:
        export_points(run, run.front.points[:4], **options)
    assert caught.value.refusals == refusals
    assert all(record.already for record in caught.value.records)
    with pytest.raises(ExportRefused):
        export_points(run, run.front.points[1:2], out=tmp_path / "none", formats=["flat"])
    assert not (tmp_path / "none").exists()


def test_the_formats_of_the_package_lie_side_by_side(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "models"
    points = [run.front.points[index] for index in (0, 1, 3)]
    options: dict[str, Any] = {"formats": ["hf", "gguf", "decilm"], "dtype": {"gguf": "f32"}}
    with pytest.raises(ExportRefused) as caught:
        export_points(run, points, out=out, **options)
    assert len(caught.value.refusals) == 1
    assert caught.value.refusals[0].startswith("p02/decilm: layer 1: attention with a part of its query heads")
    assert (out / "p01" / "gguf" / "model-f32.gguf").is_file()
    assert (out / "p04" / "decilm" / "model.safetensors").is_file()
    before = contents(out)
    shutil.rmtree(out / "p02" / "gguf")
    shutil.rmtree(out / "p04" / "decilm")
    with pytest.raises(ExportRefused):
        export_points(run, points, out=out, jobs=2, **options)
    assert contents(out) == before
    with pytest.raises(ModelError, match="is DeciLM, which vLLM and SGLang run"):
        nas_llm.load(out / "p01" / "decilm")
    assert read_genomes(out / "p02" / "gguf") == [run.front.points[1].genome]


def test_a_full_disk_in_the_middle_keeps_what_is_finished(
    run: Run, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full at random moments: in the weights, the tokenizer, the card, the completion record."""
    from nas_llm.export import _hf
    from nas_llm.workflow.export import _point

    out, rng, failures = tmp_path / "models", random.Random(2), 0
    places = [(_hf, "model_card"), (_point, "write_completion"), (_point, "check_reload")]
    while True:
        module, name = rng.choice(places)
        calls, stop = 0, rng.randint(2, 4)
        original = getattr(module, name)

        def sometimes(*args: Any, _stop: int = stop, _original: Any = original, **kwargs: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == _stop:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return _original(*args, **kwargs)

        with monkeypatch.context() as patch:
            patch.setattr(module, name, sometimes)
            try:
                again(run, out)
                break
            except ExportError as error:
                said = str(error)
        assert "No space left on device" in said
        assert "exports are finished and kept, say the same again to go on" in said
        failures += 1
        assert not list(out.glob("*/.*"))
        assert set(json.loads((out / "front.json").read_text())["exports"]) == {
            path.parent.name for path in out.glob("*/hf")
        }
    assert failures >= 3
    assert contents(out) == contents(whole)


def _mount(folder: Path, size: str) -> bool:
    folder.mkdir()
    try:
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def test_a_truly_full_disk_is_one_clear_error(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = tmp_path / "disk"
    if not _mount(disk, "4M"):
        pytest.skip("small file systems cannot be mounted here")
    try:
        with pytest.raises(ExportError, match=r"has 4\.2 MB left and the exports need .* MB; make room"):
            export_points(run, run.front.points, out=disk / "o")
        assert list(disk.iterdir()) == []
        monkeypatch.setattr("nas_llm.workflow.export._export_points.check_space", lambda *args: None)
        with pytest.raises(ExportError, match=r"cannot write .*: No space left on device; \d exports are finished"):
            export_points(run, run.front.points, out=disk / "o")
        assert 1 <= check_finished(disk / "o") < POINTS
        assert not list((disk / "o").glob("*/.*"))
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_call_killed_again_and_again_ends_as_the_unbroken_one(
    run: Run, whole: Path, tmp_path: Path, jobs: int
) -> None:
    out, rng, killed = tmp_path / "models", random.Random(jobs), 0
    for _ in range(3):
        process = subprocess.Popen([sys.executable, "-c", _EXPORT, str(run.directory), str(out), str(jobs)])
        before = sum(1 for _ in out.glob("*/hf"))
        deadline = time.monotonic() + 120
        # Leftovers of the call before are swept away first, so a work folder seen later is this call's.
        time.sleep(1.0)
        while process.poll() is None and time.monotonic() < deadline:
            if sum(1 for _ in out.glob("*/hf")) > before and list(out.glob("*/.partial-*")):
                break
            time.sleep(0.002)
        time.sleep(rng.uniform(0.0, 0.15))
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
        time.sleep(0.2)
        check_finished(out)
    assert killed >= 2
    again(run, out)
    assert contents(out) == contents(whole)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_all_processes_and_leaves_only_what_is_finished(
    run: Run, tmp_path: Path, number: signal.Signals
) -> None:
    """Ctrl-C reaches the processes of ``--jobs`` too; SIGTERM does not."""
    words = ["export", str(run.directory), "--point", "all", "--out", str(tmp_path / "models"), "--jobs", "2"]
    process = subprocess.Popen(
        [sys.executable, "-c", "from nas_llm.cli import main; main()", *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if list((tmp_path / "models").glob("*/.partial-*")):
            break
        time.sleep(0.01)
    if number == signal.SIGINT:
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert said.endswith("\nerror: interrupted\n")
    assert "Traceback" not in said
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)
    assert not list(tmp_path.glob("models/*/.*"))
    check_finished(tmp_path / "models")


def test_leftovers_of_a_killed_call_are_swept_away(run: Run, part: Path) -> None:
    shutil.rmtree(part / "p06" / "hf")
    leftover = part / "p06" / ".partial-abc" / "hf"
    shutil.copytree(part / "p05" / "hf", leftover)
    again(run, part)
    assert not list(part.glob("*/.*"))
    assert check_finished(part) == POINTS


def test_two_calls_do_not_write_to_one_folder(run: Run, part: Path) -> None:
    import fcntl

    descriptor = os.open(part, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with pytest.raises(ExportError, match="another process exports to"):
            again(run, part)
    finally:
        os.close(descriptor)
    again(run, part)


def test_genomes_are_read_from_a_run_a_folder_of_exports_or_one_export(run: Run, part: Path) -> None:
    genomes = [point.genome for point in run.front.points]
    assert read_genomes(run.directory) == genomes
    assert read_genomes(part) == genomes
    assert read_genomes(part / "p04" / "hf") == [genomes[3]]
    shutil.rmtree(part / "p04")
    export_points(run, run.front.points[:1], out=part, max_shard_size="200kB")
    assert read_genomes(part) == genomes[:3] + genomes[4:]
    assert open_run(run.directory).front == run.front


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--format", "hff"), "error: unknown export format 'hff'; did you mean 'hf'? formats are "),
        (("--dtype", "float15"), "error: unknown dtype 'float15' for hf; did you mean 'float16'? take "),
        (("--dtype", "float32"), "models/p01/hf exists and was exported with dtype keep, it is now float32; replace "),
        (("--max-shard-size", "big"), "error: max-shard-size 'big' is no size; write e.g. 5GB"),
        (("--jobs", "0"), "error: jobs = 0 should be at least 1"),
    ],
)
def test_the_command_line_says_it_in_one_line(run: Run, whole: Path, words: tuple[str, ...], message: str) -> None:
    from typer.testing import CliRunner

    from nas_llm.cli import app

    command = ["export", str(run.directory), "--out", str(whole), "--max-shard-size", "200kB", *words]
    outcome = CliRunner().invoke(app, [*command, "--point", "p01"])
    assert outcome.exit_code == 2
    assert outcome.stdout == ""
    assert message in outcome.stderr
    assert outcome.stderr.count("\n") == 1


def test_the_command_line_skips_what_is_done(run: Run, whole: Path) -> None:
    from typer.testing import CliRunner

    from nas_llm.cli import app

    command = ["export", str(run.directory), "--out", str(whole), "--max-shard-size", "200kB", "--point", "all"]
    outcome = CliRunner().invoke(app, command)
    assert outcome.exit_code == 0
    assert outcome.stderr.count("is already exported") == POINTS
    assert "p05 (knee)" in outcome.stdout
