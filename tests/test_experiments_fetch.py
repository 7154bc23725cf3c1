"""Fetching: from a server on this machine that breaks off, lies, or knows nothing of resuming."""

from __future__ import annotations

import hashlib
import io
import tarfile
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from typer.testing import CliRunner

from kmixup.cli.app import app
from kmixup.experiments.datasets import DATASETS
from kmixup.experiments.datasets.fetch import FETCHABLE, Source, fetch, fetch_dataset, sources, unpack

CONTENT = bytes(range(256)) * 4000


def md5(content):
    return "md5:" + hashlib.md5(content, usedforsecurity=False).hexdigest()


class Server:
    """Serves CONTENT; ``break_after`` bytes once, then whole; with or without ranges."""

    def __init__(self, content=CONTENT, break_after=None, ranges=True):
        self.ranges_asked = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                asked = self.headers.get("Range")
                server.ranges_asked.append(asked)
                start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and ranges else 0
                if start >= len(content):
                    self.send_error(416)
                    return
                body = content[start:]
                self.send_response(206 if start else 200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                nonlocal break_after
                if break_after is not None:
                    body, break_after = body[:break_after], None
                self.wfile.write(body)

            def log_message(self, *arguments):
                pass

        self.http = HTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.http.serve_forever)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *error):
        self.http.shutdown()
        self.thread.join()
        self.http.server_close()

    def source(self, content=CONTENT, name="numbers.bin"):
        return Source(f"http://127.0.0.1:{self.http.server_port}/a%20folder/{name}", md5(content), len(content))


def test_a_file_is_fetched_whole(tmp_path):
    with Server() as server:
        file = fetch(server.source(), tmp_path / "new")
    assert file == tmp_path / "new" / "numbers.bin"
    assert file.read_bytes() == CONTENT
    assert list(file.parent.iterdir()) == [file]


def test_a_broken_connection_is_resumed_where_it_broke(tmp_path):
    with Server(break_after=300_000) as server:
        with pytest.raises(OSError, match=r"broke off.*bytes are kept.*fetch again to resume"):
            fetch(server.source(), tmp_path, quiet=True)
        assert not (tmp_path / "numbers.bin").exists()
        kept = (tmp_path / "numbers.bin.part").stat().st_size
        assert 0 < kept < len(CONTENT)
        assert fetch(server.source(), tmp_path, quiet=True).read_bytes() == CONTENT
    assert server.ranges_asked == [None, f"bytes={kept}-"]


def test_a_server_without_ranges_is_fetched_from_the_start(tmp_path):
    (tmp_path / "numbers.bin.part").write_bytes(CONTENT[:1000])
    with Server(ranges=False) as server:
        assert fetch(server.source(), tmp_path, quiet=True).read_bytes() == CONTENT


def test_a_part_that_is_already_whole_is_taken(tmp_path):
    (tmp_path / "numbers.bin.part").write_bytes(CONTENT)
    with Server() as server:
        assert fetch(server.source(), tmp_path, quiet=True).read_bytes() == CONTENT


def test_a_file_that_is_there_is_not_fetched_again(tmp_path):
    (tmp_path / "numbers.bin").write_bytes(CONTENT)
    with Server() as server:
        fetch(server.source(), tmp_path, quiet=True)
    assert server.ranges_asked == []


def test_another_file_of_that_name_is_neither_used_nor_overwritten(tmp_path):
    (tmp_path / "numbers.bin").write_bytes(b"mine")
    with Server() as server, pytest.raises(ValueError, match="Move it away"):
        fetch(server.source(), tmp_path, quiet=True)
    assert (tmp_path / "numbers.bin").read_bytes() == b"mine"


def test_a_wrong_checksum_leaves_nothing(tmp_path):
    with Server(content=CONTENT[::-1]) as server, pytest.raises(ValueError, match="gave a file with checksum"):
        fetch(server.source(), tmp_path, quiet=True)
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_is_not_there_is_an_error_that_says_so(tmp_path):
    with Server() as server:
        source = server.source()
    with pytest.raises(OSError, match="0 bytes are kept"):
        fetch(source, tmp_path, quiet=True)


def test_only_web_addresses_are_fetched(tmp_path):
    with pytest.raises(ValueError, match="http or https"):
        fetch(Source("file:///etc/hostname", "md5:0"), tmp_path)


