"""What is known of each data set without opening it: names, splits, published counts, licence, source.

Figures and links only; how a data set is read lies in ``sc_imagenet/sources/``. A file there that holds a
``DATA_SET`` of its own is a data set, too: nothing else has to know of it.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sc_imagenet.core.errors import InputError, unknown_name


@dataclass(frozen=True)
class Mirror:
    """One place a file can be had from; mirrors of the same ``file`` are tried in order."""

    url: str
    sha256: str | None = None  # None: not known to us; the first download records it
    archive: str | None = None  # "zip", "tar" or None for a plain file
    holds: str | None = None  # what the archive must hold, at its top or in one folder below
    name: str | None = None  # what the file is called here, where the URL calls it otherwise

    @property
    def file(self) -> str:
        """The file's name.

        >>> Mirror("https://example.org/a/pairs.csv").file
        'pairs.csv'
        """
        return self.name or self.url.rpartition("/")[2]


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
    manual: str  # the exact steps by hand, one a line; the only way where there are no mirrors
    mirrors: tuple[Mirror, ...] = ()
    configs: tuple[str, ...] = ("pairs",)
    folders: tuple[str, ...] = field(default=())  # other folder names copies are found under
    layout: str = ""  # the files expected under a data root, one a line
    threshold: str = "bbox-kp"  # what the strict protocol holds errors against: "img", "bbox" or "bbox-kp"

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


_PROPOSAL_FLOW = "www.di.ens.fr/willow/research/proposalflow/dataset"
_NCNET_LISTS = "https://raw.githubusercontent.com/ignacio-rocco/ncnet/master/datasets/pf-pascal/image_pairs"
_SPAIR = "cvlab.postech.ac.kr/research/SPair-71k/data/SPair-71k.tar.gz"

CATALOG: dict[str, DataSet] = {
    entry.name: entry
    for entry in (
        DataSet(
            name="sc-imagenet",
            threshold="bbox",
            title="SC-ImageNet",
            paper="Huang et al., ICCV 2023",
            licence="non-commercial research, signed agreement with the authors; images: ImageNet's terms",
            homepage="https://github.com/21210240056/SC-ImageNet",
            splits=("train", "validation"),
            pairs={},
            images=113_516,
            classes=679,
            points="32 (files may hold up to 40)",
            manual=(
                "1. Sign the agreement in the README at github.com/21210240056/SC-ImageNet and mail it to the "
                "authors, whose addresses are given there: they ask for it before access.\n"
                "2. The same README holds the link. Get all of SC-IMAGENET.tar.gz.part.*, join them with "
                "cat SC-IMAGENET.tar.gz.part.* > SC-IMAGENET.tar.gz, and unpack that with tar xzf so that "
                "SC-IMAGENET/Layout lies in your data root.\n"
                "3. Get the ImageNet images yourself: ILSVRC2012_img_train.tar from image-net.org after "
                "registering, or ILSVRC/imagenet-1k on the Hugging Face Hub after accepting its terms.\n"
                "4. Set IMAGENET_ROOT to the folder that holds <wnid>/<wnid>_<number>.JPEG."
            ),
            configs=("pairs", "images", "toy"),
            folders=("SC-IMAGENET", "SC-ImageNet", "sc_imagenet"),
            layout=(
                "sc-imagenet/Layout/large/{trn,val}.txt\n"
                "sc-imagenet/PairAnnotation/{trn,val}/<pair id>.json\n"
                "sc-imagenet/JPEGImages/<wnid>/<image>.JPEG\n"
                "or $IMAGENET_ROOT/<wnid>/<image>.JPEG for the images"
            ),
        ),
        DataSet(
            name="pf-pascal",
            threshold="img",
            title="PF-PASCAL",
            paper="Ham et al., TPAMI 2018",
            licence="Flickr terms of the PASCAL VOC images; annotations for research",
            homepage="https://www.di.ens.fr/willow/research/proposalflow/",
            splits=("train", "validation", "test", "test_clean"),
            pairs={"train": 2940, "validation": 308, "test": 299, "test_clean": 204},
            images=None,
            classes=20,
            points="4 to 17",
            manual=(
                "1. Fetch PF-dataset-PASCAL.zip from the homepage; unpack it so that pf-pascal/JPEGImages "
                "lies in your data root.\n"
                "2. Put NCNet's train_pairs.csv, val_pairs.csv and test_pairs.csv beside it (in its "
                "repository ignacio-rocco/ncnet, folder datasets/pf-pascal/image_pairs).\n"
                "Or, the package that DHPF, CATs and others use, from Google Drive: pip install gdown, then "
                "gdown 1OOwpGzJnTsFXYh-YffMQ9XKM_Kl_zdzg, and unpack it in the same way."
            ),
            mirrors=(
                Mirror(
                    f"https://{_PROPOSAL_FLOW}/PF-dataset-PASCAL.zip",
                    archive="zip",
                    holds="JPEGImages",
                ),
                *(Mirror(f"{_NCNET_LISTS}/{split}_pairs.csv") for split in ("train", "val", "test")),
            ),
            folders=("PF-PASCAL", "PF-dataset-PASCAL", "pf_pascal"),
            layout=(
                "pf-pascal/{train,val,test}_pairs.csv (or {trn,val,test}_pairs.csv)\n"
                "pf-pascal/Annotations/<class>/<image>.mat\n"
                "pf-pascal/JPEGImages/<image>.jpg (or a PASCAL VOC folder named by $VOC_ROOT)"
            ),
        ),
        DataSet(
            name="pf-willow",
            title="PF-WILLOW",
            paper="Ham et al., CVPR 2016",
            licence="none stated by its authors; offered for research",
            homepage="https://www.di.ens.fr/willow/research/proposalflow/",
            splits=("test", "images_train", "images_test"),
            pairs={"test": 900, "images_train": 300, "images_test": 120},
            images=100,
            classes=10,
            points="10",
            manual=(
                "1. Fetch PF-dataset.zip from the homepage, unpack it as pf-willow in your data root.\n"
                "Or, the package that DHPF, CATs and others use, from Google Drive: pip install gdown, then "
                "gdown 1tDP0y8RO5s45L-vqnortRaieiWENQco_, and unpack it as pf-willow/PF-WILLOW."
            ),
            mirrors=(Mirror(f"https://{_PROPOSAL_FLOW}/PF-dataset.zip", archive="zip", holds="car(G)"),),
            folders=("PF-WILLOW", "PF-dataset", "PF-dataset-WILLOW", "pf_willow"),
            layout=(
                "pf-willow/<class>/<image>.png and <image>.mat (or both in pf-willow/PF-dataset-WILLOW)\n"
                "or pf-willow/PF-WILLOW/test_pairs.csv with <class>/<image>.png"
            ),
        ),
        DataSet(
            name="spair-71k",
            threshold="bbox",
            title="SPair-71k",
            paper="Min et al., 2019",
            licence="Flickr terms of the PASCAL VOC images; annotations for research",
            homepage="https://cvlab.postech.ac.kr/research/SPair-71k/",
            splits=("train", "validation", "test"),
            pairs={"train": 53_340, "validation": 5_384, "test": 12_234},
            images=1_800,
            classes=18,
            points="3 to 30",
            manual=(
                "1. Fetch SPair-71k.tar.gz from the homepage; unpack it so that spair-71k/Layout lies in "
                "your data root.\n"
                "Or, from Google Drive: pip install gdown, then gdown 1KSvB0k2zXA06ojWNvFjBv0Ake426Y76k, and "
                "unpack it in the same way."
            ),
            mirrors=(Mirror(f"https://{_SPAIR}", archive="tar", holds="Layout"),),
            folders=("SPair-71k", "spair_71k"),
            layout=(
                "spair-71k/Layout/large/{trn,val,test}.txt\n"
                "spair-71k/PairAnnotation/{trn,val,test}/<pair id>.json\n"
                "spair-71k/JPEGImages/<class>/<image>.jpg"
            ),
        ),
        DataSet(
            name="diy-sc",
            title="DIY-SC",
            paper="Duenkel et al., ICCV 2025",
            licence="CC0-1.0; images: as SPair-71k",
            homepage="https://genintel.github.io/DIY-SC",
            splits=("train",),
            pairs={},
            images=None,
            classes=18,
            points="varies",
            manual=(
                "1. Open the Google Drive folder linked under 'Generation of pseudo-labels' in the README at "
                "github.com/odunkel/DIY-SC (pip install gdown, then gdown --folder "
                "1nGjNsWpqbcqUJS-fNXU_41pMBMdE42Je) and put its files in your data root as "
                "diy-sc/{trn,val}/<category>_anns.pt (or .json).\n"
                "2. Its images are those of SPair-71k: scbench data download spair-71k."
            ),
            folders=("DIY-SC", "diy_sc"),
            layout="diy-sc/{trn,val}/<category>_anns.pt (or .json)\nspair-71k/JPEGImages/<category>/<image>.jpg",
        ),
        DataSet(
            name="toy",
            title="Toy",
            paper="rendered here",
            licence="Apache-2.0",
            homepage="",
            splits=("train", "validation", "test"),
            pairs={"train": 2_500, "validation": 140, "test": 300},
            images=900,
            classes=10,
            points="4 to 11, of 10 or 11",
            manual="Nothing to get: it is rendered on this machine when it is first loaded.",
            layout="kept in the cache folder ($SC_CACHE)",
        ),
    )
}

EMBEDDED = "toy"  # the data set that is rendered here and needs nothing to be got
SHIPPED = {"diy_sc", "pf_pascal", "pf_willow", "toy", "sc_imagenet_release", "source", "spair_71k", "tables"}


def _own() -> Iterator[DataSet]:
    """The entries of data sets that somebody added as one file: ``DATA_SET`` of ``sources/<name>.py``.

    Raises:
        InputError: a file's ``DATA_SET`` has not the file's name.
    """
    for found in pkgutil.iter_modules([str(Path(__file__).parents[1] / "sources")]):
        if found.name in SHIPPED:
            continue
        entry = importlib.import_module(f"sc_imagenet.sources.{found.name}").DATA_SET
        if entry.name != found.name.replace("_", "-"):
            raise InputError(
                f"its DATA_SET is called {entry.name!r}", where=f"sources/{found.name}.py", fix="Give both one name."
            )
        yield entry


# Last, because those files import this one.
CATALOG.update({entry.name: entry for entry in _own()})
