"""Small data sets in the documented layouts of the benchmarks of 2023 to 2026, with real image files."""

from __future__ import annotations

import csv
import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.sc_imagenet.made_data import annotation, image

Arrays = Mapping[str, np.ndarray]


def write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


def ap_10k(root: Path, arrays: Arrays, pictures: bool = False) -> Path:
    """The synthetic COCO set that GeoAware-SC's notebook ran on, as AP-10K's files would have it."""
    names = ("train", "val", "test")
    species = [str(each).split("/") for each in arrays["ap10k_species"]]
    parts: dict[str, dict[str, list]] = {name: {"images": [], "annotations": []} for name in names}
    part_of = {}
    for (number, width, height), part in zip(
        arrays["ap10k_images"][:, :3].tolist(), arrays["ap10k_image_part"].tolist()
    ):
        file = f"{number:012d}.jpg"
        part_of[number] = names[part]
        parts[names[part]]["images"].append({"id": number, "file_name": file, "width": width, "height": height})
        if pictures:
            image(root / "data" / file, (width, height))
    for row in arrays["ap10k_annotations"].tolist():
        entry = {"id": row[0], "image_id": row[1], "category_id": row[2], "bbox": row[3:7]}
        parts[part_of[row[1]]]["annotations"].append({**entry, "num_keypoints": row[7], "keypoints": row[8:]})
    categories = [
        {"id": number, "supercategory": family, "name": name, "keypoints": ["part"] * 17}
        for number, (family, name) in enumerate(species, start=1)
    ]
    for name, content in parts.items():
        write(root / "annotations" / f"ap10k-{name}-split1.json", {**content, "categories": categories})
    write(root / "ap-10k_is_crowd.txt", "\n".join(arrays["ap10k_crowd"].tolist()))
    (root / "data").mkdir(parents=True, exist_ok=True)
    return root


def ap_10k_prepared(root: Path) -> Path:
    """Two antelopes and a dog as a notebook leaves them: one pair within a species, one across families."""
    animals = {4: ("Bovidae", "antelope"), 6: ("Bovidae", "antelope"), 9: ("Canidae", "dog")}
    for number, (family, species) in animals.items():
        place = f"{family}/{species}/{number:012d}"
        points = [value for k in range(17) for value in ((k + number, 2 * k, 2) if k < 12 + number % 4 else (0, 0, 0))]
        image(root / "JPEGImages" / f"{place}.jpg")
        content = {"width": 40, "height": 30, "bbox": [1, 2, 30, 20], "keypoints": points, "name": species}
        write(root / "ImageAnnotation" / f"{place}.json", content)
    for folder, one, two, group in (("test", 4, 6, "antelope"), ("test_cross_family", 9, 4, "all")):
        places = [f"data/ap-10k/ImageAnnotation/{'/'.join(animals[n])}/{n:012d}.json" for n in (one, two)]
        stem = f"{one:012d}-{two:012d}:{group}"
        pair = dict(zip(("src_json_path", "trg_json_path"), places))
        write(root / "PairAnnotation" / folder / f"{stem}.json", pair)
    return root


def spair_u(root: Path, **changes: Any) -> Path:
    """One pair of cats: points 0 and 3 in both images, 7 in the source and 9 in the target alone."""
    pair = annotation("cat", kps_ids=["0", "3"], src_imsize=[40, 30, 3], trg_imsize=[40, 30, 3])
    stem = "000001-2008_000001-2008_000002:cat"
    write(root / "spair-u" / "PairAnnotation" / "test" / f"{stem}.json", {**pair, **changes})
    empty = dict.fromkeys(map(str, range(30)))
    for name, points, azimuth in (
        ("2008_000001", {"0": [1, 2], "3": [30, 20], "7": [5, 6]}, 1),
        ("2008_000002", {"0": [3, 4], "3": [25, 11], "9": [8, 8]}, 2),
    ):
        content = {"kps": {**empty, **points}, "azimuth_id": azimuth}
        write(root / "spair-u" / "ImageAnnotation" / "cat" / f"{name}.json", content)
        image(root / "spair-71k" / "JPEGImages" / "cat" / f"{name}.jpg")
    return root


