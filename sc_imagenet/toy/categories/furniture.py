"""Things that stand in a room: a chair, a desk lamp, a teapot."""

from __future__ import annotations

import numpy as np

from sc_imagenet.toy.mesh import Assembly, box, ellipsoid, rotation, tube


def chair(rng: np.random.Generator) -> Assembly:
    """A seat on four splayed legs with a back; front is +x."""
    made = Assembly()
    depth, width, height = rng.uniform(0.8, 1.15), rng.uniform(0.8, 1.25), rng.uniform(0.6, 1.1)
    thick, rise, lean = rng.uniform(0.08, 0.2), rng.uniform(0.7, 1.35), rng.uniform(0.0, 0.35)
    leg, splay = rng.uniform(0.045, 0.085), rng.uniform(0.0, 0.2)
    made.add(box((depth, width, thick), (0, 0, height), paint=1))
    top = height + thick / 2
    for x, end in ((depth / 2, "front"), (-depth / 2, "rear")):
        for y, hand in ((width / 2, "left"), (-width / 2, "right")):
            inset = np.array([x * 0.86, y * 0.86, height])
            foot = np.array([x * (0.86 + splay), y * (0.86 + splay), 0])
            made.add(tube([inset, foot], [leg, leg * 0.75], paint=0))
            made.mark(f"{end} {hand} foot", foot, 2 * leg)
            if end == "front":
                made.mark(f"front {hand} seat corner", (x, y, top))
    narrow, slats = rng.uniform(0.75, 1.0), int(rng.integers(0, 4))
    upper, lower = (
        {hand: np.array([-depth / 2 + 0.06 + back, y * share, z]) for hand, y in _sides(0.46 * width)}
        for back, share, z in ((-lean, narrow, top + rise), (0, 1, top))
    )
    if slats:
        for hand in upper:
            made.add(tube([lower[hand], upper[hand]], leg, paint=0))
        for height_of in np.linspace(0.35, 0.92, slats):
            ends = [lower[hand] + height_of * (upper[hand] - lower[hand]) for hand in upper]
            made.add(tube(ends, 0.09, paint=1, segments=6))
    else:
        back = box((0.1, width * 0.92, rise), (-depth / 2 + 0.06, 0, top + rise / 2), 1, (1, narrow), -lean)
        made.add(back)
    for hand in upper:
        made.mark(f"back top {hand}", upper[hand], 2 * leg + 0.05)
        made.mark(f"back root {hand}", lower[hand] + (0.06, 0, 0), 2 * leg + 0.05)
    return made


def lamp(rng: np.random.Generator) -> Assembly:
    """A desk lamp: a slab with a switch, two arms with joints, a conical shade that leans to +x."""
    made = Assembly()
    depth, width, thick = rng.uniform(0.5, 0.8), rng.uniform(0.45, 0.75), rng.uniform(0.07, 0.16)
    bevel = rng.uniform(0.75, 1, 2)
    made.add(box((depth, width, thick), (0, 0, thick / 2), 0, top=bevel))
    for x, end in ((depth / 2, "front"), (-depth / 2, "rear")):
        for hand, y in _sides(width / 2):
            made.mark(f"base {end} {hand}", (x * bevel[0], y * bevel[1], thick))
    switch = np.array([depth * 0.3, 0, thick])
    made.add(ellipsoid((0.07, 0.07, 0.05), switch, paint=4, segments=10))
    made.mark("switch", switch, 0.08)
    arm, first, second = rng.uniform(0.03, 0.055), rng.uniform(0.65, 1.0), rng.uniform(0.5, 0.85)
    foot = np.array([-depth * 0.25, 0, thick])
    elbow = foot + first * rotation("y", rng.uniform(-50, -10)) @ (0, 0, 1)
    neck = elbow + second * rotation("y", rng.uniform(25, 75)) @ (0, 0, 1)
    made.add(tube([foot, elbow], arm, paint=2), tube([elbow, neck], arm, paint=2))
    made.add(ellipsoid([1.9 * arm] * 3, elbow, paint=4, segments=10))
    made.mark("arm foot", foot, 2 * arm)
    made.mark("elbow", elbow, 3 * arm)
    length, mouth, tilt = rng.uniform(0.35, 0.6), rng.uniform(0.24, 0.4), rng.uniform(105, 160)
    turn = rotation("z", rng.uniform(-25, 25)) @ rotation("y", tilt)
    shade = tube([(0, 0, -0.05), (0, 0, 0.05), (0, 0, length)], [0.09, 0.11, mouth], paint=1, segments=16)
    made.add(shade.moved(turn, neck))
    made.add(ellipsoid((0.12, 0.12, 0.1), (0, 0, length), paint=3).moved(turn, neck))
    made.mark("shade top", neck + turn @ (0, 0, -0.05), 0.15)
    made.mark("shade rim far", neck + turn @ (-mouth, 0, length))
    made.mark("shade rim near", neck + turn @ (mouth, 0, length))
    made.mark("bulb", neck + turn @ (0, 0, length + 0.1), 0.06)
    return made