def test_a_checksum_of_an_unknown_kind_is_refused(tmp_path):
    (tmp_path / "x").write_bytes(b"")
    with pytest.raises(ValueError, match=r"md5:\.\.\. or sha256:"):
        fetch(Source("http://localhost/x", "crc:1"), tmp_path)


def tar_of(members):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as packed:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            packed.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def zip_of(members):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as packed:
        for name, content in members.items():
            packed.writestr(name, content)
    return stream.getvalue()


@pytest.mark.parametrize(("make", "ending"), [(tar_of, ".tar.gz"), (zip_of, ".zip")])
def test_archives_are_unpacked_but_not_outside_their_folder(tmp_path, make, ending):
    good, bad = tmp_path / f"good{ending}", tmp_path / f"bad{ending}"
    good.write_bytes(make({"folder/a.txt": b"a"}))
    bad.write_bytes(make({"../outside.txt": b"b"}))
    unpack(good, tmp_path / "into")
    assert (tmp_path / "into" / "folder" / "a.txt").read_bytes() == b"a"
    with pytest.raises(ValueError, match="outside its folder"):
        unpack(bad, tmp_path / "into")
    assert not (tmp_path / "outside.txt").exists()


def test_archives_are_unpacked_where_tarfile_has_no_filters(tmp_path, monkeypatch):
    for name in ("FilterError", "data_filter", "fully_trusted_filter"):  # Python 3.11.2, Debian 12's, has none of them
        monkeypatch.delattr(tarfile, name, raising=False)
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(tar_of({"cifar-10-batches-py/data_batch_1": b"abc"}))
    unpack(tmp_path / "cifar-10-python.tar.gz", tmp_path)
    assert (tmp_path / "cifar-10-batches-py" / "data_batch_1").read_bytes() == b"abc"


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_links_in_archives_are_refused(tmp_path, kind):
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as packed:
        info = tarfile.TarInfo("link")
        info.type, info.linkname = kind, "../../etc"
        packed.addfile(info)
    with pytest.raises(ValueError, match="neither file nor folder: link"):
        unpack(tmp_path / "a.tar.gz", tmp_path / "into")
    assert not (tmp_path / "into").exists()


@pytest.mark.parametrize(("make", "ending"), [(tar_of, ".tar.gz"), (zip_of, ".zip")])
def test_a_damaged_archive_is_named_and_leaves_no_half_file(tmp_path, make, ending):
    content = make({"a.bin": bytes(range(256)) * 400, "b.bin": CONTENT})
    archive = tmp_path / f"a{ending}"
    archive.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=f"a{ending} is a damaged archive .*fetch it again"):
        unpack(archive, tmp_path / "into")
    assert not (tmp_path / "into" / "b.bin").exists()


def test_a_fetched_data_set_is_found_by_its_loader(tmp_path, monkeypatch):
    from test_experiments_images import write_cifar

    monkeypatch.setenv("KMIXUP_CACHE", str(tmp_path / "cache"))
    names = [*[f"data_batch_{i}" for i in range(1, 6)], "test_batch"]
    write_cifar(tmp_path / "made", names, "labels", 10)
    archive = tar_of({f"cifar-10-batches-py/{name}": (tmp_path / "made" / name).read_bytes() for name in names})
    with Server(content=archive) as server:
        source = server.source(archive, name="cifar-10-python.tar.gz")
        monkeypatch.setitem(FETCHABLE, "cifar10", lambda: [source])
        fetch_dataset("cifar10", quiet=True)
    assert len(DATASETS["cifar10"](None, 0).x_train) == 60


@pytest.mark.parametrize("name", FETCHABLE)
def test_every_source_has_an_address_and_a_checksum(name):
    assert name in DATASETS
    for source in sources(name):
        assert source.url.startswith("http")
        kind, _, digits = source.checksum.partition(":")
        assert len(digits) == {"md5": 32, "sha256": 64}[kind]
        assert int(digits, 16)


def test_data_sets_that_are_not_fetched_are_refused():
    with pytest.raises(ValueError, match=r"unknown data set to fetch .* Known: abalone, .* Others are drawn"):
        sources("iris")


def test_the_command_line_lists_data_sets_and_how_to_get_them():
    listing = CliRunner().invoke(app, ["data", "list"])
    assert listing.exit_code == 0
    for name in DATASETS:
        assert name in listing.output
