"""Every protocol by name and version. A change of an authors' code gets a new number, the old one stays.

``benchmark.scoring.protocol`` says what the parts mean. Facts were read in, and held against, the authors' own
code at the commit stated; ``tests/golden`` compares what ours give with what theirs returned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from benchmark.scoring.frames import ProtocolFrame
from benchmark.scoring.protocol import HitRule, Input, Protocol, Readout, Sample, split_name
from sc_imagenet.core.errors import InputError, unknown_name

# Comparisons that several codes share.
EXACT = HitRule()
LIVE = HitRule(strict=True, distance="float32", alpha="float32")  # in the evaluation loop of GeoAware's family
# With an image threshold there, and from its result.pkl.
STORED = HitRule(strict=True, distance="float32", alpha="float32", threshold="float32", limit="float32")
_WEAK = HitRule(distance="float32", threshold="float32", limit="float32")  # SD4Match's evaluator
RATIO = HitRule(quotient=True)  # DIFT, GECO
_PROBE = HitRule(strict=True, quotient=True, distance="float32", alpha="float32", threshold="float32")
HALF = HitRule(distance="float16", threshold="float16", limit="float16")

LETTERBOX = ProtocolFrame("letterbox", 840, dtype="float32")
_LETTERBOXED = Input(840, "letterbox", "lanczos", "black, both sides", 14)
_NEAREST = Readout("nearest", grid=60, place="centre", query="cell")
_WINDOW = Readout("window-soft-argmax", grid=60, window=7, temperature=0.02, place="centre", query="cell")
_PASCAL = {"pf-pascal": {"threshold": "image", "alphas": (0.10, 0.05, 0.15), "comparison": STORED}}
_TWENTY = Sample("legacy", 20, 42, "the released evaluation configurations ask for all")

GEOAWARE = Protocol(
    name="geoaware",
    version=1,
    title="GeoAware-SC, image mode (its Table 3)",
    frame=LETTERBOX,
    threshold="box",
    comparison=LIVE,
    alphas=(0.10, 0.05, 0.01),
    averages=("image", "point"),
    commit="99fd6b6 (2025-03-31)",
    category_dtype="float32",
    empty="NaN, which spreads to every average",
    sample=_TWENTY,
    readout=_WINDOW,
    input=_LETTERBOXED,
    subset="live",
    notes=(
        "Visibility is that of the image annotations.",
        "The geometry-aware subset printed in the loop takes wrong points for bus, car, pottedplant, tvmonitor and "
        "AP-10K (subset geo-live, defective); geo-ids is the one of the result file.",
        "AP-10K points of visibility 1 lie at half their coordinates there.",
        "On PASCAL the third number is 0.15 though labelled 0.01.",
    ),
    on=_PASCAL,
)


def _point(protocol: Protocol, name: str, title: str) -> Protocol:
    return replace(protocol, name=name, title=title, averages=("point", "image"))


_SD4MATCH = Protocol(
    name="sd4match",
    version=1,
    title="SD4Match",
    frame=ProtocolFrame("stretch", 768, dtype="float32", margin=1e-4),
    threshold="box-corners",
    comparison=_WEAK,
    alphas=(0.05, 0.10, 0.15),
    averages=("image", "point"),
    commit="3d7b09e (2024-06-26)",
    empty="NaN, which spreads to every average",
    readout=Readout("kernel-softmax", temperature=0.04, sigma=7, place="aligned", query="aligned"),
    input=Input(768, "stretch", "bilinear", patch=None),
    notes=("A row is printed for each of four read-outs: nearest, bilinear, softmax, kernel-softmax.",),
    on={"pf-pascal": {"threshold": "image"}, "pf-willow": {"threshold": "tight"}},
)
_DISTILL = replace(
    GEOAWARE,
    name="distilldift",
    title="DistillDIFT as released: d by the y scale only (65.1 where 59.8 was right)",
    frame=ProtocolFrame("stretch", 840, dtype="float32"),
    threshold="box-y",
    averages=("point", "image"),
    commit="e21076e (2025-01-28)",
    readout=replace(_WINDOW, window=5),
    input=Input(434, "stretch", "bilinear", patch=14),
    subset="",
    notes=("Wide images get far too large a threshold.", "31 x 31 features are interpolated to 60 x 60."),
)
_PROBE3D = Protocol(
    name="probe3d",
    version=1,
    title="Probing the 3D Awareness of Visual Foundation Models",
    frame=ProtocolFrame("unit", 800, dtype="float32"),
    threshold="box",
    comparison=_PROBE,
    alphas=(0.10,),
    averages=("macro-point",),
    commit="a1f1464 (2025-12-01)",
    empty="adds nothing",
    sample=Sample("shuffle", 200, 20),
    readout=Readout("nearest", place="corner", query="aligned"),
    input=Input(800, "unit", "bicubic, antialias", "white, right or bottom"),
    notes=("True points are truncated in the image and again at 800.", "Reported for viewpoint 0, 1, 2 and all."),
)

ALL = (
    Protocol(
        name="strict",
        version=1,
        title="ours: original pixels, nothing rounded, the data set's own threshold",
        frame=ProtocolFrame(),
        threshold="data set",
        comparison=EXACT,
        alphas=(0.05, 0.10, 0.15),
        averages=("image", "point", "macro-image", "macro-point"),
        decimals=1,
    ),
    Protocol(
        name="paper-2021",
        version=1,
        title="what the authors of CATs, VAT, SCorrSAN, DHPF, TransforMatcher, NC-Net and CNNGeo did, in their "
        "model's frame",
        frame=ProtocolFrame(),
        threshold="data set",
        comparison=EXACT,
        alphas=(0.05, 0.10, 0.15),
        averages=("image",),
        decimals=1,
        per_model=True,
        notes=(
            "CATs, SemiMatch and SCorrSAN 256, VAT 512, NC-Net, CNNGeo and Weakalign 224, DHPF and TransforMatcher 240 "
            "pixels, not keeping the aspect; HPF, A2Net and ProposalFlow original pixels.",
            "On PF-WILLOW d is the largest coordinate + 1 (TransforMatcher + 2); of HPF, CNNGeo, Weakalign, A2Net and "
            "ProposalFlow the box around the points, in original pixels.",
            "CATs, SemiMatch, SCorrSAN, VAT, NC-Net, CNNGeo, Weakalign and A2Net predict from target to source and "
            "take the source's box.",
        ),
    ),
    Protocol(
        name="sd-dino",
        version=1,
        title="A Tale of Two Features (SD + DINO)",
        frame=LETTERBOX,
        threshold="box",
        comparison=LIVE,
        alphas=(0.10, 0.05, 0.01),
        averages=("pair-weighted", "macro-point"),
        commit="b85df18 (2023-10-09)",
        category_dtype="float32",
        empty="NaN, which spreads to every average",
        sample=replace(_TWENTY, note="20 a category unless told otherwise; all weights are then 1"),
        readout=replace(_NEAREST, place="centre-0.5"),
        input=_LETTERBOXED,
        notes=("The pair-weighted mean is of categories' POINT averages, with fixed pair counts.",),
        on={"pf-pascal": {"threshold": "image", "alphas": (0.10, 0.05, 0.15), "comparison": STORED}},
    ),
    GEOAWARE,
    _point(GEOAWARE, "geoaware-point", "GeoAware-SC, point mode (its Table 2, unsupervised methods)"),
    replace(
        _point(GEOAWARE, "geoaware-zero-shot", "GeoAware-SC, zero-shot: window of 11 cells, adaptive pose"),
        readout=replace(_WINDOW, window=5),
        notes=GEOAWARE.notes
        + (
            "The better of the source and its mirror image is taken by masked instance distance, with true "
            "visibility and keypoint identity: not a blind method.",
        ),
    ),
    replace(
        _point(GEOAWARE, "diy-sc", "DIY-SC"),
        commit="e1121c0 (2025-06-20)",
        sample=replace(_TWENTY, count=100),
        notes=GEOAWARE.notes + ("Geometry-aware numbers are silently never printed.",),
    ),
    replace(
        _point(GEOAWARE, "cleandift", "CleanDIFT"),
        commit="6bc34e1 (2025-01-20, branch geoaware-sc-eval)",
        readout=replace(_WINDOW, window=5),
    ),
    replace(GEOAWARE, name="jamais-vu", title="Jamais Vu", commit="d236e73 (2026-02-13)"),
    replace(
        GEOAWARE,
        name="jamais-vu-dagger",
        title="Jamais Vu, PCK-dagger: the nearest true point must be the right one",
        commit="d236e73 (2026-02-13)",
        validity="dagger",
    ),
    Protocol(
        name="spherical-maps",
        version=1,
        title="Improving Semantic Correspondence with Viewpoint-Guided Spherical Maps",
        frame=LETTERBOX,
        threshold="box",
        comparison=LIVE,
        alphas=(0.10, 0.05, 0.01),
        averages=("macro-point", "pair-weighted"),
        commit="620fe28 (2024-12-04)",
        category_dtype="float32",
        empty="NaN, which spreads to every average",
        sample=_TWENTY,
        readout=replace(_NEAREST, place="centre-0.5"),
        input=_LETTERBOXED,
        on=_PASCAL,
    ),
    replace(_DISTILL, version=1),
    replace(
        _DISTILL,
        version=2,
        title="DistillDIFT, corrected: d by the smaller of the two scales",
        threshold="box-min",
    ),
    Protocol(
        name="distilldift-train",
        version=1,
        title="DistillDIFT, the script beside its training: everything in half precision",
        frame=ProtocolFrame(dtype="float16"),
        threshold="box",
        comparison=HALF,
        alphas=(0.10,),
        averages=("point",),
        commit="e21076e (2025-01-28), train/",
        readout=Readout("upsampled", place="pixel", query="pixel"),
        notes=("Integers above 2048 lose their last bits.",),
    ),
    _SD4MATCH,
    replace(
        _SD4MATCH,
        name="visual-ai",
        title="Visual-AI's TimeTraveler evaluator",
        frame=ProtocolFrame("corner-aligned", 840, dtype="float32", margin=1e-4),
        alphas=(0.01, 0.05, 0.10, 0.15),
        commit="75b404e (2025-12-11)",
        readout=replace(_SD4MATCH.readout, temperature=0.03),
        input=Input(840, "stretch", "bilinear, no antialias"),
        notes=_SD4MATCH.notes + ("Which of the four is the headline is not stated.", "PF points are floored."),
    ),
    replace(
        _SD4MATCH,
        name="marco",
        title="MARCO",
        frame=ProtocolFrame("stretch", 770, dtype="float32", margin=1e-4),
        alphas=(0.01, 0.05, 0.10, 0.15, 0.20),
        averages=("image", "point", "macro-image"),
        commit="1ec16b9 (2026-04-21)",
        decimals=4,
        unit="fraction",
        readout=Readout("kernel-softmax", temperature=10, sigma=7, place="aligned", query="displaced"),
        input=Input(770, "stretch", "bilinear", patch=14),
        notes=("The query is displaced toward the lower right by up to one cell.",),
        on={
            "pf-pascal": {
                "threshold": "image",
                "frame": ProtocolFrame("corner-letterbox", 770, dtype="float32", margin=1e-4),
            },
            "ap-10k": {
                "threshold": "box-longer",
                "frame": ProtocolFrame("corner-letterbox", 770, dtype="float32", margin=1e-4),
            },
        },
    ),
    Protocol(
        name="dift",
        version=1,
        title="DIFT",
        frame=ProtocolFrame(),
        threshold="box",
        comparison=RATIO,
        alphas=(0.10,),
        averages=("image", "point"),
        commit="9421eb2 (2024-05-14)",
        empty="division by zero",
        readout=Readout("upsampled", place="pixel", query="pixel"),
        input=Input(768, "stretch", "bicubic"),
        notes=("Features are interpolated to the original H x W.",),
    ),
    Protocol(
        name="geco",
        version=1,
        title="GECO",
        frame=ProtocolFrame(),
        threshold="image",
        comparison=RATIO,
        alphas=(0.10, 0.05, 0.15),
        averages=("point",),
        commit="03c8314 (2025-08-04)",
        decimals=None,
        empty="adds nothing",
        readout=Readout("upsampled", place="pixel", query="floor-pixel"),
        input=Input(518, "stretch", "bilinear", patch=14),
        notes=(
            "The shipped configuration holds errors against the image on all data sets, SPair-71k too.",
            "Every point visible in the source is evaluated; PCK is over those visible in both.",
            "Front and back parts that look alike count as mirror partners.",
        ),
    ),
    _PROBE3D,
    replace(
        _PROBE3D,
        name="omniprobe",
        title="OmniProbe",
        commit="8fd8446 (2026-08-21)",
        sample=Sample(note="AP-10K: at most 5,000 a category after Python's Random(20) shuffled the sorted files"),
        readout=replace(_PROBE3D.readout, window=7, temperature=0.02),
        notes=(
            "The side is the multiple of the patch nearest to 800.",
            "Its result key is Recall@None: the loop variable hides the threshold.",
        ),
        on={"ap-10k": {"frame": ProtocolFrame("centred-unit", 800, dtype="float32")}},
    ),
    replace(
        _PROBE3D,
        name="soco",
        title="SOCO: concept matches (any point of the concept is right) and semantic overlap",
        comparison=HitRule(strict=True, distance="float32"),
        averages=("macro-image",),
        commit="3cfdad9 (2026-08-20)",
        sample=Sample(count=1, note="one pair a category of the sorted files by default"),
        notes=("The smallest error over all targets of the concept counts.",),
    ),
)
NAMES = {str(protocol): protocol for protocol in ALL}


def is_protocol(name: str) -> bool:
    """Whether a protocol, of whatever version, is called so; ``all`` stands for every one.

    >>> is_protocol("GeoAware@7"), is_protocol("papers")
    (True, False)
    """
    return split_name(name)[0] in {"all", *(protocol.name for protocol in ALL)}


def protocol_named(name: str) -> Protocol:
    """The protocol of a name, the newest version where none is given.

    >>> str(protocol_named("distilldift")), str(protocol_named("GeoAware@1"))
    ('distilldift@2', 'geoaware@1')

    Raises:
        InputError: there is no such protocol or version (what there is is named).
    """
    base, version = split_name(name)
    versions = {protocol.version: protocol for protocol in ALL if protocol.name == base}
    if not versions:
        raise unknown_name("protocol", name, NAMES)
    if version is None:
        return versions[max(versions)]
    if version not in versions:
        raise InputError(f"there is no {name}", fix=f"There is {', '.join(f'{base}@{v}' for v in sorted(versions))}.")
    return versions[version]


def protocols_named(names: str | Sequence[str | Protocol]) -> list[Protocol]:
    """Protocols of names, comma-separated or in a list; ``all`` stands for every one.

    Raises:
        InputError: as ``protocol_named``; or none is named.
    """
    given = [names] if isinstance(names, str) else list(names)
    flat: list[str | Protocol] = []
    for entry in given:
        flat += [part for part in entry.split(",") if part.strip()] if isinstance(entry, str) else [entry]
    found: dict[str, Protocol] = {}
    for entry in flat:
        if isinstance(entry, str) and entry.strip().lower() == "all":
            found |= NAMES
        else:
            protocol = protocol_named(entry) if isinstance(entry, str) else entry
            found[str(protocol)] = protocol
    if not found:
        raise InputError("no protocol is named", fix="'scbench protocols' lists them.")
    return list(found.values())