def flow_file(path: Path, flow: np.ndarray) -> None:
    """A .flo file of (height, width, 2)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = flow.shape[:2]
    path.write_bytes(struct.pack("<f2i", 202021.25, width, height) + flow.astype("<f4").tobytes())


def tss(root: Path) -> Path:
    """One pair of bicycles: image2 is image1 moved by (5, -3), their sizes differ, an object in the middle."""
    folder = root / "JODS" / "bike_01_02"
    for number, (width, height), moved in ((1, (64, 48), (5.0, -3.0)), (2, (72, 56), (-5.0, 3.0))):
        image(folder / f"image{number}.png", (width, height))
        flow_file(folder / f"flow{number}.flo", np.full((height, width, 2), moved))
        mask = np.zeros((height, width), np.uint8)
        mask[8:40, 16:48] = 255
        Image.fromarray(mask).save(folder / f"mask{number}.png")
    return root


def cub(root: Path) -> Path:
    """Four birds of one class, one of which is to train, and one of another; the last shows two parts only."""
    names = [
        "001.Gull/gull_b.jpg",
        "001.Gull/gull_a.jpg",
        "001.Gull/gull_c.jpg",
        "001.Gull/gull_d.jpg",
        "002.Tern/t.jpg",
    ]
    write(root / "images.txt", "".join(f"{n} {name}\n" for n, name in enumerate(names, start=1)))
    write(root / "train_test_split.txt", "1 0\n2 0\n3 1\n4 0\n5 0\n")
    write(root / "bounding_boxes.txt", "".join(f"{n} 2.0 3.0 30.0 20.0\n" for n in range(1, 6)))
    lines = []
    for number in range(1, 6):
        for part in range(1, 16):
            shown = part in (7, 11) if number == 4 else part != 2 or number == 1
            lines.append(f"{number} {part} {part + number}.0 {2 * part / 2:.1f} {int(shown)}\n")
    write(root / "parts" / "part_locs.txt", "".join(lines))
    for name in names:
        image(root / "images" / name)
    return root


def psc6k(root: Path) -> Path:
    """One photograph of an owl and its sketch."""
    with_points = [";".join(map(str, range(k, k + 8))) for k in (0, 10, 20, 30)]
    root.mkdir(parents=True, exist_ok=True)
    with open(root / "test_pairs_ps.csv", "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["photo", "sketch", "class", "XA", "YA", "XB", "YB"])
        rows.writerow(["photo/tx_000100000000/owl/p.jpg", "sketch/tx_000100000000/owl/s.png", "owl", *with_points])
    for kind, name in (("photo", "p.jpg"), ("sketch", "s.png")):
        image(root / "rendered_256x256/256x256" / kind / "tx_000100000000/owl" / name, (256, 256))
    return root


def mp_100(root: Path, arrays: Arrays) -> Path:
    """The synthetic MP-100 set that MARCO's loader ran on, in one test file."""
    images, annotations = (json.loads(str(arrays[f"mp100_{name}_json"])) for name in ("images", "annotations"))
    write(root / "annotations" / "mp100_split1_test.json", {"images": images, "annotations": annotations})
    write(root / "pairs_clothing.json", json.loads(str(arrays["mp100_pairs_json"])))
    for each in images:
        image(root / "images" / each["file_name"], (each["width"], each["height"]))
    return root


def soco(root: Path, arrays: Arrays) -> Path:
    """The synthetic SOCO set that its own script ran on."""
    for folder, pair in json.loads(str(arrays["soco_pairs_json"])):
        name = f"{pair['pair_id']:05d}.json"
        write(root / "PairAnnotations" / folder / pair["pair_group"] / name, pair)
        for side in ("src", "trg"):
            image(root / "Images" / pair[f"{side}_category"] / pair[f"{side}_image"], tuple(pair[f"{side}_imsize"]))
    return root
