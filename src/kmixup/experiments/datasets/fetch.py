"""Fetch data files: explicitly, with a checksum, resumed where a broken connection left off.

Nothing is fetched by a loader: only `kmixup data fetch NAME`, or these functions.
"""

from __future__ import annotations

import gzip
import hashlib
import http.client
import shutil
import tarfile
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from kmixup.experiments.datasets.cache import cache_dir
from kmixup.experiments.files import write_whole
from kmixup.experiments.trial import unknown

if TYPE_CHECKING:
    from collections.abc import Iterator

_CHUNK = 2**18
_TIMEOUT = 60


@dataclass(frozen=True)
class Source:
    """One file on the web.

    Attributes:
        url: ``http`` or ``https``.
        checksum: ``"md5:..."`` or ``"sha256:..."`` of the whole file, as its publisher or the reader of its format
            gives it.
        size: Bytes, where known: shown before fetching.
    """

    url: str
    checksum: str
    size: int | None = None

    @property
    def name(self) -> str:
        """The file's name."""
        return PurePosixPath(unquote(urlsplit(self.url).path)).name


def sources(name: str) -> list[Source]:
    """The files of a data set; the checksums of MNIST, Fashion-MNIST, CIFAR and SVHN are torchvision's.

    Raises:
        ValueError: If the data set is not one that is fetched.
    """
    if name not in FETCHABLE:
        raise ValueError(
            unknown("data set to fetch", name, FETCHABLE) + " Others are drawn, come with a library, or are yours."
        )
    return FETCHABLE[name]()


def fetch_dataset(name: str, into: Path | None = None, *, quiet: bool = False) -> Path:
    """Fetch and unpack a data set.

    Args:
        name: As in `DATASETS`.
        into: Folder; default: the one in kmixup's cache where the loader looks.
        quiet: No progress bar.

    Returns:
        The folder.
    """
    into = into or cache_dir() / "data" / name
    if name in OPENML:
        _openml(name, into)
    for source in sources(name):
        file = fetch(source, into, quiet=quiet)
        if file.name.endswith((".tar.gz", ".zip")):
            unpack(file, into)
    return into


def fetch(source: Source, into: Path, *, quiet: bool = False) -> Path:
    """Fetch one file, or finish what an earlier call began; a file that is there and whole is left alone.

    Bytes go to ``NAME.part`` and become ``NAME`` when the checksum is right, so ``NAME`` is never half a file.

    Args:
        source: What to fetch.
        into: Folder, made if missing.
        quiet: No progress bar.

    Returns:
        Path of the file.

    Raises:
        OSError: If the connection fails or breaks; what came is kept, and the same call resumes.
        ValueError: If the checksum is wrong, of a fetched file (which is removed) or of one that was there (which is
            kept).
    """
    if urlsplit(source.url).scheme not in ("http", "https"):
        raise ValueError(f"a source must be http or https, got {source.url!r}.")
    into.mkdir(parents=True, exist_ok=True)
    file, part = into / source.name, into / f"{source.name}.part"
    if file.exists():
        if _checksum(file, source.checksum) != source.checksum:
            raise ValueError(f"{file} is there, but its checksum is not {source.checksum}. Move it away to fetch it.")
        return file
    with _progress(source, quiet) as advance:
        try:
            _receive(source, part, advance)
        except (OSError, http.client.HTTPException) as error:
            kept = part.stat().st_size if part.exists() else 0
            raise OSError(
                f"{source.url} broke off: {error}. {kept:,} bytes are kept in {part}; fetch again to resume, or put "
                f"the file into {into} by hand."
            ) from error
    found = _checksum(part, source.checksum)
    if found != source.checksum:
        part.unlink()
        raise ValueError(f"{source.url} gave a file with checksum {found}, not {source.checksum}. Fetch again.")
    part.replace(file)
    return file


