"""The command line as a user types it: results, one-line errors, exit codes, Ctrl-C."""

import errno
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import spectral_edge as se
from spectral_edge import run_command
from spectral_edge.cli import main


def call(capsys, *arguments):
    code = 0
    try:
        main(list(arguments))
    except SystemExit as stop:
        code = stop.code or 0
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.fixture
def checkpoints(tmp_path):
    rng = np.random.default_rng(0)
    for index, row in enumerate(np.cumsum(rng.standard_normal((14, 60)), axis=0)):
        save_file({"w": torch.from_numpy(row)}, tmp_path / f"step-{index * 10}.safetensors")
    return tmp_path


def test_scan_as_json(capsys, checkpoints):
    code, out, _ = call(capsys, "scan", str(checkpoints), "--window", "5", "--json")
    found = json.loads(out)
    assert code == 0
    truth = se.scan(checkpoints, horizon=10).edge(window=5)
    assert found["step"] == truth.step.tolist()
    np.testing.assert_array_equal(found["sigma"], truth["sigma"])
    assert found["k_star_raw"] == truth["k_star_raw"].tolist()
    assert all(isinstance(k, int) for k in found["k_star_raw"])
    assert all(k is None or isinstance(k, int) for k in found["k_star_clear"])
    np.testing.assert_array_equal(found["cosine_ratio_max"], truth["cosine_ratios"].max(axis=1))


def test_scan_as_a_table_and_report(capsys, checkpoints, tmp_path):
    page = tmp_path / "page.html"
    code, out, _ = call(capsys, "scan", str(checkpoints / "*.safetensors"), "--window", "4", "--report", str(page))
    assert code == 0
    assert "coherence" in out
    assert max(len(line) for line in out.splitlines()) <= 80
    assert out.splitlines()[0].split()[4:8] == ["R", "R", "norm.", "band"]
    first = out.splitlines()[1].split()
    truth = se.scan(checkpoints, horizon=8).edge(window=4)
    assert first[4] == f"{truth['gap_ratio'][0]:.4g}"
    assert first[5] == f"{truth['cosine_ratios'][0].max():.4g}"
    assert page.exists()


def test_a_report_that_cannot_be_written_is_one_line_and_code_1(capsys, checkpoints):
    code, _, err = call(capsys, "scan", str(checkpoints), "--window", "4", "--report", str(checkpoints))
    assert code == 1
    assert err.startswith("error: ")
    assert len(err.strip().splitlines()) == 1


def test_pickled_checkpoints_are_loaded_only_when_told(capsys, tmp_path):
    for index in range(6):
        torch.manual_seed(index)
        torch.save(torch.nn.Linear(3, 4), tmp_path / f"c{index}.pt")
    code, _, err = call(capsys, "scan", str(tmp_path), "--window", "3")
    assert code == 2
    assert "--allow-pickle" in err
    assert call(capsys, "scan", str(tmp_path), "--window", "3", "--allow-pickle")[0] == 0


