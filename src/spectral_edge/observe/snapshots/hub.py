"""The revisions of a repository on the Hugging Face hub, fetched one at a time and deleted after use."""

import re
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

from spectral_edge.errors import InputError, MissingExtraError
from spectral_edge.observe.snapshots.folders import INDEX, SUFFIXES, checkpoint_in
from spectral_edge.observe.snapshots.snapshot import Named, Snapshot, UnreadableError, opened
from spectral_edge.observe.snapshots.steps import Steps, numbered, step_in

SCHEMES = ("hub:", "hf://")
"""How a source says that it is a repository on the hub."""


class HubClient(Protocol):
    """What is asked of a hub."""

    def revisions(self, repository: str) -> list[str]:
        """Names of its branches and tags."""
        ...

    def files(self, repository: str, revision: str) -> list[str]:
        """Paths of the files of a revision."""
        ...

    def fetch(self, repository: str, revision: str, file: str, folder: Path) -> Path:
        """Downloads a file into a folder and says where it lies."""
        ...


class HuggingFaceHub:
    """The hub through its own client; the extra `hub`.

    Raises:
        MissingExtraError: without it.
    """

    def __init__(self) -> None:
        try:
            import huggingface_hub  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise MissingExtraError("huggingface_hub", extra="hub", purpose="a repository on the hub") from error
        self._library: Any = huggingface_hub

    def revisions(self, repository: str) -> list[str]:
        """Names of its branches and tags."""
        refs = self._library.HfApi().list_repo_refs(repository)
        return [ref.name for ref in (*refs.branches, *refs.tags)]

    def files(self, repository: str, revision: str) -> list[str]:
        """Paths of the files of a revision."""
        return list(self._library.HfApi().list_repo_files(repository, revision=revision))

    def fetch(self, repository: str, revision: str, file: str, folder: Path) -> Path:
        """Downloads a file into a folder, past the client's own cache, which nothing would ever empty."""
        return Path(self._library.hf_hub_download(repository, file, revision=revision, local_dir=folder))


def is_hub(source: Any) -> bool:
    """Whether a source names a repository on the hub."""
    return isinstance(source, str) and source.startswith(SCHEMES)


def hub_series(
    source: str,
    *,
    revisions: str | Sequence[str] | None,
    steps: Steps | None,
    allow_pickle: bool,
    client: HubClient | None,
) -> list[Snapshot]:
    """The revisions of a repository in step order.

    Args:
        source: "hub:owner/name" or "hf://owner/name".
        revisions: a glob over branches and tags, "re:" and a regular expression, or their names; those with a number
            in their names by default.
        steps: of the revisions in natural order, or a function from a name; None finds them in the names.
        allow_pickle: load torch files that need full unpickling.
        client: of the hub; the Hugging Face one by default.

    Raises:
        InputError: if no revision matches, or the hub cannot be reached.
        MissingExtraError: without the extra `hub`.
    """
    repository = next(source.removeprefix(scheme) for scheme in SCHEMES if source.startswith(scheme)).strip("/")
    hub = client or HuggingFaceHub()
    try:
        known = list(dict.fromkeys(hub.revisions(repository)))
    except Exception as error:  # of the network, of the hub, of the client
        raise _unreachable(source, error) from error
    wanted = _chosen(known, revisions)
    if not wanted:
        raise InputError(
            source,
            expected=f"revisions that match {revisions!r}" if revisions else "revisions with a step in their names",
            found=", ".join(known[:4]) or "none",
            remedy="pass revisions= (command line: --revisions) with a glob over its branches and tags",
        )
    listed = numbered([(name, (name,), name) for name in wanted], steps)
    return [
        Snapshot(step, name, lambda name=name: _fetched(hub, repository, name, allow_pickle=allow_pickle))
        for step, name in listed
    ]


def _chosen(known: Sequence[str], revisions: str | Sequence[str] | None) -> list[str]:
    if revisions is None:
        return [name for name in known if step_in(name) is not None]
    if not isinstance(revisions, str):
        return list(revisions)
    if revisions.startswith("re:"):
        try:
            pattern = re.compile(revisions.removeprefix("re:"))
        except re.error as error:
            raise InputError(
                "revisions", expected="a regular expression after re:", found=str(error), remedy="use a glob"
            ) from error
        return [name for name in known if pattern.search(name)]
    return [name for name in known if fnmatchcase(name, revisions)]


@contextmanager
def _fetched(hub: HubClient, repository: str, revision: str, *, allow_pickle: bool) -> Generator[Named]:
    """The parameters of a revision, whose files lie in a folder that goes away with them."""
    with TemporaryDirectory(prefix="spectral-edge-") as name:
        folder = Path(name)
        try:
            files = _weights(hub.files(repository, revision))
            for file in files:
                hub.fetch(repository, revision, file, folder)
        except Exception as error:
            found = str(_unreachable(revision, error).found)
            raise UnreadableError(
                f"{repository} at {revision}",
                expected="files that can be fetched",
                found=found,
                remedy="try again later",
            ) from error
        checkpoint = checkpoint_in(folder)
        if checkpoint is None:
            raise UnreadableError(
                f"{repository} at {revision}",
                expected=f"a checkpoint that ends in {', '.join(SUFFIXES)}",
                found="none at its top",
                remedy="fetch its files yourself and scan these",
            )
        with opened(lambda: checkpoint.entries(revision, allow_pickle=allow_pickle), revision) as found:
            yield found


def _weights(files: Sequence[str]) -> list[str]:
    """The files at the top of a revision that hold the parameters: safetensors where there are any."""
    top = [file for file in files if "/" not in file]
    safe = [file for file in top if file.endswith((".safetensors", INDEX[0]))]
    return safe or [file for file in top if file.endswith((*SUFFIXES, INDEX[1])) and file != "training_args.bin"]


def _unreachable(subject: str, error: Exception) -> InputError:
    first = (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
    return InputError(
        subject, expected="a repository that can be read", found=first, remedy="check its name, the network and access"
    )