def unpack(archive: Path, into: Path) -> None:
    """Unpack the files of a ``.tar.gz`` or ``.zip``, each whole or not at all.

    By one rule for both, and for every version of Python: files and folders alone, and none outside the folder.

    Raises:
        ValueError: If a member has a path outside the folder or is a link, or the archive is damaged.
    """
    try:
        if archive.suffix == ".zip":
            with zipfile.ZipFile(archive) as packed:
                members = [member for member in packed.infolist() if not member.is_dir()]
                _check_members(archive, into, [(member.filename, True) for member in members])
                for member in members:
                    with packed.open(member) as content:
                        _unpack_file(content, into / member.filename)
        else:
            with tarfile.open(archive) as packed:
                members = [member for member in packed.getmembers() if not member.isdir()]
                _check_members(archive, into, [(member.name, member.isreg()) for member in members])
                for member in members:
                    content = packed.extractfile(member)
                    assert content is not None  # it is a file
                    _unpack_file(content, into / member.name)
    except (tarfile.ReadError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise ValueError(f"{archive} is a damaged archive ({error}). Remove it, and fetch it again.") from error


def _check_members(archive: Path, into: Path, members: Sequence[tuple[str, bool]]) -> None:
    folder = into.resolve()
    for name, is_file in members:
        if not (into / name).resolve().is_relative_to(folder):
            raise ValueError(f"{archive} has a member outside its folder: {name}.")
        if not is_file:
            raise ValueError(f"{archive} has a member that is neither file nor folder: {name}.")


def _unpack_file(content: IO[bytes], file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f"{file.name}.part")
    with part.open("wb") as stream:
        shutil.copyfileobj(content, stream)
    part.replace(file)


def _receive(source: Source, part: Path, advance: Callable[[int, int | None], None]) -> None:
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(source.url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response = urllib.request.urlopen(request, timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:  # nothing is left to send: the part is the file, or the checksum will tell
            return
        raise
    with response:
        resumed = response.status == 206
        length = response.headers.get("Content-Length")
        total = None if length is None else int(length) + (have if resumed else 0)
        received = have if resumed else 0
        with part.open("ab" if resumed else "wb") as stream:
            advance(received, total)
            while chunk := response.read(_CHUNK):
                stream.write(chunk)
                received += len(chunk)
                advance(received, total)
        if total is not None and received != total:
            raise OSError(f"{received:,} of {total:,} bytes came")


def _checksum(file: Path, like: str) -> str:
    kind, colon, _ = like.partition(":")
    if not colon or kind not in ("md5", "sha256"):
        raise ValueError(f"a checksum must be md5:... or sha256:..., got {like!r}.")
    digest = hashlib.new(kind, usedforsecurity=False)
    with file.open("rb") as stream:
        while chunk := stream.read(2**20):
            digest.update(chunk)
    return f"{kind}:{digest.hexdigest()}"


@contextmanager
def _bar(name: str) -> Iterator[Callable[[int, int | None], None]]:
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    columns: list[Any] = ["{task.description}", BarColumn(), DownloadColumn(), TransferSpeedColumn()]
    with Progress(*columns, TimeRemainingColumn()) as progress:
        task = progress.add_task(name, total=None)
        yield lambda received, total: progress.update(task, completed=received, total=total)


@contextmanager
def _silence() -> Iterator[Callable[[int, int | None], None]]:
    yield lambda received, total: None


def _progress(source: Source, quiet: bool) -> AbstractContextManager[Callable[[int, int | None], None]]:
    return _silence() if quiet else _bar(source.name)


# --- where the data sets are ------------------------------------------------------------------------------------------


def _idx(name: str) -> list[Source]:
    from torchvision import datasets

    reader = {"mnist": datasets.MNIST, "fashion-mnist": datasets.FashionMNIST}[name]
    return [Source(reader.mirrors[0] + file, f"md5:{md5}") for file, md5 in reader.resources]


def _cifar(name: str) -> list[Source]:
    from torchvision import datasets

    reader = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[name]
    return [Source(reader.url, f"md5:{reader.tgz_md5}")]


def _svhn() -> list[Source]:
    from torchvision import datasets

    listed = datasets.SVHN.split_list
    return [Source(listed[part][0], f"md5:{listed[part][2]}") for part in ("train", "test")]


def _tiny_imagenet() -> list[Source]:
    # The checksum that the readers in use of this archive agree on; its publisher gives none.
    return [
        Source("http://cs231n.stanford.edu/tiny-imagenet-200.zip", "md5:90528d7ca1a48142e341f4ef8d21d0de", 248_100_043)
    ]


def _speech_commands() -> list[Source]:
    # torchaudio's checksum.
    url = "https://storage.googleapis.com/download.tensorflow.org/data/speech_commands_v0.01.tar.gz"
    return [Source(url, "sha256:743935421bb51cccdb6bdd152e04c5c70274e935c82119ad7faeec31780d811d")]


def _uci(name: str, checksum: str, size: int) -> list[Source]:
    base = "https://archive.ics.uci.edu/ml/machine-learning-databases"
    return [Source(f"{base}/{name}/{name}.data", f"sha256:{checksum}", size)]


def _abalone() -> list[Source]:
    return _uci("abalone", "de37cdcdcaaa50c309d514f248f7c2302a5f1f88c168905eba23fe2fbc78449f", 191_873)


def _arrhythmia() -> list[Source]:
    return _uci("arrhythmia", "a7f0f4ca289a4c58b5ed85a9adb793189acd38425828ce3dfbb70adb45f30169", 402_355)


def _openml(name: str, into: Path) -> None:
    """A table from OpenML, through scikit-learn, which checks OpenML's checksum; as CSV, the class in the last column.

    For data that UCI offers only in an archive without a checksum.
    """
    from sklearn.datasets import fetch_openml

    title, file = OPENML[name]
    if (into / file).is_file():
        return
    table: Any = fetch_openml(title, version=1, as_frame=False, parser="liac-arff", data_home=str(into / "openml"))
    columns = []
    for column, feature in zip(table["data"].T, table["feature_names"], strict=True):
        words = (table["categories"] or {}).get(feature)  # scikit-learn numbers the words of a nominal column
        columns.append([words[int(code)] if words else f"{float(code):g}" for code in column])
    rows = zip(*columns, table["target"], strict=True)
    write_whole(into / file, "".join(",".join(map(str, row)) + "\n" for row in rows))


OPENML = {"phishing": ("PhishingWebsites", "phishing_websites.csv")}
"""Data sets that `kmixup data fetch` takes from OpenML: their title there, and the file that the loader reads."""

FETCHABLE: dict[str, Callable[[], list[Source]]] = {
    "abalone": _abalone,
    "arrhythmia": _arrhythmia,
    "phishing": list,
    "mnist": lambda: _idx("mnist"),
    "fashion-mnist": lambda: _idx("fashion-mnist"),
    "cifar10": lambda: _cifar("cifar10"),
    "cifar100": lambda: _cifar("cifar100"),
    "svhn": _svhn,
    "tiny-imagenet": _tiny_imagenet,
    "speech-commands": _speech_commands,
}
"""Data sets that `kmixup data fetch` knows, by name."""
