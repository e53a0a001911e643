"""The benchmarks run at toy sizes, and the page of the documentation is what they make of the records."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RUN = ROOT / "benchmarks" / "run.py"
RECORDS = ROOT / "results" / "benchmarks"

pytestmark = pytest.mark.skipif(not RUN.is_file(), reason="the benchmarks are not part of an installed package")


def command(*words):
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, str(RUN), *map(str, words)], check=True, env=environment, capture_output=True)


PARTS = ("observe", "training", "memory", "growth", "accuracy", "scan")


@pytest.mark.slow  # half a minute, and nothing in the package depends on it
def test_every_part_runs_at_toy_sizes(tmp_path):
    command("--quick", "--out", tmp_path, "--scratch", tmp_path)
    for part in PARTS:
        record = json.loads((tmp_path / "results" / "benchmarks" / f"{part}.json").read_text(encoding="utf-8"))
        assert record["results"]
        assert record["machine"]["threads"] == 1
    assert "Not run: `" not in (tmp_path / "docs" / "performance.md").read_text(encoding="utf-8")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["docs", "results"]


@pytest.fixture
def page(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("page").page


def test_parts_that_were_not_run_are_said_to_be_missing(page):
    assert all(f"Not run: `python benchmarks/run.py {part}`" in page({}) for part in PARTS)
    assert "not met" not in page({})


def test_the_page_is_what_the_records_say(page):
    records = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in RECORDS.glob("*.json")}
    written = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    assert page(records) == written, "run: python benchmarks/run.py page"
