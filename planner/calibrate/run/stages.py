"""Stages of a host: decoding JPEG images, splitting text; one core each."""

from __future__ import annotations

import io
import random
import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from planner.calibrate.run.backend import core_time
from planner.calibrate.run.items import Bench, Item, Run, UnavailableError

EDGES = (224, 448, 896)
TEXTS = (1 << 12, 1 << 15, 1 << 18)
QUALITY = 90
_WORD = re.compile(r"\w+|[^\w\s]")


def stage_items() -> Iterator[Item]:
    """Yield all items of this module."""
    for edge in EDGES:
        yield jpeg_item(edge)
    for length in TEXTS:
        yield Item(
            f"stage text {length}", "stage", {"bytes": float(length)}, {"stage": "text"},
            partial(_text, length),
        )  # fmt: skip


def jpeg_item(edge: int) -> Item:
    """Return the decoding of a square image to three bytes per pixel."""
    return Item(
        f"stage jpeg {edge}", "stage", {"bytes": 3.0 * edge * edge}, {"stage": "jpeg"}, partial(_jpeg, edge)
    )


def decoder(edge: int) -> Callable[[], bytes]:
    """Return a function that decodes a picture of ``edge`` by ``edge`` pixels.

    Raises
    ------
    UnavailableError
        If Pillow is missing.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise UnavailableError("decoding JPEG needs Pillow: pip install pillow") from error
    stored = io.BytesIO()
    _picture(Image, edge).save(stored, format="JPEG", quality=QUALITY)
    content = stored.getvalue()

    def decode() -> bytes:
        with Image.open(io.BytesIO(content)) as picture:
            return bytes(picture.convert("RGB").tobytes())

    return decode


def _picture(image: Any, edge: int) -> Any:
    """Return a picture with coarse and fine structure, as photographs have: noise scaled up, and noise."""
    dice = random.Random(edge)
    coarse = image.frombytes("RGB", (16, 16), dice.randbytes(3 * 16 * 16)).resize((edge, edge))
    middle = image.frombytes("RGB", (edge // 4, edge // 4), dice.randbytes(3 * (edge // 4) ** 2))
    return image.blend(coarse, middle.resize((edge, edge)), 0.2)


def _jpeg(edge: int, bench: Bench) -> Run:
    return _on_host(decoder(edge))


def _text(length: int, bench: Bench) -> Run:
    """Words looked up in a vocabulary, as a tokeniser's first pass does."""
    dice = random.Random(length)
    words = ["".join(dice.choices("etaoinshrdlucmfw", k=dice.randint(1, 9))) for _ in range(4096)]
    vocabulary = {word: number for number, word in enumerate(words[::2])}
    text = ""
    while len(text) < length:
        text += " ".join(dice.choices(words, k=64)) + ". "
    text = text[:length]
    return _on_host(lambda: [vocabulary.get(word, -1) for word in _WORD.findall(text)])


def _on_host(work: Callable[[], object]) -> Run:
    return lambda loops: core_time(work, loops)
