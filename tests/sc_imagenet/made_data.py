"""Tiny data sets in the layouts of the published ones, with real image files."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.io import savemat

from sc_imagenet.sources import pf_pascal

WNIDS = ("n01440764", "n01443537", "n02084071")


def image(path: Path, size: tuple[int, int] = (40, 30)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (90, 120, 40)).save(path)


def annotation(category: str, **changes: Any) -> dict[str, Any]:
    content = {
        "src_kps": [[1, 2], [30, 20]],
        "trg_kps": [[3, 4], [25, 11]],
        "src_bndbox": [0, 1, 35, 25],
        "trg_bndbox": [2, 2, 30, 20],
        "category": category,
        "viewpoint_variation": 1,
        "scale_variation": 2,
        "truncation": 0,
        "occlusion": 3,
    }
    return {**content, **changes}


def spair(root: Path, mark: str = ":", **changes: Any) -> Path:
    """Two pairs of one class in every split."""
    for folder in ("trn", "val", "test"):
        lines = [f"{number:06d}-2008_00000{number}-2008_000009:cat" for number in (1, 2)]
        lists = root / "Layout" / "large" / f"{folder}.txt"
        lists.parent.mkdir(parents=True, exist_ok=True)
        lists.write_text("\n".join(lines) + "\n")
        pairs = root / "PairAnnotation" / folder
        pairs.mkdir(parents=True)
        for line in lines:
            (pairs / f"{line.replace(':', mark)}.json").write_text(json.dumps(annotation("cat", **changes)))
    for name in ("2008_000001", "2008_000002", "2008_000009"):
        image(root / "JPEGImages" / "cat" / f"{name}.jpg")
    return root


def sc_release(root: Path, images: bool = False, **changes: Any) -> Path:
    """Six pairs to train on of two classes, one for validation of a third."""
    for folder, lines in {
        "trn": [f"{n}-{n}-{n + 1}:{WNIDS[n % 2]}" for n in range(6)],
        "val": [f"0-7-8:{WNIDS[2]}"],
    }.items():
        lists = root / "Layout" / "large" / f"{folder}.txt"
        lists.parent.mkdir(parents=True, exist_ok=True)
        lists.write_text("\n".join(lines) + "\n")
        pairs = root / "PairAnnotation" / folder
        pairs.mkdir(parents=True)
        for line in lines:
            wnid = line.split(":")[1]
            (pairs / f"{line}.json").write_text(json.dumps(annotation(wnid, **changes)))
    if images:
        imagenet(root / "JPEGImages")
    return root


def imagenet(root: Path) -> Path:
    """<wnid>/<wnid>_<id>.JPEG for every image the release above names."""
    for wnid in WNIDS:
        for number in range(9):
            image(root / wnid / f"{wnid}_{number}.JPEG")
    return root


def pascal_list(path: Path, rows: list[list[Any]], header: str = "source_image,target_image,class,flip") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header.split(","))
        writer.writerows(rows)


def pascal_package(root: Path, size: tuple[int, int] = (300, 200)) -> Path:
    """The DHPF-style package: images a, b and c of class aeroplane; b lacks the second point."""
    top = "PF-PASCAL/JPEGImages/"
    train = [[f"{top}a.jpg", f"{top}c.jpg", 1, 0], [f"{top}a.jpg", f"{top}c.jpg", 1, 1]]
    pascal_list(root / "trn_pairs.csv", [*train, train[0]])
    pascal_list(root / "val_pairs.csv", [[f"{top}a.jpg", f"{top}b.jpg", 1]], "source_image,target_image,class")
    test = [[f"{top}a.jpg", f"{top}b.jpg", 1], [f"{top}c.jpg", f"{top}a.jpg", 1]]
    pascal_list(root / "test_pairs.csv", test, "source_image,target_image,class")
    for name in "abc":
        image(root / "JPEGImages" / f"{name}.jpg", size)
        points = np.array([[10.5, 20.25], [100, 50], [200, 150]])
        if name == "b":
            points[1] = np.nan
        file = root / "Annotations" / pf_pascal.CATEGORIES[0] / f"{name}.mat"
        file.parent.mkdir(parents=True, exist_ok=True)
        savemat(file, {"kps": points, "bbox": np.array([[5.0, 6.0, 250.0, 180.0]])})
    return root


def willow_csv(root: Path) -> Path:
    """The later codes' copy: two images of one class, both ordered pairs."""
    header = ["imageA", "imageB", *(f"{axis}{side}{n}" for side in "AB" for axis in "XY" for n in range(10))]
    a, b = (f"PF-WILLOW/duck(S)/duck_{name}.png" for name in "ab")
    first, second = list(range(10)), list(range(10, 20))
    pascal_list(
        root / "test_pairs.csv",
        [[a, b, *first, *first, *second, *first], [b, a, *second, *first, *first, *first]],
        ",".join(header),
    )
    for name in "ab":
        image(root / "duck(S)" / f"duck_{name}.png")
    return root


def pf_willow_of_authors(root: Path) -> Path:
    """Three images of one class with ten points each: six ordered pairs."""
    for number in range(3):
        image(root / "duck(S)" / f"duck_{number}.png")
        points = np.arange(20.0).reshape(2, 10) + number
        savemat(root / "duck(S)" / f"duck_{number}.mat", {"pts_coord": points})
    return root


DIY_SC_ENTRY = {
    "src_imname": "2008_000001.jpg",
    "trg_imname": "2008_000002.jpg",
    "num_kps": 2,
    "source_kps": [[80, 10], [0, 5]],  # 40 x 30 in a square of 80: twice as large, 10 px above and below
    "target_kps": [[40, 50], [20, 70]],
    "img_size_kps": 80,
}


def diy_sc(root: Path, form: str = ".json", **changes: Any) -> Path:
    """One pair of cats; its images are those of ``spair``."""
    entries = [{**DIY_SC_ENTRY, **changes}]
    file = root / "trn" / f"cat_anns{form}"
    file.parent.mkdir(parents=True, exist_ok=True)
    if form == ".pt":
        import torch

        torch.save(entries, file)
    else:
        file.write_text(json.dumps(entries))
    return root
