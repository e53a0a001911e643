"""The command line as a user types it: results, one-line errors, exit codes, Ctrl-C."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import spectral_edge as se
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


def test_scan_as_a_table_and_report(capsys, checkpoints, tmp_path):
    page = tmp_path / "page.html"
    code, out, _ = call(capsys, "scan", str(checkpoints / "*.safetensors"), "--window", "4", "--report", str(page))
    assert code == 0
    assert "coherence" in out
    assert len(out.splitlines()[0]) <= 80
    assert page.exists()


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
        (["run", "arithmetic", "--set", "seed=-1"], "-1"),
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


def test_doctor(capsys):
    code, out, _ = call(capsys, "doctor", "--json")
    assert code == 0
    assert set(json.loads(out)) == {"versions", "devices", "engine", "extras"}
    assert "matplotlib" in call(capsys, "doctor")[1] or "installed" in call(capsys, "doctor")[1]


def test_run_and_report(capsys, tmp_path):
    tiny = ["--set", "steps=60", "--set", "eval_every=20", "--set", "observe_every=2", "--set", "p=7"]
    code, out, _ = call(capsys, "run", "arithmetic", *tiny, "--out", str(tmp_path / "r"), "--json")
    assert code == 0
    result = json.loads(out)
    assert {"family", "size", "seed", "parameter_count", "watched_count", "grok", "final_metrics", "trace"} <= set(
        result
    )
    code, out, _ = call(capsys, "report", str(tmp_path / "r"), "--json")
    assert code == 0
    assert len(json.loads(out)["headline"]) == 3


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs process groups")
def test_ctrl_c_during_the_demo_leaves_readable_traces_and_says_how_to_go_on(tmp_path):
    out = tmp_path / "demo"
    command = [sys.executable, "-m", "spectral_edge", "demo", "--out", str(out)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    deadline = time.monotonic() + 90
    rows = [out / name / "trace" / "segment-000" / "rows.npy" for name in ("run", "control")]
    while time.monotonic() < deadline and not all(p.exists() and len(np.load(p)) > 2 for p in rows):
        time.sleep(0.3)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "-m spectral_edge demo --out" in err
    for name in ("run", "control"):
        assert len(se.open_trace(out / name).steps) >= 2
        assert (out / name / "checkpoint.pt").exists()