def teapot(rng: np.random.Generator) -> Assembly:
    """A round body with a spout towards +x, a handle towards -x and a lid with a knob."""
    made = Assembly()
    long, wide, high = rng.uniform(0.5, 0.72), rng.uniform(0.45, 0.6), rng.uniform(0.38, 0.65)
    made.add(ellipsoid((long, wide, high), (0, 0, high), paint=0, segments=20))
    base = 0.62 * long
    made.add(tube([(0, 0, -0.05), (0, 0, 0.16 * high)], [base, base * 0.85], paint=2, segments=16))
    made.mark("base spout side", (0.75 * base, 0.66 * base, -0.05))
    made.mark("base handle side", (-0.75 * base, 0.66 * base, -0.05))
    lid = 0.5 * long
    made.add(tube([(0, 0, 1.8 * high), (0, 0, 2.02 * high), (0, 0, 2.1 * high)], [lid, lid, lid * 0.4], 1, 16))
    knob = np.array([0, 0, 2.1 * high + 0.08])
    made.add(ellipsoid((0.1, 0.1, rng.uniform(0.08, 0.16)), knob, paint=4, segments=10))
    made.mark("knob", knob, 0.16)
    made.mark("lid spout side", (0.75 * lid, 0.66 * lid, 2.02 * high))
    made.mark("lid handle side", (-0.75 * lid, 0.66 * lid, 2.02 * high))
    reach, rise, thick = rng.uniform(0.35, 0.65), rng.uniform(0.5, 1.1) * high, rng.uniform(0.07, 0.11)
    root = np.array([0.86 * long, 0, 0.7 * high])
    bend = root + (0.62 * reach, 0, 0.3 * rise)
    tip = root + (reach, 0, rise)
    made.add(tube([root - (0.1, 0, 0.03), root, bend, tip], [1.8 * thick, 1.7 * thick, thick, 0.8 * thick], 3))
    made.mark("spout root", root + (0.08, 0, -0.02), 2.2 * thick)
    made.mark("spout tip", tip, 1.5 * thick)
    grip, spread = rng.uniform(0.3, 0.55), rng.uniform(0.35, 0.55) * high
    angle = np.linspace(-80, 80, 9)
    arc = [(-0.82 * long - grip * np.cos(a), 0, high + spread * np.sin(a)) for a in np.radians(angle)]
    inner = [(-0.62 * long, 0, high + spread * s) for s in (-1, 1)]
    thin = rng.uniform(0.04, 0.065)
    made.add(tube([inner[0], *arc, inner[1]], thin, paint=1, segments=7))
    made.mark("handle bottom", arc[0], 2 * thin)
    made.mark("handle middle", arc[4], 2 * thin)
    made.mark("handle top", arc[-1], 2 * thin)
    return made


def _sides(half: float) -> tuple[tuple[str, float], tuple[str, float]]:
    return ("left", half), ("right", -half)
