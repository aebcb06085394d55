"""A small synthetic copy of NYUv2 in ESANet's layout. Called by datasets/sample.py.

Rooms of boxes, seen by a camera that holes and noise make real enough. Colour tells apart what has
one shape (cabinet and bookshelf, bed and sofa, what hangs on a wall), depth what has one colour
(wall and ceiling and floor, cabinet and bed): each is informative alone, both together are better.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from datasets._nyuv2.labels import NAMES_13, NAMES_40, Array
from datasets._synthetic import is_synthetic, mark

STUDY = "nyuv2_segmentation"
Size = tuple[int, int]
SIZE: Size = (120, 160)
FRAMES = 4
SCENES = 15
TEST_SCENES = (0, 3, 6, 9, 12)
"""60 frames of 15 rooms: 40 for training, 20 for testing; like the real ids, those of one room are
neighbours.
"""

COLOURS = {
    **dict.fromkeys(("wall", "ceiling", "floor"), (176, 166, 150)),
    **dict.fromkeys(("cabinet", "bed", "table"), (128, 88, 58)),
    **dict.fromkeys(("bookshelf", "sofa", "chair"), (84, 96, 128)),
    "window": (188, 206, 222),
    "picture": (150, 70, 76),
}
BOXES = {
    **dict.fromkeys(("cabinet", "bookshelf"), ((0.7, 1.0), (1.5, 2.0), (0.4, 0.6))),
    **dict.fromkeys(("bed", "sofa"), ((1.6, 2.1), (0.45, 0.6), (0.8, 1.1))),
    **dict.fromkeys(("table", "chair"), ((0.6, 1.0), (0.7, 0.9), (0.5, 0.8))),
}
"""Class -> ranges of width, height and depth in metres."""

TO_13 = {
    "wall": "wall",
    "ceiling": "ceiling",
    "floor": "floor",
    "cabinet": "furniture",
    "bookshelf": "furniture",
    "bed": "bed",
    "table": "table",
    "sofa": "sofa",
    "chair": "chair",
    "window": "window",
    "picture": "picture",
}
STANDING = tuple(BOXES)
HANGING = ("window", "picture")
SURFACES = ("floor", "ceiling", "wall")
SHOWN = (*SURFACES, *STANDING, *HANGING)
"""Everything that a picture may show; pixels are numbers into it until they get their classes."""


@dataclass(frozen=True)
class Frame:
    """One picture.

    ``rgb`` (H, W, 3) uint8, ``depth`` (H, W) in metres, ``raw`` with holes, ``label`` (H, W) uint8
    of 40 classes, 0 = void.
    """

    rgb: Array
    depth: Array
    raw: Array
    label: Array


@dataclass(frozen=True)
class Room:
    """Sides (width, height, length) in metres, boxes, and light of a room.

    A box is (class, low corner, high corner) in x right, y up, z forward.
    """

    sides: tuple[float, float, float]
    boxes: tuple[tuple[str, Array, Array], ...]
    light: Array


def write(folder: Path, seed: int = 0, size: Size = SIZE, scenes: int = SCENES) -> None:
    """Write train and test with rgb, depth, depth_raw, labels_40, labels_13 and their lists.

    ``scenes`` rooms of four frames.
    """
    if not is_synthetic(folder):
        mark(
            folder,
            "Rooms of boxes, drawn by a program in the layout in which ESANet prepares NYUv2;"
            " nothing of it is NYUv2.",
        )
    names: dict[str, list[str]] = {"train": [], "test": []}
    for image, frame in enumerate(frames(seed, size, scenes), 1):
        split = "test" if (image - 1) // FRAMES in TEST_SCENES else "train"
        name = f"{image:04d}"
        names[split].append(name)
        _save(folder / split, name, frame)
    for split, found in names.items():
        (folder / f"{split}.txt").write_text("\n".join(found) + "\n", encoding="utf-8")


def frames(seed: int = 0, size: Size = SIZE, scenes: int = SCENES) -> list[Frame]:
    """All frames, room by room."""
    random = np.random.default_rng(seed)
    return [frame for _ in range(scenes) for frame in _visits(random, size)]


def thirteen(label: Array) -> Array:
    """Labels of 40 classes (0 = void) as those of 13.

    The mapping holds for the classes that the sample shows.
    """
    table = np.zeros(len(NAMES_40) + 1, np.uint8)
    for name, coarse in TO_13.items():
        table[NAMES_40.index(name) + 1] = NAMES_13.index(coarse) + 1
    return np.asarray(table[label])


def _save(folder: Path, name: str, frame: Frame) -> None:
    content = {
        "rgb": frame.rgb,
        "depth": (frame.depth * np.float32(1000)).astype(np.uint16),
        "depth_raw": (frame.raw * np.float32(1000)).astype(np.uint16),
        "labels_40": frame.label,
        "labels_13": thirteen(frame.label),
    }
    for kind, pixels in content.items():
        (folder / kind).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / kind / f"{name}.png")


def _visits(random: np.random.Generator, size: Size) -> list[Frame]:
    room = _room(random)
    return [_frame(room, random, size) for _ in range(FRAMES)]


def _room(random: np.random.Generator) -> Room:
    sides = (random.uniform(3.4, 4.6), random.uniform(2.4, 2.8), random.uniform(3.6, 4.8))
    boxes = [
        _standing(str(name), sides, random) for name in random.choice(STANDING, 4, replace=False)
    ]
    boxes += [_hanging(name, sides, random) for name in HANGING]
    return Room(sides, tuple(boxes), random.uniform(0.7, 1.2) * random.uniform(0.9, 1.1, 3))


def _standing(
    name: str, sides: tuple[float, float, float], random: np.random.Generator
) -> tuple[str, Array, Array]:
    extent = np.array([random.uniform(*limits) for limits in BOXES[name]])
    x = random.uniform(0, sides[0] - extent[0])
    corner = np.array([x, 0.0, random.uniform(1.8, sides[2] - extent[2])])
    return name, corner, corner + extent


def _hanging(
    name: str, sides: tuple[float, float, float], random: np.random.Generator
) -> tuple[str, Array, Array]:
    extent = np.array([random.uniform(0.6, 1.2), random.uniform(0.5, 0.9), 0.02])
    x = random.uniform(0, sides[0] - extent[0])
    corner = np.array([x, random.uniform(1.1, 1.4), sides[2] - 0.02])
    return name, corner, corner + extent


def _frame(room: Room, random: np.random.Generator, size: Size) -> Frame:
    across = room.sides[0] / 2 + random.uniform(-0.5, 0.5)
    eye = np.array([across, random.uniform(1.3, 1.6), random.uniform(0.05, 0.3)])
    rays = _rays(size, yaw=random.uniform(-0.25, 0.25), pitch=random.uniform(-0.25, 0.05))
    distance, shown, axis = _nearest_surface(room, eye, rays)
    # Classes have a colour, shifted in each frame; surfaces are shaded by the axis they face.
    plain = np.array([COLOURS[name] for name in SHOWN])
    shift = random.normal(0, 12, (len(SHOWN), 3))
    colours = plain[shown] + shift[shown]
    shade = np.array([0.85, 1.0, 0.92])[axis] * random.uniform(0.9, 1.1)
    rgb = colours * shade[..., None] * room.light + random.normal(0, 10, (*size, 3))
    # Depth: noise grows with the square of the distance, as a Kinect's does.
    measured = distance + random.normal(0, 0.004, size) * distance**2
    depth = measured.clip(0.4, 9.9).astype(np.float32)
    hole = (random.random(size) < 0.04) | _edges(shown)
    raw = np.where(hole, np.float32(0), depth)
    # Annotators leave edges and patches without a label.
    numbers = np.array([NAMES_40.index(name) + 1 for name in SHOWN])
    void = _edges(shown) | _patch(size, random)
    label = np.where(void, 0, numbers[shown]).astype(np.uint8)
    return Frame(rgb.clip(0, 255).astype(np.uint8), depth, raw, label)


def _rays(size: Size, yaw: float, pitch: float) -> Array:
    """(H, W, 3) directions of unit length along the camera's axis.

    Distances along them are depths.
    """
    height, width = size
    focal = 0.9 * width
    x = (np.arange(width) + 0.5 - width / 2) / focal
    y = (height / 2 - np.arange(height) - 0.5) / focal
    ahead = np.stack([*np.meshgrid(x, y), np.ones(size)], -1)
    sin, cos = np.sin(yaw), np.cos(yaw)
    turn = np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]])
    sin, cos = np.sin(pitch), np.cos(pitch)
    nod = np.array([[1, 0, 0], [0, cos, sin], [0, -sin, cos]])
    return np.asarray(ahead @ (turn @ nod).T)


def _nearest_surface(room: Room, eye: Array, rays: Array) -> tuple[Array, Array, Array]:
    """Depth, index into SHOWN, and the axis that the surface is square to, each (H, W)."""
    rays = np.where(np.abs(rays) < 1e-9, 1e-9, rays)  # they are divided by
    # The room is left through the nearest of the three planes ahead, one for each axis.
    exits = np.where(rays > 0, (np.array(room.sides) - eye) / rays, -eye / rays)  # (H, W, 3)
    distance, axis = exits.min(-1), exits.argmin(-1)
    level = np.where(rays[..., 1] > 0, SHOWN.index("ceiling"), SHOWN.index("floor"))
    shown = np.where(axis == 1, level, SHOWN.index("wall"))
    for name, low, high in room.boxes:
        # A ray is in a box while it is between its two planes of every axis (Kay and Kajiya, 1986).
        planes = np.stack([(low - eye) / rays, (high - eye) / rays])
        near, far = np.sort(planes, axis=0)
        enters, leaves = near.max(-1), far.min(-1)
        hit = (enters < leaves) & (enters > 0) & (enters < distance)
        distance = np.where(hit, enters, distance)
        axis = np.where(hit, near.argmax(-1), axis)
        shown = np.where(hit, SHOWN.index(name), shown)
    return distance, shown, axis


def _edges(shown: Array) -> Array:
    """Pixels whose right or lower neighbour shows something else."""
    edge = np.zeros(shown.shape, bool)
    edge[:, :-1] |= shown[:, :-1] != shown[:, 1:]
    edge[:-1] |= shown[:-1] != shown[1:]
    return edge


def _patch(size: Size, random: np.random.Generator) -> Array:
    """A rectangle that nobody labelled, a tenth of the picture."""
    height, width = round(size[0] * 0.25), round(size[1] * 0.4)
    top, left = random.integers(0, size[0] - height), random.integers(0, size[1] - width)
    found = np.zeros(size, bool)
    found[top : top + height, left : left + width] = True
    return found
