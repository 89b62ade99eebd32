"""Things that carry people: a car, an aeroplane, a bicycle, a sailing boat; all head for +x."""

from __future__ import annotations

import numpy as np

from sc_imagenet.toy.mesh import Assembly, box, ellipsoid, plate, rotation, tube, wheel


def car(rng: np.random.Generator) -> Assembly:
    """A body with a cabin, four wheels and lamps."""
    made = Assembly()
    length, width, body = rng.uniform(1.9, 2.6), rng.uniform(0.85, 1.05), rng.uniform(0.3, 0.45)
    radius, ground = rng.uniform(0.2, 0.29), rng.uniform(0.16, 0.26)
    deck = ground + body
    made.add(box((length, width, body), (0, 0, ground + body / 2), 0, (rng.uniform(0.93, 1), 0.95)))
    cabin, rise = rng.uniform(0.4, 0.62) * length, rng.uniform(0.3, 0.5)
    middle, top, lean = rng.uniform(-0.12, 0.0) * length, rng.uniform(0.62, 0.92), rng.uniform(-0.1, 0.05)
    made.add(box((cabin, width * 0.9, rise), (middle, 0, deck + rise / 2), 3, (top, 0.84), lean))
    roof = deck + rise
    made.add(box((cabin * top, width * 0.78, 0.05), (middle + lean, 0, roof), 1))
    for hand, y in (("left", 1), ("right", -1)):
        for x, end in ((0.31 * length, "front"), (-0.31 * length, "rear")):
            hub = np.array([x, y * (width / 2 - 0.03), radius])
            made.add(wheel(radius, 0.075, hub, paint=2, hub=4))
            if hand == "left":  # the other side is out of sight from nearly everywhere
                made.mark(f"{end} left wheel", hub + (0, 0.075, 0), 0.05)
            corner = (middle + lean + np.sign(x) * cabin * top / 2, y * 0.39 * width, roof + 0.025)
            made.mark(f"roof {end} {hand}", corner, 0.1)
        lamp = np.array([length * 0.49, y * width * 0.34, ground + 0.6 * body])
        made.add(ellipsoid((0.06, 0.11, 0.08), lamp, paint=4, segments=10))
        made.mark(f"{hand} headlamp", lamp + (0.05, 0, 0), 0.06)
    made.mark("left tail corner", (-0.48 * length, 0.48 * width, ground + 0.95 * body), 0.05)
    made.mark("left windscreen foot", (middle + cabin / 2, 0.45 * width, deck), 0.05)
    return made


def aeroplane(rng: np.random.Generator) -> Assembly:
    """A fuselage with swept wings, engines, a fin and a tailplane."""
    made = Assembly()
    length, radius = rng.uniform(1.9, 2.5), rng.uniform(0.13, 0.24)
    at = np.array([0.5, 0.46, 0.36, -0.2, -0.5]) * length
    rise = np.array([-0.3, -0.15, 0, 0, 0.5]) * radius
    thick = np.array([0.15, 0.6, 1, 1, 0.2]) * radius
    made.add(tube(np.stack([at, 0 * at, rise], -1), thick, paint=0, segments=14))
    made.add(ellipsoid((0.16, 0.55 * radius, 0.4 * radius), (0.37 * length, 0, 0.75 * radius), paint=2))
    made.mark("nose", (at[0], 0, rise[0]), 0.2 * radius)
    made.mark("tail end", (at[-1], 0, rise[-1]), 0.4 * radius)
    made.mark("cockpit", (0.37 * length, 0, 1.15 * radius), 0.1)
    span, chord, sweep = rng.uniform(0.8, 1.25), rng.uniform(0.35, 0.55), rng.uniform(0.05, 0.6)
    taper, up, root = rng.uniform(0.3, 0.8), rng.uniform(-0.05, 0.2), rng.uniform(0.02, 0.14) * length
    tail, tail_chord = rng.uniform(0.35, 0.55), rng.uniform(0.2, 0.3)
    pod = rng.uniform(0.07, 0.11)
    for hand, y in (("left", 1), ("right", -1)):
        lead, tip = np.array([root, 0, 0]), np.array([root - sweep, y * span, up])
        made.add(plate([lead, tip, tip - (chord * taper, 0, 0), lead - (chord, 0, 0)], (0, 0, 0.05), paint=1))
        made.mark(f"{hand} wing tip", tip - (chord * taper / 2, 0, 0), 0.1)
        engine = lead + 0.42 * (tip - lead) + (0.05, 0, -pod)
        made.add(tube([engine - (0.3, 0, 0), engine + (0.06, 0, 0)], [0.7 * pod, pod], paint=4, segments=10))
        made.mark(f"{hand} engine", engine + (0.06, 0, 0), 1.2 * pod)
        start = np.array([-0.38 * length, 0, 0.4 * radius])
        end = start + (-0.6 * sweep - 0.05, y * tail, 0.0)
        made.add(plate([start, end, end - (tail_chord * 0.6, 0, 0), start - (tail_chord, 0, 0)], (0, 0, 0.04), 1))
        made.mark(f"{hand} tailplane tip", end - (tail_chord * 0.3, 0, 0), 0.1)
    fin, back = rng.uniform(0.35, 0.6), rng.uniform(0.1, 0.4)
    foot = np.array([-0.36 * length, 0, 0.4 * radius])
    crest = foot + (-back, 0, fin)
    made.add(plate([foot, crest, crest - (0.16, 0, 0), foot - (0.3, 0, 0)], (0, 0.04, 0), paint=4))
    made.mark("fin tip", crest - (0.08, 0, 0), 0.05)
    return made


