"""What is in front of the camera: an object, clutter behind it, occluders before it, materials, a light."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageDraw

from sc_imagenet.core.errors import unknown_name
from sc_imagenet.toy.categories import KINDS
from sc_imagenet.toy.mesh import Mesh, Solid, box, ellipsoid, merged, rotation, tube

# Random materials: a colour pair and a solid texture that is evaluated at positions in object space.

PATTERNS = ("plain", "stripes", "checks", "spots", "marble")
SHARES = (0.5, 0.15, 0.1, 0.1, 0.15)


@dataclass(frozen=True)
class Role:
    """Which colours a kind of part has: tyres are dark, windows pale, lamps vivid, bodies anything."""

    saturation: tuple[float, float]
    value: tuple[float, float]
    patterned: bool


ROLES = (
    Role((0, 0.75), (0.25, 0.95), patterned=True),  # 0 main
    Role((0, 0.75), (0.25, 0.95), patterned=True),  # 1 second
    Role((0, 0.4), (0.04, 0.22), patterned=False),  # 2 dark
    Role((0, 0.25), (0.75, 1), patterned=False),  # 3 pale
    Role((0.75, 1), (0.65, 1), patterned=False),  # 4 vivid
)
PAINTS = len(ROLES)  # paint slots of an object


@dataclass(frozen=True)
class Materials:
    """A table of M materials, one row each."""

    first: np.ndarray  # (M, 3) colour in [0, 1]
    second: np.ndarray  # (M, 3) the pattern's other colour
    pattern: np.ndarray  # (M,) index of PATTERNS
    frequency: np.ndarray  # (M,) radians a unit of length
    axes: np.ndarray  # (M, 3, 3) orientation of the pattern

    def colours(self, material: np.ndarray, positions: np.ndarray) -> np.ndarray:
        """Colours (N, 3) of the materials (N,) at the positions (N, 3)."""
        mixed = np.zeros(len(material))
        for index in np.unique(material):
            here = material == index
            local = positions[here] @ self.axes[index].T * self.frequency[index]
            mixed[here] = _pattern(PATTERNS[self.pattern[index]], local)
        first, second = self.first[material], self.second[material]
        return first + mixed[:, None] * (second - first)


def random_colour(rng: np.random.Generator, role: Role = ROLES[0]) -> np.ndarray:
    """An RGB colour (3,) in [0, 1] of any hue, its saturation and value as the role has them."""
    return np.array(colorsys.hsv_to_rgb(rng.uniform(), rng.uniform(*role.saturation), rng.uniform(*role.value)))


def random_materials(rng: np.random.Generator, objects: int) -> Materials:
    """One material for each role and object; the second colour of each is a relative of the first."""
    roles = ROLES * objects
    first = np.array([random_colour(rng, role) for role in roles])
    other = np.array([random_colour(rng, role) for role in roles])
    shares = np.array(SHARES)
    return Materials(
        first,
        0.35 * first + 0.65 * other,
        np.array([rng.choice(len(PATTERNS), p=shares) if role.patterned else 0 for role in roles]),
        rng.uniform(12, 40, len(roles)),
        np.linalg.qr(rng.standard_normal((len(roles), 3, 3)))[0],
    )


def _pattern(name: str, local: np.ndarray) -> np.ndarray:
    """How much of the second colour a pattern shows at positions (N, 3) in radians."""
    if name == "plain":
        return np.zeros(len(local))
    if name == "stripes":
        return (np.sin(local[:, 0]) > 0.1).astype(float)
    waves = np.sin(local)
    if name == "checks":
        return (waves.prod(1) > 0).astype(float)
    if name == "spots":
        return (waves.sum(1) > 1.3).astype(float)
    return 0.5 + 0.5 * np.sin(local[:, 0] + 2 * waves[:, 1] + 1.5 * np.sin(0.6 * local[:, 2] + waves[:, 0]))


# Cluttered backgrounds: a ground, a horizon, noise of several scales and random flat shapes.


def background(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    """A picture (height, width, 3) of floats in [0, 1]."""
    picture = _mix(random_colour(rng), random_colour(rng), noise(rng, width, height, coarse=2))
    if rng.uniform() < 0.5:
        horizon = rng.uniform(0.35, 0.8) * height + rng.uniform(-0.15, 0.15) * np.arange(width)
        below = np.arange(height)[:, None] > horizon[None]
        floor = _mix(random_colour(rng), random_colour(rng), noise(rng, width, height, coarse=8))
        picture = np.where(below[..., None], floor, picture)
    picture = _shapes(rng, picture, int(rng.integers(2, 12)))
    grain = noise(rng, width, height, coarse=int(rng.integers(6, 24))) - 0.5
    return np.clip(picture + rng.uniform(0.05, 0.4) * grain[..., None], 0, 1)


def noise(rng: np.random.Generator, width: int, height: int, coarse: int) -> np.ndarray:
    """Smooth noise (height, width) in [0, 1]: three octaves from a grid of ``coarse`` cells a side."""
    total = np.zeros((coarse, coarse), np.float32)
    for octave in range(3):
        cells = coarse * 2**octave
        total = _resized(total, cells, cells) + 0.5**octave * rng.uniform(size=(cells, cells)).astype(np.float32)
    return np.clip(_resized(total, width, height) / 1.75, 0, 1)


def _resized(values: np.ndarray, width: int, height: int) -> np.ndarray:
    return np.asarray(Image.fromarray(values).resize((width, height), Image.Resampling.BICUBIC))


def _mix(first: np.ndarray, second: np.ndarray, share: np.ndarray) -> np.ndarray:
    return first.astype(np.float32) + share[..., None] * (second - first).astype(np.float32)


def _shapes(rng: np.random.Generator, picture: np.ndarray, count: int) -> np.ndarray:
    """Random ellipses, polygons and bars drawn on a picture."""
    height, width = picture.shape[:2]
    canvas = Image.fromarray((255 * picture).astype(np.uint8))
    draw = ImageDraw.Draw(canvas)
    for _ in range(count):
        colour = tuple(int(255 * value) for value in random_colour(rng))
        centre = rng.uniform(size=2) * (width, height)
        reach = rng.uniform(0.05, 0.3) * min(width, height)
        kind = rng.integers(3)
        if kind == 0:
            half = reach * rng.uniform(0.4, 1, 2)
            draw.ellipse([*(centre - half), *(centre + half)], fill=colour)
        elif kind == 1:
            angles = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 7))))
            outline = centre + reach * np.stack([np.cos(angles), np.sin(angles)], -1)
            draw.polygon([tuple(point) for point in outline], fill=colour)
        else:
            angle = rng.uniform(0, np.pi)
            half = 2 * reach * np.array([np.cos(angle), np.sin(angle)])
            draw.line([*(centre - half), *(centre + half)], fill=colour, width=int(rng.integers(2, 10)))
    return np.asarray(canvas) / np.float32(255)


# A pinhole camera on a sphere around an object, framed like a photograph of it.


@dataclass(frozen=True)
class Camera:
    """Camera axes: x right, y down, z along the optical axis; pixels are (x, y), 0-based."""

    rotation: np.ndarray  # (3, 3) object axes to camera axes
    distance: float  # from the camera to the object's origin, object units
    focal: float  # pixels
    centre: np.ndarray  # (2,) principal point, pixels; a crop of a larger photograph moves it

    def view(self, points: np.ndarray) -> np.ndarray:
        """Object coordinates (N, 3) to camera coordinates (N, 3)."""
        return points @ self.rotation.T + np.array([0.0, 0.0, self.distance])

    def project(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Object coordinates (N, 3) to pixels (N, 2) and depths (N,)."""
        seen = self.view(points)
        return self.focal * seen[:, :2] / seen[:, 2:] + self.centre, seen[:, 2]

    @property
    def towards(self) -> np.ndarray:
        """Unit vector (3,) from the object to the camera, in object axes."""
        return -self.rotation[2]