@pytest.mark.filterwarnings("default::spectral_edge.SpectralEdgeWarning")
def test_a_warning_is_one_line(checkpoints):
    for index in (6, 7, 8):
        (checkpoints / f"step-{index * 10}.safetensors").unlink()
    found = subprocess.run(
        [sys.executable, "-m", "spectral_edge", "scan", str(checkpoints), "--window", "3"],
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0
    assert found.stderr.startswith("warning: step 90: no snapshot between steps 50 and 90")
    assert len(found.stderr.splitlines()) == 1


@pytest.mark.filterwarnings("ignore::spectral_edge.SpectralEdgeWarning")
def test_what_was_left_out_of_a_scan_is_listed_at_its_end(capsys, checkpoints):
    victim = checkpoints / "step-70.safetensors"
    victim.write_bytes(victim.read_bytes()[:-9])
    code, out, _ = call(capsys, "scan", str(checkpoints), "--window", "3")
    assert code == 0
    assert out.splitlines()[-2].startswith("step 70: step-70.safetensors cannot be read (")
    assert out.splitlines()[-1].startswith("step 80: no snapshot that can be read between steps 60 and 80")
    notes = json.loads(call(capsys, "scan", str(checkpoints), "--window", "3", "--json")[1])["notes"]
    assert [(note["step"], note["outcome"]) for note in notes] == [(70, "FAILED"), (80, "HOLE")]
    code, _, err = call(capsys, "scan", str(checkpoints), "--window", "9")
    assert code == 2
    assert "at least 10 snapshots for one full window, got 7 in a row at most; step 70:" in err


def test_a_scan_sketches_and_is_recomputed_from_its_sketches(capsys, checkpoints, tmp_path):
    out = tmp_path / "trace"
    options = ["--window", "4", "--json"]
    sketch = ["--engine", "sketch", "--cells", "50", "--ladder", "1", "--keep-sketches", "--out", str(out)]
    first = json.loads(call(capsys, "scan", str(checkpoints), *options, *sketch)[1])
    assert json.loads(call(capsys, "scan", str(out), *options)[1]) == first
    code, _, err = call(capsys, "scan", str(checkpoints), *options, *sketch[2:])
    assert code == 2
    assert "expected engine='sketch' as in the scan there, got 'auto'" in err


@pytest.mark.parametrize("steps", ["0,7,14,21,28,35,42,49,56,63,70,77,84,91", r"step-(\d+)"])
def test_steps_are_typed_as_numbers_or_a_pattern(capsys, checkpoints, steps):
    code, out, _ = call(capsys, "scan", str(checkpoints), "--window", "4", "--steps", steps, "--json")
    assert code == 0
    assert json.loads(out)["step"][-1] == (91 if "," in steps else 130)


def test_ctrl_c_leaves_a_readable_trace_and_says_how_to_go_on(capsys, checkpoints, tmp_path, monkeypatch):
    from spectral_edge import scanning

    out, take = tmp_path / "trace", scanning.Walk.take

    def pressed(walk, snapshot):
        if snapshot.step == 90:
            raise KeyboardInterrupt
        return take(walk, snapshot)

    typed = ["scan", str(checkpoints), "--window", "3", "--momentum", "0.9", "--out", str(out)]
    with monkeypatch.context() as patch:
        patch.setattr(scanning.Walk, "take", pressed)
        code, _, err = call(capsys, *typed)
        assert code == 130
        assert call(capsys, *typed[:4])[2].startswith("Stopped. Nothing was kept")
    assert len(se.open_trace(out).steps) == 8
    first, second = err.splitlines()
    assert first == f"Stopped. What was recorded is in {out}."
    again = second.split("scan ", 1)[1].split()
    assert call(capsys, "scan", *again)[0] == 0
    assert len(se.open_trace(out).steps) == 13


def test_help_lists_settings_and_no_negations(capsys):
    code, out, _ = call(capsys, "run", "--help")
    assert code == 0
    words = " ".join(out.replace("│", " ").split())
    for name in ("train_fraction", "checkpoint_every", "x2_xy_y2", "cpu, middle, reference, slow"):
        assert name in words
    assert "--no-" not in words
    assert "--empty-" not in words


def test_ctrl_c_anywhere_is_code_130_and_one_line(capsys, monkeypatch):
    def pressed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("spectral_edge.doctor.diagnose", pressed)
    assert call(capsys, "doctor") == (130, "", "interrupted\n")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["scan", "nowhere"], "expected a checkpoint file, got nothing there"),
        (["scan", "{folder}", "--window", "1"], "expected at least 2 updates, got 1"),
        (["scan", "{folder}", "--window", "30", "--horizon", "20"], "at most the horizon of 20, got 30"),
        (["scan", "{folder}", "--window", "14"], "at least 15 snapshots for one full window"),
        (["scan", "{folder}", "--window", "ten"], "ten"),
        (["report", "{folder}"], "expected a trace folder"),
        (["run", "nothing"], "nothing"),
        (["run", "arithmetic", "--size", "huge"], "huge"),
        (["run", "arithmetic", "--set", "operation"], "name=value"),
        (["run", "arithmetic", "--set", "operation=pow"], "pow"),
        (["run", "arithmetic", "--set", "family=x"], "name=value"),
        (["run", "arithmetic", "--set", "seed=3"], "use --seed"),
        (["run", "arithmetic", "--set", "size=reference"], "use --size"),
        (["run", "arithmetic", "--seed", "9" * 20], "a whole number from 0 to 2147483647"),
        (["run", "arithmetic", "--set", "steps=abc"], "--set steps: expected a whole number >= 1, got 'abc'"),
        (["run", "arithmetic", "--seed", "-1"], "--seed: expected a whole number from 0 to 2147483647, got -1"),
        (["run", "arithmetic", "--threads", "0"], "--threads: expected at least 1, got 0"),
        (["run", "arithmetic", "--out", "{folder}/step-0.safetensors/x"], "expected a folder that can be written"),
        (["run", "arithmetic", "--minutes", "0"], "--minutes: expected a number above 0, got 0"),
        (["study", "everything"], "NAME: expected one of grokking, same-decay, fault-bank"),
        (["study", "grokking", "--workers", "0"], "--workers: expected at least 1, got 0"),
        (["study", "grokking", "--minutes", "-1"], "--minutes: expected a number above 0, got -1"),
        (["study", "grokking", "--only", "z*"], "--only: expected a glob that matches a run, got 'z*'"),
        (["study", "grokking", "--executor", "cloud"], "--executor: expected one of processes, local, slurm"),
        (["data", "nothing"], "nothing"),
        (["data", "arithmetic", "--out", "{folder}/step-0.safetensors"], "expected a folder that can be written"),
        (["demo", "--steps", "0"], "--steps: expected a whole number >= 1, got 0"),
        (["demo", "--out", "{folder}/step-0.safetensors/x"], "expected a folder that can be written"),
        (["scan", "{folder}", "--momentum", "1.5"], "--momentum: expected a number of at least 0 and below 1, got 1.5"),
        (["scan", "{folder}", "--engine", "fast"], "--engine: expected auto | exact | sketch, got 'fast'"),
        (["scan", "{folder}", "--cells", "0"], "--cells: expected a positive whole number, got 0"),
        (["scan", "{folder}", "--steps", "step"], "--steps: expected 0,100,200,... or a regular expression with one"),
        (["scan", "{folder}", "--steps", "1,2"], "--steps: expected 14, one for each of"),
        (["scan", "{folder}", "--revisions", "v*"], "--revisions: expected a repository on the hub as source"),
        (["scan", "{folder}", "--stride", "0"], "--stride: expected at least 1 checkpoint, got 0"),
        (["simulate", "bbp", "--parameters", "2"], "parameters of the sweep: expected more than the rows"),
        (["simulate", "flow", "--curvature", "1"], "curvature: expected two numbers"),
        (["simulate", "flow", "--steps", "0"], "steps"),
        (["simulate", "dyson", "--beta", "0.5"], "beta"),
        (["simulate", "quadratic", "--learning-rate", "-1"], "learning"),
        (["simulate", "feedback", "--rate", "nan"], "rate"),
        (["simulate", "weather"], "weather"),
        (["frobnicate"], "frobnicate"),
    ],
)
def test_wrong_input_is_one_line_and_code_2(capsys, checkpoints, arguments, expected):
    code, out, err = call(capsys, *(a.format(folder=checkpoints) for a in arguments))
    assert code == 2
    assert out == ""
    assert expected in err
    assert err.startswith("error: ")
    assert len(err.strip().splitlines()) == 1