def bicycle(rng: np.random.Generator) -> Assembly:
    """Two spoked wheels, a diamond frame, handlebars, a saddle and pedals."""
    made = Assembly()
    radius, base, thick = rng.uniform(0.36, 0.5), rng.uniform(1.2, 1.5), rng.uniform(0.035, 0.055)
    tyre = rng.uniform(0.04, 0.06)
    front, rear = np.array([base / 2, 0, radius]), np.array([-base / 2, 0, radius])
    spokes = int(rng.integers(5, 11))
    made.add(wheel(radius, tyre, rear, 2, spokes, hub=3))
    head = np.array([base / 2 - rng.uniform(0.16, 0.3), 0, 2 * radius + rng.uniform(0.12, 0.35)])
    low = head + 0.35 * (front - head)
    bracket = np.array([rng.uniform(-0.12, 0.0), 0, radius * rng.uniform(0.75, 1.0)])
    seat = np.array([-0.3 * base, 0, 2 * radius + rng.uniform(0.15, 0.4)])
    joint = bracket + 0.75 * (seat - bracket)
    for a, b in ((low, bracket), (low, joint), (seat, bracket), (bracket, rear), (joint, rear)):
        made.add(tube([a, b], thick, paint=0, segments=7))
    steer = rotation("z", rng.uniform(-25, 25))
    bar, drop = rng.uniform(0.25, 0.4), rng.uniform(-0.12, 0.15)
    turned = [tube([head - low, (0, 0, 0)], thick * 0.9, paint=1)]
    for y in (1, -1):
        turned.append(tube([(0, y * 0.08, 0), front - low + (0, y * 0.08, 0)], thick * 0.7, paint=1, segments=6))
    turned.append(wheel(radius, tyre, front - low, 2, spokes, hub=3))
    stem = head - low
    for hand, y in (("left", 1), ("right", -1)):
        grip = stem + (drop, y * bar, 0.04)
        turned.append(tube([stem, grip], thick * 0.8, paint=4))
        turned.append(tube([grip - (0.1, 0, 0), grip + (0.06, 0, 0)], thick * 1.2, paint=2))
        made.mark(f"{hand} grip", low + steer @ grip, 3 * thick)
    made.add(*(part.moved(steer, low) for part in turned))
    made.mark("front hub", low + steer @ (front - low), 0.2)
    made.mark("rear hub", rear, 0.15)
    made.mark("fork crown", low, 2.5 * thick + 0.05)
    made.mark("bracket", bracket, 0.13)
    saddle = box((0.34, 0.2, 0.08), seat + (0.02, 0, 0.05), paint=4, top=(0.95, 0.8))
    made.add(saddle)
    made.mark("saddle front", seat + (0.18, 0, 0.08), 0.06)
    made.mark("saddle rear", seat + (-0.14, 0, 0.08), 0.06)
    crank = rotation("y", rng.uniform(0, 360)) @ (0.19, 0, 0)
    made.add(tube([bracket - (0, 0.04, 0), bracket + (0, 0.04, 0)], 0.11, paint=3, segments=12))
    for hand, y in (("left", 1), ("right", -1)):
        pedal = bracket + y * crank + (0, y * 0.13, 0)
        made.add(tube([bracket + (0, y * 0.08, 0), pedal - (0, y * 0.05, 0)], 0.03, paint=3, segments=5))
        made.add(box((0.13, 0.12, 0.05), pedal, paint=2))
        made.mark(f"{hand} pedal", pedal, 0.12)
    return made