def look(azimuth: float, elevation: float, roll: float) -> np.ndarray:
    """The rotation (3, 3) of a camera looking at the origin; degrees.

    Azimuth 0 looks at the object's front (its +x side), 90 at its left (+y); elevation is above the
    horizon; roll turns the camera about its axis.

    >>> (look(0, 0, 0) @ [1, 0, 0]).round(6).tolist()  # the front points at the camera
    [0.0, 0.0, -1.0]
    >>> (look(0, 0, 0) @ [0, 1, 0]).round(6).tolist()  # the object's left lies to the right
    [1.0, 0.0, 0.0]
    """
    a, e, r = np.radians([azimuth, elevation, roll])
    forward = -np.array([np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e)])
    right = np.array([-np.sin(a), np.cos(a), 0.0])
    down = np.cross(forward, right)
    turn = np.array([[np.cos(r), -np.sin(r), 0], [np.sin(r), np.cos(r), 0], [0, 0, 1]])
    return turn @ np.stack([right, down, forward])


def frame(vertices: np.ndarray, rotation: np.ndarray, distance: float, side: float, middle: np.ndarray) -> Camera:
    """The camera whose picture of ``vertices`` has a box of longer side ``side`` centred on ``middle``, pixels."""
    plain = Camera(rotation, distance, 1.0, np.zeros(2))
    pixels, _ = plain.project(vertices)
    low, high = pixels.min(0), pixels.max(0)
    focal = side / (high - low).max()
    return Camera(rotation, distance, float(focal), middle - focal * (low + high) / 2)


def angle_between(a: np.ndarray, b: np.ndarray) -> float:
    """Degrees between two unit vectors.

    >>> angle_between(np.array([1.0, 0, 0]), np.array([0, 1.0, 0]))
    90.0
    """
    return float(np.degrees(np.arccos(np.clip(a @ b, -1, 1))))


# What is in front of the camera: an object, clutter behind it, occluders before it, materials, a light.