SMALL = {
    "flow": ["--steps", "60", "--jump-step", "30"],
    "quadratic": ["--runs", "20", "--window", "8"],
    "dyson": ["--paths", "60", "--draws", "400", "--observations", "200", "--steps", "20"],
    "bbp": ["--draws", "20", "--points", "5"],
    "feedback": ["--period", "100", "--stream", "300", "--dimension", "100"],
}


@pytest.mark.parametrize("model", SMALL)
def test_simulate_prints_sentences_and_draws_or_gives_the_numbers(capsys, tmp_path, monkeypatch, model):
    monkeypatch.chdir(tmp_path)
    code, out, _ = call(capsys, "simulate", model, *SMALL[model])
    assert code == 0
    picture = tmp_path / "runs" / f"simulate-{model}.png"
    assert out.splitlines()[-1] == f"Picture: {picture.relative_to(tmp_path)}"
    assert picture.stat().st_size > 10_000
    picture.unlink()
    code, again, _ = call(capsys, "simulate", model, *SMALL[model], "--json")
    found = json.loads(again)
    assert (code, found["model"], found["picture"]) == (0, model, None)
    assert found["sentences"] == out.splitlines()[:-1]  # the same seed gives the same numbers
    assert not picture.exists()
    for option, value in zip(SMALL[model][::2], SMALL[model][1::2], strict=True):
        assert found["settings"][option[2:].replace("-", "_")] == int(value)