def boat(rng: np.random.Generator) -> Assembly:
    """A hull with a cabin, a mast, a mainsail on a boom, a foresail and a pennant at the stern."""
    made = Assembly()
    length, beam, deep = rng.uniform(1.7, 2.3), rng.uniform(0.5, 0.75), rng.uniform(0.28, 0.42)
    bow = np.array([0.55 * length, 0, 0.08])
    for y in (1, -1):
        edge = [
            (0.55 * length, 0, 0.08),
            (0.15 * length, y * beam / 2, 0),
            (-length / 2, y * beam * 0.38, 0.02),
        ]
        keel = [
            (0.42 * length, 0, -deep),
            (0.1 * length, y * beam * 0.2, -deep),
            (-0.45 * length, y * beam * 0.2, -deep),
        ]
        for i in (0, 1):
            made.add(plate([edge[i], edge[i + 1], keel[i + 1], keel[i]], (0, y * 0.01, 0), paint=0))
        made.add(plate([edge[0], edge[1], edge[2], (-length / 2, 0, 0.02)], (0, 0, 0.01), paint=3))
        made.mark(f"stern {'left' if y > 0 else 'right'}", edge[2], 0.04)
    transom = [(-length / 2, s * beam * 0.38, 0.02) for s in (1, -1)]
    made.add(plate([*transom, *((-0.45 * length, s * beam * 0.2, -deep) for s in (-1, 1))], (0.01, 0, 0), paint=2))
    made.mark("bow", bow, 0.05)
    made.mark("keel front", (0.42 * length, 0, -deep), 0.05)
    cabin, rise = rng.uniform(0.35, 0.55), rng.uniform(0.16, 0.28)
    middle = -rng.uniform(0.08, 0.16) * length
    made.add(box((cabin, beam * 0.55, rise), (middle, 0, rise / 2), paint=1, top=(0.8, 0.85)))
    made.mark("cabin front left", (middle + 0.4 * cabin, 0.23 * beam, rise), 0.04)
    made.mark("cabin rear left", (middle - 0.4 * cabin, 0.23 * beam, rise), 0.04)
    mast = np.array([rng.uniform(0.08, 0.2) * length, 0, 0.0])
    high, swing = rng.uniform(1.4, 2.2), rotation("z", rng.uniform(-30, 30))
    made.add(tube([mast, mast + (0, 0, high)], [0.04, 0.025], paint=2, segments=7))
    made.mark("mast top", mast + (0, 0, high), 0.06)
    tack = mast + (0, 0, rng.uniform(0.34, 0.5))
    clew = tack + swing @ (-rng.uniform(0.7, 1.0), 0, 0)
    made.add(tube([tack, clew], 0.03, paint=2, segments=6))
    made.add(plate([tack + (0, 0, 0.03), mast + (0, 0, 0.95 * high), clew + (0, 0, 0.03)], swing @ (0, 0.015, 0), 4))
    made.mark("boom foot", tack, 0.06)
    made.mark("boom end", clew, 0.05)
    made.add(plate([bow, mast + (0, 0, rng.uniform(0.65, 0.9) * high), mast + (0.1, 0, 0.2)], (0, 0.012, 0), 3))
    staff = np.array([-0.48 * length, 0, 0.02])
    made.add(tube([staff, staff + (-0.05, 0, 0.5)], 0.02, paint=2, segments=5))
    flag = staff + (-0.05, 0, 0.5)
    made.add(plate([flag, flag - (0.28, 0, 0.06), flag - (0.24, 0, 0.22), flag - (0, 0, 0.2)], (0, 0.012, 0), 1))
    made.mark("pennant", flag - (0.28, 0, 0.06), 0.04)
    return made
