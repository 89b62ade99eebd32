"""From a scene to its picture and to what is visible in it, by a vectorised z-buffer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from sc_imagenet.toy.mesh import Mesh
from sc_imagenet.toy.scene import BEFORE, OBJECT, Scene, background, compose

# A vectorised z-buffer: which face each pixel sees, how far it is, and where on the face it lies.

NOTHING = -1


@dataclass(frozen=True)
class Buffers:
    """What each pixel of an image sees."""

    face: np.ndarray  # (H, W) index of the nearest face, or NOTHING
    depth: np.ndarray  # (H, W) distance along the optical axis, inf where nothing is seen
    weights: np.ndarray  # (H, W, 3) barycentric weights on the face, perspective-correct; 0 where nothing


def rasterise(pixels: np.ndarray, depth: np.ndarray, faces: np.ndarray, width: int, height: int) -> Buffers:
    """Draw triangles with a depth test; pixel (i, j) is sampled at exactly x = i, y = j.

    ``pixels`` (V, 2) and ``depth`` (V,) > 0 are the projected vertices, ``faces`` (F, 3) their indices.
    Every triangle is cut into rows and every row into the span that its three edges leave, all at once;
    1/depth is linear in the image, so the nearest face has the largest.
    """
    corners = pixels[faces]
    inverse = 1.0 / depth[faces]
    edges = _edges(corners)  # (F, 3 edges, 3): weight of each corner = a x + b y + c
    plane = (edges * inverse[:, :, None]).sum(1)  # 1/depth = a x + b y + c

    face, y = _rows(corners[..., 1], height)
    a, b, c = (edges[face, :, k] for k in range(3))
    rest = b * y[:, None] + c
    with np.errstate(divide="ignore", invalid="ignore"):
        cut = -rest / a
    low = np.where(a > 0, cut, np.where((a == 0) & (rest < 0), np.inf, -np.inf)).max(1)
    high = np.where(a < 0, cut, np.inf).min(1)
    first = np.ceil(np.clip(low - 1e-9, 0, width)).astype(np.int64)
    last = np.floor(np.clip(high + 1e-9, -1, width - 1)).astype(np.int64)

    span, step = _expand(np.maximum(last - first + 1, 0))
    face, y, x = face[span], y[span], first[span] + step
    near = plane[face, 0] * x + plane[face, 1] * y + plane[face, 2]
    place = y * width + x
    best = np.zeros(height * width)
    np.maximum.at(best, place, near)
    won = near == best[place]
    face, x, y, place = face[won], x[won], y[won], place[won]

    seen = np.full(height * width, NOTHING)
    seen[place] = face
    weights = np.zeros((height * width, 3))
    linear = edges[face, :, 0] * x[:, None] + edges[face, :, 1] * y[:, None] + edges[face, :, 2]
    weights[place] = np.clip(linear * inverse[face] / best[place, None], 0, 1)
    with np.errstate(divide="ignore"):
        depths = 1.0 / best
    return Buffers(seen.reshape(height, width), depths.reshape(height, width), weights.reshape(height, width, 3))


def _edges(corners: np.ndarray) -> np.ndarray:
    """Coefficients (F, 3, 3) of the barycentric weights of triangles (F, 3, 2); faces seen edge-on get none."""
    following, last = np.roll(corners, -1, 1), np.roll(corners, -2, 1)
    a = following[..., 1] - last[..., 1]
    b = last[..., 0] - following[..., 0]
    c = following[..., 0] * last[..., 1] - last[..., 0] * following[..., 1]
    area = c.sum(1)
    flat = np.abs(area) < 1e-9
    edges = np.stack([a, b, c], -1) / np.where(flat, 1.0, area)[:, None, None]
    edges[flat] = (0.0, 0.0, -1.0)
    return edges


def _rows(y: np.ndarray, height: int) -> tuple[np.ndarray, np.ndarray]:
    """For each image row that a triangle touches: the triangle and the row."""
    top = np.ceil(np.clip(y.min(1), 0, height)).astype(np.int64)
    bottom = np.floor(np.clip(y.max(1), -1, height - 1)).astype(np.int64)
    face, step = _expand(np.maximum(bottom - top + 1, 0))
    return face, top[face] + step


def _expand(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Index i repeated counts[i] times, and the position 0 .. counts[i] - 1 within each run."""
    index = np.repeat(np.arange(len(counts)), counts)
    starts = np.cumsum(counts) - counts
    return index, np.arange(len(index)) - starts[index]


# From a scene to its picture and to what is visible in it.


@dataclass(frozen=True)
class Rendered:
    """A picture of an object and what is known of it; pixels are (x, y), 0-based."""

    image: np.ndarray  # (H, W, 3) uint8
    points: np.ndarray  # (K, 2) the semantic points, whether seen or not
    visible: np.ndarray  # (K,) bool: inside the image, and neither the object nor an occluder before it
    mask: np.ndarray  # (H, W) bool: the pixels that show the object
    bbox: np.ndarray  # (4,) tight box of the mask: x_min, y_min, x_max, y_max
    names: tuple[str, ...]  # of the points
    towards: np.ndarray  # (3,) unit vector from the object to the camera, in the object's axes
    truncated: bool  # a semantic point lies outside the image
    occluded: bool  # an occluder hides a semantic point


