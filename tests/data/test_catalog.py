"""Published files: from a folder or from the network, and only with the contents that were published."""

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import requests

from mlip_sweep.data.catalog import CATALOG, Published, published_file
from mlip_sweep.data.checksums import git_blob_id
from mlip_sweep.errors import InputError

HELLO = "ce013625030ba8dba906f756967f9e9ca394464a"  # printf 'hello\n' | git hash-object --stdin


class Host:
    """A folder that is served at `address`, and the paths that were asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: list[str] = []
        self.address = ""


@pytest.fixture
def host(tmp_path, monkeypatch) -> Iterator[Host]:
    """A server on this machine from which the data set "greeting" can be downloaded: one file, train.xyz."""
    host = Host(tmp_path / "served")
    host.folder.mkdir()
    (host.folder / "train.xyz").write_bytes(b"hello\n")

    class Handler(SimpleHTTPRequestHandler):
        def do_GET(self):
            host.asked.append(self.path)
            super().do_GET()

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(host.folder))) as server:
        host.address = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        entry = Published(host.address, {"train.xyz": HELLO}, "train.xyz", 300.0, {}, "")
        monkeypatch.setitem(CATALOG, "greeting", entry)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield host
        server.shutdown()
        thread.join()


def test_blob_id_is_that_of_git(tmp_path):
    (tmp_path / "file").write_bytes(b"hello\n")
    assert git_blob_id(tmp_path / "file") == HELLO


def test_a_download_is_kept(host, tmp_path):
    first = published_file("greeting", "train.xyz", tmp_path / "cache")
    assert first.read_bytes() == b"hello\n"
    assert published_file("greeting", "train.xyz", tmp_path / "cache") == first
    assert host.asked == ["/train.xyz"]


def test_a_download_with_other_contents_is_refused_until_it_is_deleted(host, tmp_path):
    (host.folder / "train.xyz").write_bytes(b"goodbye\n")
    for _ in range(2):  # what lies in the cache is checked each time
        with pytest.raises(InputError, match=rf"train\.xyz: its git blob id is .*{HELLO}; delete it") as error:
            published_file("greeting", "train.xyz", tmp_path / "cache")
    assert len(host.asked) == 1
    Path(str(error.value).split(": its git")[0]).unlink()
    (host.folder / "train.xyz").write_bytes(b"hello\n")
    assert published_file("greeting", "train.xyz", tmp_path / "cache").read_bytes() == b"hello\n"


def test_a_file_from_a_folder_is_taken_where_it_lies(host, tmp_path):
    path = published_file("greeting", "train.xyz", tmp_path / "cache", folder=host.folder)
    assert path == host.folder / "train.xyz"
    assert host.asked == []
    assert not (tmp_path / "cache").exists()


def test_a_file_of_a_folder_with_other_contents_is_refused_unless_told_otherwise(host, tmp_path):
    (host.folder / "train.xyz").write_bytes(b"hello \n")
    with pytest.raises(InputError, match=rf"train\.xyz: its git blob id is .*{HELLO}; .*dataset\.verify=false"):
        published_file("greeting", "train.xyz", tmp_path, folder=host.folder)
    path = published_file("greeting", "train.xyz", tmp_path, folder=host.folder, verify=False)
    assert path.read_bytes() == b"hello \n"


def test_a_folder_without_the_file(tmp_path):
    with pytest.raises(InputError, match=r"has no train_300K.xyz; put train_300K.xyz"):
        published_file("3bpa", "train_300K.xyz", tmp_path, folder=tmp_path)


def test_a_file_that_the_host_lacks(host, tmp_path):
    (host.folder / "train.xyz").unlink()
    message = rf"cannot download {host.address}/train\.xyz \(HTTPError\); .*dataset\.folder="
    with pytest.raises(InputError, match=message):
        published_file("greeting", "train.xyz", tmp_path / "cache")
    assert not list((tmp_path / "cache").rglob("*.xyz"))  # no page of the host's error is taken for the file


def test_without_network_the_message_names_the_address_and_the_way_out(tmp_path, monkeypatch):
    def no_network(self, *args, **kwargs):
        raise requests.exceptions.ConnectionError("no route")

    monkeypatch.setattr(requests.Session, "send", no_network)
    address = r"https://.*29e6d467317e4b5967b7ea5cbee54de953fa0d45/dataset_3BPA/train_300K\.xyz"
    with pytest.raises(InputError, match=rf"cannot download {address} .*dataset\.folder=") as error:
        published_file("3bpa", "train_300K.xyz", tmp_path)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.rglob("*.xyz"))  # nothing half-made is left


def test_every_file_of_the_catalog_has_its_id():
    for entry in CATALOG.values():
        assert set(entry.blob_ids) == {entry.train, *entry.tests.values(), entry.isolated_atoms}
        assert all(len(blob_id) == 40 for blob_id in entry.blob_ids.values())


def test_the_catalog_has_the_id_of_the_file_that_was_published(published_3bpa, tmp_path):
    path = published_file("3bpa", "train_300K.xyz", tmp_path, folder=published_3bpa)
    assert sum(line.strip() == "27" for line in path.open()) == 500  # frames of 27 atoms each
