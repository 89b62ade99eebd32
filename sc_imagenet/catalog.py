"""What is known of each data set without opening it: names, splits, published counts, licence, source.

Figures and links only; how a data set is read lies in ``sc_imagenet/sources/``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sc_imagenet.errors import unknown_name


@dataclass(frozen=True)
class Mirror:
    """One place a file can be had from; mirrors are tried in order."""

    url: str
    sha256: str | None = None  # None: not known to us; the first download records it
    archive: str | None = None  # "zip", "tar" or None for a plain file


@dataclass(frozen=True)
class DataSet:
    """A data set's card in code; counts are (pairs, images, classes) as published."""

    name: str  # hyphenated: the command line and the folder under a data root
    title: str
    paper: str
    licence: str
    homepage: str
    splits: tuple[str, ...]
    pairs: Mapping[str, int]  # published number of pairs by split
    images: int | None
    classes: int | None
    points: str  # in words: "10", "up to 30"
    manual: str  # the exact steps where it cannot be downloaded by a program
    mirrors: tuple[Mirror, ...] = ()
    configs: tuple[str, ...] = ("pairs",)
    folders: tuple[str, ...] = field(default=())  # other folder names copies are found under

    @property
    def python_name(self) -> str:
        """The name with underscores, as ``load_dataset`` is usually given it."""
        return self.name.replace("-", "_")


def canonical(name: str) -> str:
    """The hyphenated name of a data set given with hyphens or underscores.

    >>> canonical("spair_71k")
    'spair-71k'

    Raises:
        InputError: no data set is called so (the message lists the names).
    """
    hyphenated = name.strip().lower().replace("_", "-")
    if hyphenated not in CATALOG:
        raise unknown_name("data set", name, CATALOG)
    return hyphenated


def info(name: str) -> DataSet:
    """The catalogue entry of a data set.

    >>> info("pf_willow").classes
    10
    """
    return CATALOG[canonical(name)]


CATALOG: dict[str, DataSet] = {
    entry.name: entry
    for entry in (
        DataSet(
            name="sc-imagenet",
            title="SC-ImageNet",
            paper="Huang et al., ICCV 2023",
            licence="non-commercial research, signed agreement with the authors",
            homepage="https://github.com/Zhiyuan-Huang/SC-ImageNet",
            splits=("train", "validation"),
            pairs={},
            images=113_516,
            classes=679,
            points="32 (files may hold up to 40)",
            manual="",
            configs=("pairs", "images", "toy"),
            folders=("SC-IMAGENET", "SC-ImageNet", "sc_imagenet"),
        ),
        DataSet(
            name="pf-pascal",
            title="PF-PASCAL",
            paper="Ham et al., TPAMI 2018",
            licence="Flickr terms of the PASCAL VOC images; annotations for research",
            homepage="https://www.di.ens.fr/willow/research/proposalflow/",
            splits=("train", "validation", "test", "test_clean"),
            pairs={"train": 2940, "validation": 308, "test": 299, "test_clean": 204},
            images=None,
            classes=20,
            points="4 to 17",
            manual="",
            folders=("PF-PASCAL", "PF-dataset-PASCAL", "pf_pascal"),
        ),
        DataSet(
            name="pf-willow",
            title="PF-WILLOW",
            paper="Ham et al., CVPR 2016",
            licence="research",
            homepage="https://www.di.ens.fr/willow/research/proposalflow/",
            splits=("test", "images_train", "images_test"),
            pairs={"test": 900, "images_train": 300, "images_test": 120},
            images=100,
            classes=10,
            points="10",
            manual="",
            folders=("PF-WILLOW", "PF-dataset-WILLOW", "pf_willow"),
        ),
        DataSet(
            name="spair-71k",
            title="SPair-71k",
            paper="Min et al., 2019",
            licence="Flickr terms of the PASCAL VOC images; annotations for research",
            homepage="https://cvlab.postech.ac.kr/research/SPair-71k/",
            splits=("train", "validation", "test"),
            pairs={"train": 53_340, "validation": 5_384, "test": 12_234},
            images=1_800,
            classes=18,
            points="3 to 30",
            manual="",
            folders=("SPair-71k", "spair_71k"),
        ),
        DataSet(
            name="diy-sc",
            title="DIY-SC",
            paper="Duenkel et al., 2025",
            licence="see its authors' release",
            homepage="https://genintel.github.io/DIY-SC",
            splits=("train",),
            pairs={},
            images=None,
            classes=18,
            points="varies",
            manual="",
            folders=("DIY-SC", "diy_sc"),
        ),
        DataSet(
            name="toy",
            title="Toy",
            paper="rendered here",
            licence="Apache-2.0",
            homepage="",
            splits=("train", "validation", "test"),
            pairs={},
            images=None,
            classes=None,
            points="8 to 12",
            manual="",
        ),
    )
}
