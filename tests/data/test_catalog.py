import shutil

import pytest
import requests

from mlip_sweep.data import catalog
from mlip_sweep.data.catalog import CATALOG, published_file
from mlip_sweep.data.checksums import git_blob_id
from mlip_sweep.errors import InputError


def test_blob_id_is_that_of_git(tmp_path):
    # `printf 'hello\n' | git hash-object --stdin`
    (tmp_path / "file").write_bytes(b"hello\n")
    assert git_blob_id(tmp_path / "file") == "ce013625030ba8dba906f756967f9e9ca394464a"


def test_the_published_training_file_passes(published_3bpa, tmp_path):
    path = published_file("3bpa", "train_300K.xyz", tmp_path, folder=published_3bpa)
    assert git_blob_id(path) == "93cdf96b0a4d8d81ca52889c4697a553471779f5"


def test_a_file_that_is_not_the_published_one_is_refused(published_3bpa, tmp_path):
    with pytest.raises(InputError, match=r"test_600K.xyz: its git blob id is 105a10.*681d24.*dataset.verify=false"):
        published_file("3bpa", "test_600K.xyz", tmp_path, folder=published_3bpa)
    assert published_file("3bpa", "test_600K.xyz", tmp_path, folder=published_3bpa, verify=False).exists()


def test_a_folder_without_the_file(tmp_path):
    with pytest.raises(InputError, match=r"has no train_300K.xyz; put train_300K.xyz"):
        published_file("3bpa", "train_300K.xyz", tmp_path, folder=tmp_path)


def test_without_network_the_message_names_the_address_and_the_way_out(tmp_path, monkeypatch):
    def no_network(self, *args, **kwargs):
        raise requests.exceptions.ConnectionError("no route")

    monkeypatch.setattr(requests.Session, "send", no_network)
    with pytest.raises(InputError, match=r"cannot download https://.*/train_300K.xyz .*dataset.folder=") as e:
        published_file("3bpa", "train_300K.xyz", tmp_path)
    assert "\n" not in str(e.value)
    assert not list(tmp_path.rglob("*.xyz"))  # nothing half-made is left


def test_a_download_is_kept_and_checked(published_3bpa, tmp_path, monkeypatch):
    fetched = []

    class Copier:
        def __init__(self, **settings):
            pass

        def __call__(self, address, target, pooch):
            fetched.append(address)
            shutil.copy(published_3bpa / address.rsplit("/", 1)[1], target)

    monkeypatch.setattr(catalog.pooch, "HTTPDownloader", Copier)
    first = published_file("3bpa", "train_300K.xyz", tmp_path)
    assert published_file("3bpa", "train_300K.xyz", tmp_path) == first
    assert len(fetched) == 1
    assert "29e6d467317e4b5967b7ea5cbee54de953fa0d45/dataset_3BPA/train_300K.xyz" in fetched[0]
    with pytest.raises(InputError, match=r"delete it, and it is downloaded again"):
        published_file("3bpa", "test_300K.xyz", tmp_path)  # the copy at hand is not the published one


def test_every_file_of_the_catalog_has_its_id():
    for entry in CATALOG.values():
        assert set(entry.blob_ids) == {entry.train, *entry.tests.values(), entry.isolated_atoms}
        assert all(len(blob_id) == 40 for blob_id in entry.blob_ids.values())