def render_object(category: str, seed: int | Sequence[int], size: tuple[int, int]) -> Rendered:
    """Picture a new instance of a category; the same arguments give the same bytes.

    ``size`` is (width, height). Shape, pose, materials, view, clutter and occluders all follow ``seed``.

    Raises:
        InputError: no such category.
    """
    rng = np.random.default_rng(seed)
    scene = compose(category, rng, size)
    buffers = draw(scene, *size)
    image = _photograph(rng, _shade(scene, buffers, rng, background(rng, *size)))
    points, visible, outside, hidden = see_points(scene, buffers)
    mask = object_mask(scene, buffers)
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    bbox = np.array([columns[0], rows[0], columns[-1], rows[-1]], float)
    towards = scene.camera.towards
    return Rendered(
        image,
        points,
        visible,
        mask,
        bbox,
        scene.solid.names,
        towards,
        bool(outside.any()),
        bool(hidden.any()),
    )


def draw(scene: Scene, width: int, height: int) -> Buffers:
    """The depth and face buffers of a scene."""
    pixels, depth = scene.camera.project(scene.mesh.vertices)
    return rasterise(pixels, depth, scene.mesh.faces, width, height)


def object_mask(scene: Scene, buffers: Buffers) -> np.ndarray:
    """The pixels (H, W) that show the object."""
    return (buffers.face != NOTHING) & (scene.roles[buffers.face] == OBJECT)


def see_points(scene: Scene, buffers: Buffers) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Pixels (K, 2) of the semantic points, and (K,) each: visible, outside the image, behind an occluder.

    A point is seen if nothing at its pixel is nearer than the point less its reach. A point on a silhouette
    may round to a pixel beside the object; then one of the eight pixels around must show the object there.
    """
    points, depth = scene.camera.project(scene.solid.points)
    height, width = buffers.face.shape
    mine, before = object_mask(scene, buffers), scene.roles[buffers.face] == BEFORE
    before &= buffers.face != NOTHING
    column, row = np.rint(points).astype(int).T
    outside = (points < 0).any(1) | (points[:, 0] > width - 1) | (points[:, 1] > height - 1)
    x, y = np.clip(column, 0, width - 1), np.clip(row, 0, height - 1)
    hidden = ~outside & before[y, x]
    clear = buffers.depth > (depth - scene.solid.reach)[:, None, None]
    near = np.zeros(len(points), bool)
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            j, i = np.clip(y + dy, 0, height - 1), np.clip(x + dx, 0, width - 1)
            near |= mine[j, i] & clear[np.arange(len(points)), j, i]
    at = mine[y, x]
    visible = ~outside & ~hidden & np.where(at, clear[np.arange(len(points)), y, x], near)
    return points, visible, outside, hidden


def _shade(scene: Scene, buffers: Buffers, rng: np.random.Generator, behind: np.ndarray) -> np.ndarray:
    """Colours (H, W, 3) in [0, 1]: Lambert and a little gloss on the textured faces, else the background."""
    seen = buffers.face != NOTHING
    face, weights = buffers.face[seen], buffers.weights[seen]
    corners = scene.mesh.faces[face]
    normal = _interpolate(weights, _normals(scene.mesh)[corners])
    normal /= np.linalg.norm(normal, axis=1, keepdims=True) + 1e-12
    place = _interpolate(weights, scene.mesh.vertices[corners])
    ray = scene.camera.distance * scene.camera.towards - place
    ray /= np.linalg.norm(ray, axis=1, keepdims=True)
    facing = (normal * ray).sum(1)
    normal *= np.where(facing < 0, -1.0, 1.0)[:, None]
    texture = _interpolate(weights, scene.mesh.texture[corners])
    colour = scene.materials.colours(scene.mesh.paint[face], texture)
    ambient, gloss = rng.uniform(0.3, 0.55), rng.uniform(0, 0.4)
    lambert = np.clip(normal @ scene.light, 0, None)
    middle = scene.light + ray
    shine = np.clip((normal * middle).sum(1) / np.linalg.norm(middle, axis=1), 0, None) ** 24
    image = behind.copy()
    image[seen] = colour * (ambient + (1 - ambient) * lambert)[:, None] * 1.15 + gloss * shine[:, None]
    return np.clip(image, 0, 1)


def _interpolate(weights: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Values (N, 3 corners, 3) at the barycentric ``weights`` (N, 3): (N, 3)."""
    return np.einsum("nk,nkd->nd", weights, values)


def _normals(mesh: Mesh) -> np.ndarray:
    """Normals (V, 3) of vertices: those of the faces around each, weighted by their area; not normalised."""
    a, b, c = (mesh.vertices[mesh.faces[:, k]] for k in range(3))
    normal = np.cross(b - a, c - a)
    total = np.zeros_like(mesh.vertices)
    for axis in range(3):
        total[:, axis] = np.bincount(mesh.faces.ravel(), np.repeat(normal[:, axis], 3), minlength=len(mesh.vertices))
    return total


def _photograph(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Exposure, a colour cast, a soft lens and sensor noise; colours in [0, 1] to uint8."""
    tones = np.linspace(0, 1, 256) ** rng.uniform(0.75, 1.3) * rng.uniform(230, 268, 3)[:, None]
    plain = Image.fromarray((255 * image).astype(np.uint8))
    developed = plain.point(np.clip(np.rint(tones), 0, 255).astype(int).ravel().tolist())
    soft = np.asarray(developed.filter(ImageFilter.GaussianBlur(rng.uniform(0.4, 0.9))))
    grain = rng.standard_normal(soft.shape, dtype=np.float32) * rng.uniform(0, 8)
    return np.clip(np.rint(soft + grain), 0, 255).astype(np.uint8)
