"""Published data sets: where their files can be downloaded, and what their contents have to be."""

from dataclasses import dataclass
from pathlib import Path

import pooch

from mlip_sweep.data.cache import made_once
from mlip_sweep.data.checksums import git_blob_id
from mlip_sweep.data.sources import expanded
from mlip_sweep.errors import InputError

TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Published:
    """A published data set.

    Attributes:
        address: The folder, as a URL, that the files are downloaded from.
        blob_ids: The name of each file and the id under which git stores its contents (`git_blob_id`).
        train: The file with the frames for training and validation.
        temperature: The temperature that these were sampled at, K.
        tests: The label of each test set and its file.
        isolated_atoms: The file of single atoms.
    """

    address: str
    blob_ids: dict[str, str]
    train: str
    temperature: float
    tests: dict[str, str]
    isolated_atoms: str


# davkovacs/BOTNet-datasets, MIT licence. Kovács et al., J. Chem. Theory Comput. 17 (2021) 7696,
# doi:10.1021/acs.jctc.1c00647 (3BPA); Batatia et al., arXiv:2205.06643 (acetylacetone).
_BOTNET = "https://raw.githubusercontent.com/davkovacs/BOTNet-datasets/29e6d467317e4b5967b7ea5cbee54de953fa0d45"

CATALOG = {
    "3bpa": Published(
        address=f"{_BOTNET}/dataset_3BPA",
        blob_ids={
            "train_300K.xyz": "93cdf96b0a4d8d81ca52889c4697a553471779f5",
            "test_300K.xyz": "6ea840dfce31bd7667a26e592f3625729c90441b",
            "test_600K.xyz": "681d24eeb4e9193644e6db58193b50e205a5bc0f",
            "test_1200K.xyz": "94beb5238c3573e4be4d368928460f951e07e513",
            "iso_atoms.xyz": "83cc59ef37e4f1526fb073ad12103a75af746b86",
        },
        train="train_300K.xyz",
        temperature=300.0,
        tests={"300K": "test_300K.xyz", "600K": "test_600K.xyz", "1200K": "test_1200K.xyz"},
        isolated_atoms="iso_atoms.xyz",
    ),
    "acetylacetone": Published(
        address=f"{_BOTNET}/dataset_acac",
        blob_ids={
            "train_300K.xyz": "5f83fc060856b25b9942b320c73a6b58dbc29c0a",
            "test_MD_300K.xyz": "01d273fdf2a11b3d462143b1b538f367845771ef",
            "test_MD_600K.xyz": "60920a5a506f7581c7a0f3c9f0cf677b1af03079",
            "isolated_atoms.xyz": "beb88f3f07c8cfd8dc23cb650d1ec3aa85c62c4d",
        },
        train="train_300K.xyz",
        temperature=300.0,
        tests={"300K": "test_MD_300K.xyz", "600K": "test_MD_600K.xyz"},
        isolated_atoms="isolated_atoms.xyz",
    ),
}


def published_file(name: str, file: str, cache: Path, folder: Path | None = None, verify: bool = True) -> Path:
    """One file of a published data set.

    Args:
        name: A key of `CATALOG`.
        file: The name of the file.
        cache: The folder that keeps the downloads.
        folder: The folder that holds the file already; None downloads it.
        verify: Whether a file whose contents are not the published ones is refused.

    Raises:
        InputError: The file cannot be downloaded, is not in the folder, or has other contents.
    """
    entry = CATALOG[name]
    if folder is None:
        address = f"{entry.address}/{file}"
        path = made_once(expanded(cache) / name / file, lambda target: _download(address, target, name))
    else:
        path = expanded(folder) / file
        if not path.is_file():
            raise InputError(f"dataset.folder={folder}: has no {file}; put {', '.join(entry.blob_ids)} there")
    if verify and (blob_id := git_blob_id(path)) != entry.blob_ids[file]:
        remedy = (
            "delete it, and it is downloaded again"
            if folder is None
            else "put the published file there, or set dataset.verify=false to use it as it is"
        )
        raise InputError(f"{path}: its git blob id is {blob_id}, the published one {entry.blob_ids[file]}; {remedy}")
    return path


def _download(address: str, target: Path, name: str) -> None:
    try:
        pooch.HTTPDownloader(timeout=TIMEOUT_S)(address, str(target), None)
    except OSError as error:  # every error that requests raises is an OSError
        raise InputError(
            f"dataset={name}: cannot download {address} ({type(error).__name__}); get the files elsewhere, "
            "and give their folder as dataset.folder=FOLDER"
        ) from error
