"""What paper, lamp and scanner do to a clean page."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageFilter

if TYPE_CHECKING:
    from .model import GreyImage

SKEW_MAX_DEGREES = 1.4
PAPER = 238.0
INK = 32.0
NOISE_DEVIATION = 9.0
SPECKS_PER_PAGE = 60


def as_scanned(page: GreyImage, *, seed: int) -> GreyImage:
    """The page slightly skewed and soft, on uneven paper, with noise and specks. A seed fixes every pixel."""
    rng = np.random.default_rng(seed)
    height, width = page.shape
    skew_degrees = rng.uniform(-SKEW_MAX_DEGREES, SKEW_MAX_DEGREES)
    picture = Image.fromarray(page)
    picture = picture.rotate(skew_degrees, resample=Image.Resampling.BILINEAR, fillcolor=255)
    picture = picture.filter(ImageFilter.BoxBlur(rng.uniform(0.3, 0.6)))
    grey = np.asarray(picture, dtype=np.float32)
    grey *= (PAPER - INK) / 255.0
    grey += INK
    grey += paper_shade(rng, height, width)
    grey += grain(rng, height, width)
    add_specks(rng, grey)
    np.clip(grey, 0, 255, out=grey)
    return grey.astype(np.uint8)


def paper_shade(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """The book's fold and the lamp: darker towards one long edge and one short one, by up to 30 levels."""
    across = np.linspace(0.0, 1.0, width, dtype=np.float32)
    if rng.random() < 0.5:
        across = across[::-1]
    down = np.linspace(0.0, rng.uniform(-10.0, 10.0), height, dtype=np.float32)
    return -20.0 * across[np.newaxis, :] ** 4 + down[:, np.newaxis]


def grain(rng: np.random.Generator, height: int, width: int, tile: int = 509) -> np.ndarray:
    """Noise of the sensor: one tile repeated, so that a page costs milliseconds."""
    noise = rng.standard_normal((tile, tile), dtype=np.float32) * NOISE_DEVIATION
    return np.tile(noise, (-(-height // tile), -(-width // tile)))[:height, :width]


def add_specks(rng: np.random.Generator, grey: np.ndarray) -> None:
    """Dust: dots of one to three pixels."""
    height, width = grey.shape
    for top, left, size in zip(
        rng.integers(0, height - 3, SPECKS_PER_PAGE),
        rng.integers(0, width - 3, SPECKS_PER_PAGE),
        rng.integers(1, 4, SPECKS_PER_PAGE),
        strict=True,
    ):
        grey[top : top + size, left : left + size] = 70.0
