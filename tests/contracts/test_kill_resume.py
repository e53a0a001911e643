"""A run killed at any instant, in the middle of a write too, goes on with the readings of one that was not."""

import json
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np

import spectral_edge as se

SCRIPT = Path(__file__).parents[1] / "support" / "killable.py"


def readings(path):
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return {step: rest for step, *rest in lines}, lines


def test_killed_and_resumed_equals_uninterrupted(tmp_path):
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(tmp_path), "400", "24"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    lives = json.loads(done.stdout.splitlines()[-1])
    assert lives["killed"] >= 5
    assert lives["torn"] >= 5
    assert lives["killed"] + lives["torn"] >= 20

    whole, _ = readings(tmp_path / "whole.readings.jsonl")
    _, given = readings(tmp_path / "killed.readings.jsonl")
    assert len(given) > 100
    for step, *values in given:
        assert values == whole[step], f"the reading of step {step} changed after a resume"

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", se.SpectralEdgeWarning)
        straight, resumed = se.open_trace(tmp_path / "whole"), se.open_trace(tmp_path / "killed")
    assert len(resumed.segments) > 5
    np.testing.assert_array_equal(resumed.steps, straight.steps)
    np.testing.assert_array_equal(resumed.lag_rows(), straight.lag_rows())
    for name in straight.metric_names:
        np.testing.assert_array_equal(resumed.metrics(name), straight.metrics(name))
    first, second = straight.edge(window=4), resumed.edge(window=4)
    for name in ("sigma", "k_star_raw", "alpha_overlap", "band_percentile"):
        np.testing.assert_array_equal(first[name], second[name])
    for one, other in zip(straight.probes("theta"), resumed.probes("theta"), strict=True):
        assert one.step == other.step
        np.testing.assert_array_equal(one.lags, other.lags)
        np.testing.assert_array_equal(one.following, other.following)


def test_numpy_alone_reads_a_trace(tmp_path):
    """Readable without us: rows.npy is a plain .npy file at any moment, also while the run is open."""
    import torch

    parameter = torch.zeros(50)
    monitor = se.Monitor({"w": parameter}, window=3, every=1, out=tmp_path / "t")
    for step in range(1, 8):
        parameter += torch.linspace(0, step, 50)
        monitor.step()
        rows = np.load(tmp_path / "t" / "segment-000" / "rows.npy")
        assert rows["step"].tolist() == list(range(1, step + 1))
    np.testing.assert_array_equal(rows["lags"].sum(axis=1), se.open_trace(tmp_path / "t").lag_rows())