def test_simulate_takes_several_values_in_a_row(capsys):
    code, out, _ = call(capsys, "simulate", "quadratic", "--runs", "20", "--every", "2", "6", "--json")
    assert code == 0
    assert json.loads(out)["settings"]["every"] == [2, 6]


def test_simulate_draws_where_it_is_told(capsys, tmp_path):
    code, out, _ = call(capsys, "simulate", "bbp", *SMALL["bbp"], "--quiet", "--out", str(tmp_path / "deep" / "x.png"))
    assert (code, out) == (0, "")
    assert (tmp_path / "deep" / "x.png").exists()


def test_doctor(capsys):
    code, out, _ = call(capsys, "doctor", "--json")
    assert code == 0
    assert set(json.loads(out)) == {"versions", "devices", "engine", "extras"}
    assert "matplotlib" in call(capsys, "doctor")[1] or "installed" in call(capsys, "doctor")[1]


def test_run_and_report(capsys, tmp_path):
    tiny = ["--set", "steps=60", "--set", "eval_every=20", "--set", "observe_every=2", "--set", "p=7"]
    threads = torch.get_num_threads()
    code, out, _ = call(capsys, "run", "arithmetic", *tiny, "--out", str(tmp_path / "r"), "--json")
    assert code == 0
    assert torch.get_num_threads() == threads
    result = json.loads(out)
    assert result["threads"] == 1
    assert (
        "first test accuracy of at least 0.90: never in 60 steps"
        in call(capsys, "run", "arithmetic", *tiny, "--out", str(tmp_path / "r"))[1]
    )
    assert {"family", "size", "seed", "parameter_count", "watched_count", "grok", "final_metrics", "trace"} <= set(
        result
    )
    page = tmp_path / "r" / "report.html"
    assert (result["finished"], result["report"]) == (True, str(page))
    assert page.exists()
    assert list(page.parent.glob("report-*.png"))
    code, out, _ = call(capsys, "report", str(tmp_path / "r"), "--json")
    assert code == 0
    assert len(json.loads(out)["headline"]) == 3


def test_a_run_whose_time_is_up_is_saved_and_goes_on_as_it_says(capsys, tmp_path):
    tiny = ["--set", "steps=40", "--set", "eval_every=20", "--set", "observe_every=2", "--set", "p=7"]
    typed = ["run", "arithmetic", *tiny, "--out", str(tmp_path / "r"), "--quiet"]
    code, out, err = call(capsys, *typed, "--minutes", "1e-9", "--json")
    told = json.loads(out)
    assert (code, told["finished"], told["step"], told["steps"]) == (75, False, 1, 40)
    assert not (tmp_path / "r" / "result.json").exists()
    said, again = err.splitlines()
    assert said == "Saved at step 1 of 40, as the time is up."
    assert "--minutes 1e-09" in again
    code, _, err = call(capsys, "run", *again.split("run ", 1)[1].replace("1e-09", "30").split(), "--quiet")
    assert (code, err) == (0, "")
    assert json.loads((tmp_path / "r" / "result.json").read_text())["metrics"]["step"] == [1, 20, 40]
    assert "--minutes" not in json.loads((tmp_path / "r" / "result.json").read_text())["command"]


