"""A pinhole camera on a sphere around an object, framed like a photograph of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


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
