"""The toy set: the same everywhere, points where the parts are, visible only what a ray reaches."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset
from PIL import Image

from sc_imagenet.core.errors import InputError
from sc_imagenet.data.schema import pair_features
from sc_imagenet.sources.source import Entry, SourceOptions
from sc_imagenet.sources.toy import RenderedToy
from sc_imagenet.toy import pairs
from sc_imagenet.toy.pairs import CATEGORIES, SIDES, SPLITS, Split, point_names, render_pairs, seen_points
from sc_imagenet.toy.render import draw, render_object, see_points
from sc_imagenet.toy.scene import BEFORE, OBJECT, compose

SIZE = (180, 150)
SEEDS = range(3)
PICTURES = [(category, seed) for category in CATEGORIES for seed in SEEDS]


@pytest.fixture(scope="module")
def few() -> dict[str, Split]:
    """Fewer images than the real set has; the seeds are those of the real ones."""
    return {name: Split(split.index, images=5, pairs=8) for name, split in SPLITS.items()}


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory, few: dict[str, Split]) -> tuple[Path, list[dict]]:
    folder = tmp_path_factory.mktemp("toy")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pairs, "SPLITS", few)
        return folder, list(render_pairs(folder, "test"))


def test_a_seed_gives_the_same_bytes_and_another_seed_another_picture() -> None:
    first, again, other = (render_object("car", seed, SIZE) for seed in ((1, 2), (1, 2), (1, 3)))
    assert first.image.tobytes() == again.image.tobytes()
    assert first.points.tobytes() == again.points.tobytes()
    assert (first.image != other.image).mean() > 0.5


def test_there_are_many_categories_of_8_to_12_points_with_fixed_names() -> None:
    assert len(CATEGORIES) >= 8
    for category in CATEGORIES:
        names = {render_object(category, seed, (96, 96)).names for seed in SEEDS}
        assert len(names) == 1
        assert 8 <= len(next(iter(names))) <= 12
        assert len(set(next(iter(names)))) == len(next(iter(names)))


@pytest.mark.parametrize(("category", "seed"), PICTURES)
def test_visible_points_lie_inside_the_image_on_the_object(category: str, seed: int) -> None:
    seen = render_object(category, seed, SIZE)
    assert seen.image.shape == (SIZE[1], SIZE[0], 3)
    assert seen.image.dtype == np.uint8
    grown = seen.mask.copy()
    for dy, dx in itertools.product((-1, 0, 1), repeat=2):  # a silhouette's point may round beside the mask
        grown |= np.roll(seen.mask, (dy, dx), (0, 1))
    for x, y in seen.points[seen.visible]:
        assert 0 <= x <= SIZE[0] - 1
        assert 0 <= y <= SIZE[1] - 1
        assert grown[round(y), round(x)]
    rows, columns = np.nonzero(seen.mask)
    assert seen.bbox.tolist() == [columns.min(), rows.min(), columns.max(), rows.max()]
    assert not seen.occluded or not seen.visible.all()


@pytest.mark.parametrize("category", CATEGORIES)
def test_visibility_agrees_with_rays_from_the_camera(category: str) -> None:
    """A ray is sent through the very position of each point, the depth buffer knows only pixels."""
    agree = []
    for seed in SEEDS:
        scene = compose(category, np.random.default_rng(seed), SIZE)
        _, visible, outside, _ = see_points(scene, draw(scene, *SIZE))
        eye = scene.camera.distance * scene.camera.towards
        solid = np.isin(scene.roles, (OBJECT, BEFORE))
        triangles = scene.mesh.vertices[scene.mesh.faces[solid]]
        for k in np.flatnonzero(~outside):
            ray = scene.solid.points[k] - eye
            blocked = first_hit(eye, ray, triangles) < 1 - scene.solid.reach[k] / np.linalg.norm(ray)
            agree.append(visible[k] == (not blocked))
    assert np.mean(agree) >= 0.9  # within a pixel of an edge the two may differ
    assert len(agree) > 20


def first_hit(origin: np.ndarray, ray: np.ndarray, triangles: np.ndarray) -> float:
    """The smallest t > 0 at which origin + t ray meets one of the triangles (N, 3, 3); inf if none."""
    a, b, c = triangles[:, 0], triangles[:, 1], triangles[:, 2]
    normal = np.cross(b - a, c - a)
    slope = normal @ ray
    with np.errstate(divide="ignore", invalid="ignore"):
        t = ((a - origin) * normal).sum(1) / slope
    hit = origin + np.where(np.isfinite(t), t, 0)[:, None] * ray
    sides = [(np.cross(q - p, hit - p) * normal).sum(1) for p, q in ((a, b), (b, c), (c, a))]
    inside = (np.min(sides, 0) >= 0) & (slope != 0) & (t > 1e-6)
    return float(t[inside].min()) if inside.any() else np.inf


def test_left_and_right_are_the_object_s_own() -> None:
    """A robot that faces the camera has its left hand on the right of the picture."""
    for seed in SEEDS:
        scene = compose("robot", np.random.default_rng(seed), SIZE)
        place = dict(zip(scene.solid.names, scene.solid.points))
        assert place["left shoulder"][1] > place["right shoulder"][1]
        pixels = dict(zip(scene.solid.names, scene.camera.project(scene.solid.points)[0]))
        assert pixels["left shoulder"][0] > pixels["right shoulder"][0]


def test_pairs_fit_the_schema_and_share_at_least_four_points(rendered: tuple[Path, list[dict]]) -> None:
    folder, rows = rendered
    assert len({row["pair_id"] for row in rows}) == len(rows) == 8 * len(CATEGORIES)
    features = pair_features(CATEGORIES)
    assert all(list(row) == list(features)[: len(row)] for row in rows)  # those of schema 2 are null
    for row in rows:
        assert len(row["source_points"]) == len(row["target_points"]) >= 4
        for side in ("source", "target"):
            with Image.open(folder / row[side]) as image:
                assert list(image.size) == row[f"{side}_size"]
            assert all(SIDES[0] <= length <= SIDES[1] for length in row[f"{side}_size"])
            points = np.array(row[f"{side}_points"])
            assert (points >= 0).all()
            assert (points <= np.array(row[f"{side}_size"]) - 1).all()
    whole = [{**row, "source": str(folder / row["source"]), "target": str(folder / row["target"])} for row in rows]
    encoded = Dataset.from_list([features.encode_example(row) for row in whole], features=features)
    assert encoded[0]["source"].size == tuple(rows[0]["source_size"])
    assert encoded.features["category"].int2str(encoded[0]["category"]) == rows[0]["category"]


def test_grades_say_how_hard_a_pair_is(rendered: tuple[Path, list[dict]]) -> None:
    _, rows = rendered
    assert {row["viewpoint_variation"] for row in rows} == {0, 1, 2}
    assert {row["scale_variation"] for row in rows} <= {0, 1, 2}
    for grade in ("truncation", "occlusion"):
        assert {row[grade] for row in rows} <= {0, 1, 2, 3}
        assert len({row[grade] for row in rows}) > 1


def test_copying_coordinates_scores_low(rendered: tuple[Path, list[dict]]) -> None:
    scores = []
    for row in rendered[1]:
        source, target = np.array(row["source_points"]), np.array(row["target_points"])
        threshold = 0.1 * np.ptp(target, axis=0).max()
        scores.append((np.linalg.norm(source - target, axis=1) <= threshold).mean())
    assert np.mean(scores) < 0.15  # 0.10 over the whole split


def test_splits_share_no_picture(tmp_path: Path, few: dict[str, Split], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs, "SPLITS", few)
    monkeypatch.setattr(pairs, "CATEGORIES", ("teapot",))
    contents: dict[str, set[bytes]] = {}
    for split in SPLITS:
        assert list(render_pairs(tmp_path, split))
        contents[split] = {path.read_bytes() for path in (tmp_path / split).rglob("*.jpg")}
        assert len(contents[split]) == 5
    for one, other in itertools.combinations(SPLITS, 2):
        assert not contents[one] & contents[other]


def test_what_is_rendered_is_kept_and_what_is_missing_is_made_again(
    tmp_path: Path, few: dict[str, Split], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pairs, "SPLITS", few)
    monkeypatch.setattr(pairs, "CATEGORIES", ("lamp",))
    rows = list(render_pairs(tmp_path, "test"))
    files = sorted((tmp_path / "test").rglob("*.jpg"))
    before = [(path.stat().st_mtime_ns, path.read_bytes()) for path in files]
    assert list(render_pairs(tmp_path, "test")) == rows
    assert [(path.stat().st_mtime_ns, path.read_bytes()) for path in files] == before
    files[2].unlink()
    (tmp_path / "test" / "lamp.json").write_text('{"version": "2", "ima')
    assert list(render_pairs(tmp_path, "test")) == rows
    assert [path.read_bytes() for path in files] == [content for _, content in before]


def test_unknown_names_are_answered_with_the_valid_ones(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"unknown split 'val'.*validation"):
        next(render_pairs(tmp_path, "val"))
    with pytest.raises(InputError, match=r"unknown toy category 'cars'.*'car'"):
        render_object("cars", 0, SIZE)


def test_points_have_ids_names_and_partners_and_those_that_one_image_shows_are_told(
    rendered: tuple[Path, list[dict]],
) -> None:
    folder, rows = rendered
    source = RenderedToy(folder.parent, SourceOptions())
    source.image_root = lambda: folder  # type: ignore[method-assign]
    unpaired = 0
    for row in rows:
        entry = Entry(row["pair_id"], row["category"], row["source"], row["target"], row)
        found = source.annotation(entry, None, None)
        assert found.keypoint_ids is not None
        assert found.keypoint_names is not None
        assert found.symmetric_ids is not None
        names = point_names(row["category"])
        assert len(found.keypoint_ids) == len(row["source_points"])
        assert found.keypoint_names == [names[number] for number in found.keypoint_ids]
        for name, partner in zip(found.keypoint_names, found.symmetric_ids):
            mirrored = " ".join({"left": "right", "right": "left"}.get(word, word) for word in name.split())
            assert names[partner] == (mirrored if mirrored in names else name)
        for side, points in enumerate((row["source_points"], row["target_points"])):
            known, visible = seen_points(folder, row[("source", "target")[side]])
            assert known[found.keypoint_ids].tolist() == points
            alone = [number for number, *_, in_source in found.unpaired if in_source == (side == 0)]
            assert sorted([*found.keypoint_ids, *alone]) == np.flatnonzero(visible).tolist()
            unpaired += len(alone)
    assert unpaired > 0