def test_data_are_written_as_text_and_nothing_else_is_overwritten(capsys, tmp_path):
    out = tmp_path / "data"
    typed = ["data", "arithmetic", "--set", "p=5", "--set", "train_fraction=0.6", "--out", str(out)]
    code, said, _ = call(capsys, *typed, "--json")
    assert code == 0
    assert json.loads(said) == {"family": "arithmetic", "folder": str(out), "lines": {"train.txt": 15, "test.txt": 10}}
    lines = [line for name in ("train", "test") for line in (out / f"{name}.txt").read_text().splitlines()]
    rows = [tuple(map(int, line.split())) for line in lines]
    assert sorted(rows) == [(a, b, (a + b) % 5) for a in range(5) for b in range(5)]
    assert {path.name for path in out.iterdir()} == {"train.txt", "test.txt"}
    assert call(capsys, *typed)[1] == f"{out / 'train.txt'}: 15 lines\n{out / 'test.txt'}: 10 lines\n"
    before = (out / "train.txt").read_bytes()
    code, said, err = call(capsys, *typed, "--seed", "7")
    assert (code, said) == (2, "")
    assert err.startswith(f"error: file {out / 'train.txt'}: expected none, or one with the same lines")
    assert (out / "train.txt").read_bytes() == before
    assert {path.name for path in out.iterdir()} == {"train.txt", "test.txt"}