OBJECT, BEHIND, BEFORE = 0, 1, 2  # roles of a face
TRUNCATED = 0.15  # share of images whose frame may cut the object
OCCLUDED = 0.25  # share of images with an occluder
LIMIT = 0.3  # radius of an occluder at the object's distance, in object radii


@dataclass(frozen=True)
class Scene:
    """Everything a picture is made of, in the object's axes; the object lies in the unit ball."""

    solid: Solid
    camera: Camera
    mesh: Mesh
    roles: np.ndarray  # (F,) OBJECT, BEHIND or BEFORE
    materials: Materials
    light: np.ndarray  # (3,) unit vector towards the light


def compose(category: str, rng: np.random.Generator, size: tuple[int, int]) -> Scene:
    """Put together a random scene around a new instance of ``category``; ``size`` is (width, height).

    Raises:
        InputError: no such category.
    """
    if category not in KINDS:
        raise unknown_name("toy category", category, KINDS)
    kind = KINDS[category]
    solid = kind.build(rng).finish()
    turned = look(rng.uniform(*kind.azimuth), rng.uniform(*kind.elevation), rng.uniform(-8, 8))
    shown = rng.uniform(0.75, 0.98) * min(size)
    slack = (np.array(size) - shown) / 2
    if rng.uniform() < TRUNCATED:
        slack = slack + 0.15 * shown
    middle = np.array(size) / 2 + rng.uniform(-1, 1, 2) * slack
    camera = frame(solid.mesh.vertices, turned, rng.uniform(2.2, 5), shown, middle)

    things = [(solid.mesh, OBJECT)]
    for _ in range(int(rng.integers(1, 4))):
        things.append((_place(_piece(rng, category), rng, camera, size), BEHIND))
    if rng.uniform() < OCCLUDED:
        things.append((_occluder(rng, camera), BEFORE))
    meshes = [replace(thing, paint=thing.paint + PAINTS * index) for index, (thing, _) in enumerate(things)]
    light = np.array([rng.uniform(-1, 1), rng.uniform(-1.2, 0.1), -rng.uniform(0.4, 1)])
    return Scene(
        solid,
        camera,
        merged(meshes),
        np.concatenate([np.full(len(thing.faces), role) for thing, role in things]),
        random_materials(rng, len(things)),
        light @ camera.rotation / np.linalg.norm(light),
    )


def _piece(rng: np.random.Generator, category: str) -> Mesh:
    """A few parts of an instance of another category, as a distraction; radius 1."""
    other = str(rng.choice([name for name in KINDS if name != category]))
    parts = KINDS[other].build(rng).parts
    first = int(rng.integers(len(parts)))
    piece = merged(parts[first : first + int(rng.integers(2, 6))])
    centred = piece.vertices - piece.vertices.mean(0)
    return replace(piece, vertices=centred / np.linalg.norm(centred, axis=1).max())


def _place(piece: Mesh, rng: np.random.Generator, camera: Camera, size: tuple[int, int]) -> Mesh:
    """A piece of radius 1 put far behind the object, anywhere in the image, in any orientation."""
    depth = camera.distance + rng.uniform(3, 5)
    radius = rng.uniform(0.1, 0.25) * min(size) * depth / camera.focal
    pixel = rng.uniform(0, 1, 2) * size
    spot = np.append((pixel - camera.centre) / camera.focal, 1.0) * depth
    angles = rng.uniform(0, 360, 2)
    turn = rotation("z", angles[0]) @ rotation("x", angles[1])
    return replace(piece, vertices=radius * piece.vertices).moved(turn, _world(camera, spot))


def _occluder(rng: np.random.Generator, camera: Camera) -> Mesh:
    """A box, ball, bar or disc between the camera and the object, over a part of it."""
    radius = rng.uniform(0.4, 1) * LIMIT
    shapes = (
        box(radius * rng.uniform(0.8, 1.6, 3)),
        ellipsoid(radius * rng.uniform(0.5, 1, 3)),
        tube([(0, 0, -3 * radius), (0, 0, 3 * radius)], 0.25 * radius),
        tube([(0, 0, -0.05), (0, 0, 0.05)], radius, segments=18),
    )
    shape = shapes[int(rng.integers(len(shapes)))]
    depth = camera.distance - rng.uniform(1.05, 1.35)
    angle = rng.uniform(0, 2 * np.pi)
    aside = rng.uniform(0.2, 0.8) * np.array([np.cos(angle), np.sin(angle)])
    spot = np.append(aside / camera.distance, 1.0) * depth
    small = replace(shape, vertices=shape.vertices * depth / camera.distance)
    turn = rotation("z", rng.uniform(0, 360)) @ rotation("x", rng.uniform(0, 360))
    return small.moved(turn, _world(camera, spot))


def _world(camera: Camera, seen: np.ndarray) -> np.ndarray:
    """Camera coordinates (3,) to the object's axes."""
    return (seen - np.array([0.0, 0.0, camera.distance])) @ camera.rotation