def test_data_that_cannot_be_written_are_wrong_input(capsys, tmp_path, monkeypatch):
    typed = ["data", "arithmetic", "--set", "p=5", "--out", str(tmp_path)]

    def refuse(*_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(tempfile, "TemporaryDirectory", refuse)
    code, said, err = call(capsys, *typed)
    assert (code, said) == (2, "")
    assert err.startswith(f"error: folder {tmp_path}: expected a folder that can be written, got Read-only file system")


def test_real_text_is_fetched_only_when_it_is_asked_for(capsys, tmp_path, monkeypatch):
    def fetch_corpus(folder):
        folder.mkdir()
        (folder / "a.txt").write_text("one\ntwo\n")
        return [folder / "a.txt"]

    monkeypatch.setitem(sys.modules, "spectral_edge.experiments.corpus", SimpleNamespace(fetch_corpus=fetch_corpus))
    code, said, _ = call(capsys, "data", "corpus", "--out", str(tmp_path / "c"), "--json")
    assert (code, json.loads(said)["lines"]) == (0, {"a.txt": 2})


@pytest.fixture
def start_demo():
    started = []

    def start(out):
        started.append(demo_process(out))
        return started[-1]

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()  # its runs see that it is gone, and end
            process.communicate()


def demo_process(out):
    # A shell that runs the tests in the background has Ctrl-C ignored, which a process inherits.
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); import spectral_edge.cli as c; "
    return subprocess.Popen(
        [sys.executable, "-c", code + f"c.main(['demo', '--out', {str(out)!r}])"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for(condition, process):
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and process.poll() is None and not condition():
        time.sleep(0.1)
    assert condition()


def rows(out):
    paths = [out / name / "trace" / "segment-000" / "rows.npy" for name in ("run", "control")]
    return [len(np.load(path)) if path.exists() else 0 for path in paths]


def children(process):
    command = ["ps", "-ww", "-o", "pid=", "-o", "args=", "--ppid", str(process.pid)]
    found = subprocess.run(command, capture_output=True, text=True)
    return [int(line.split()[0]) for line in found.stdout.splitlines() if "spawn_main" in line]


posix = pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs process groups")


@posix
def test_ctrl_c_during_the_demo_leaves_readable_traces_and_says_how_to_go_on(tmp_path, start_demo):
    out = tmp_path / "demo"
    process = start_demo(out)
    wait_for(lambda: min(rows(out)) > 12, process)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert f"report {out / 'run'}\n" in err
    assert f"report {out / 'control'}\n" in err
    assert f"demo --out {out} " in err
    for name in ("run", "control"):
        assert len(se.open_trace(out / name).steps) >= 2
        assert (out / name / "checkpoint.pt").exists()


@posix
def test_sigterm_saves_a_run_as_ctrl_c_does(tmp_path, capsys, monkeypatch):
    train = run_command.experiments.run

    def told(config, folder, *, on_progress, command):
        def progress(state):
            on_progress(state)
            if state.step == 12:
                os.kill(os.getpid(), signal.SIGTERM)

        return train(config, folder, on_progress=progress, command=command)

    monkeypatch.setattr(run_command.experiments, "run", told)
    out = tmp_path / "run"
    code, _, err = call(capsys, "run", "arithmetic", "--set", "steps=40", "--out", str(out))
    assert (code, err.splitlines()[0]) == (130, "Stopped.")
    state = torch.load(out / "checkpoint.pt", weights_only=False)
    assert state["step"] == 12


@posix
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs ps --ppid")
def test_ctrl_c_while_the_runs_start_names_no_folder_and_shows_no_traceback(tmp_path, start_demo):
    out = tmp_path / "demo"
    process = start_demo(out)
    wait_for(lambda: len(children(process)) == 2, process)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert err.splitlines()[0] == "Stopped."
    assert len(err.splitlines()) == 2
    assert "Go on with:" in err


@posix
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs ps --ppid")
def test_a_run_that_is_killed_ends_the_other_which_is_saved(tmp_path, start_demo):
    out = tmp_path / "demo"
    process = start_demo(out)
    wait_for(lambda: min(rows(out)) > 2, process)
    saved = (out / "control" / "checkpoint.pt").stat().st_mtime_ns
    os.kill(min(children(process)), signal.SIGKILL)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 1, err
    assert err.startswith("error: run run: expected a finished run, got a process killed by signal 9")
    assert len(err.splitlines()) == 1
    assert (out / "control" / "checkpoint.pt").stat().st_mtime_ns > saved


def test_a_demo_in_a_folder_of_other_settings_is_refused_before_anything_starts(capsys, tmp_path, monkeypatch):
    tiny = ["--set", "steps=4", "--set", "eval_every=2", "--set", "observe_every=1", "--set", "p=7"]
    assert call(capsys, "run", "arithmetic", *tiny, "--out", str(tmp_path / "run"))[0] == 0
    monkeypatch.setattr("spectral_edge.demo._start", lambda *_: pytest.fail("started"))
    code, _, err = call(capsys, "demo", "--out", str(tmp_path), "--quiet")
    assert code == 2
    assert "steps=4" in err
    assert len(err.strip().splitlines()) == 1


def test_doctor_says_which_engine_a_model_gets_and_why(capsys):
    cases = {
        ("124M",): ("sketch", "at least 16 parameters a cell"),
        ("400k",): ("exact", "fewer than 16 parameters a cell"),
        ("20M", "--ranks", "32"): ("exact", "bfloat16 costs next to nothing"),
        ("7G", "--ranks", "64", "--dtype", "bfloat16"): ("sketch", "at least 16"),
    }
    for arguments, (engine, why) in cases.items():
        main(["doctor", "--parameters", *arguments, "--json"])
        model = json.loads(capsys.readouterr().out)["this model"]
        assert model["engine"] == engine
        assert why in model["why"]
        assert "MB" in model["keeps"]


@pytest.mark.parametrize(
    ("arguments", "found"),
    [(["lots"], "'lots'"), (["-5"], "-5"), (["1M", "--dtype", "int64"], "int64"), (["1M", "--ranks", "0"], "0")],
)
def test_doctor_refuses_models_that_cannot_be(arguments, found, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["doctor", "--parameters", *arguments])
    assert ended.value.code == 2
    assert found in capsys.readouterr().err


def test_a_hub_source_without_its_extra_names_it(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    code, _, error = call(capsys, "scan", "hub:owner/name")
    assert code == 2
    assert "spectral-edge[hub]" in error
