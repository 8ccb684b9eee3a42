"""Image files decoded with care: known formats only, a bound on pixels, the first frame, upright, one colour form.

Data sets and predictions read images here, so that a network meets the same pixels in both.
"""

import logging
import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from residuum.errors import InputError, StorageError
from residuum.records.storage import instead

FORMATS = {
    "PNG": (".png", ".apng"),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "WEBP": (".webp",),
    "BMP": (".bmp",),
    "GIF": (".gif",),
    "TIFF": (".tif", ".tiff"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
}
"""The formats that are read, and nothing else is, with the endings of their files."""
STARTS: dict[str, tuple[bytes, ...]] = {
    "PNG": (b"\x89PNG",), "JPEG": (b"\xff\xd8\xff",), "WEBP": (b"RIFF",), "BMP": (b"BM",), "GIF": (b"GIF8",),
    "TIFF": (b"II*\0", b"MM\0*"), "PPM": tuple(b"P%d" % number for number in range(1, 7)),
}  # fmt: skip
"""The bytes with which a file of each format begins."""
SUFFIXES = frozenset(suffix for suffixes in FORMATS.values() for suffix in suffixes)
UNREAD_SUFFIXES = frozenset((
    ".avif", ".heic", ".heif", ".jp2", ".j2k", ".jxl", ".tga", ".ico", ".psd", ".svg", ".eps", ".pcx", ".exr", ".hdr",
    ".dib", ".dds", ".raw", ".dng", ".cr2", ".nef", ".arw", ".dcm", ".nii", ".mpo", ".xcf", ".pfm",
))  # fmt: skip
"""Endings of images in other formats, to be named as such where they are passed over."""
MAX_PIXELS = 20_000_000
JPEG_SCAN, MAX_SCANS = b"\xff\xda", 200
"""How a scan of a JPEG file begins; each is decoded over the whole image, and usual files have at most ten."""
PPM_HEAD, MAX_HEAD = re.compile(rb"P[1-6](?:\s*(?:#[^\n]*(?:\n|\Z)\s*)*\d*){1,3}"), 2**16
"""What stands before the pixels of a PPM file: up to three numbers, between comments, which are read byte by byte."""
MAX_BYTES = 64 * 2**20
_MODES: dict[int, Literal["L", "RGB"]] = {1: "L", 3: "RGB"}
# Modes of 8 bits a channel. Pillow would clip 16-bit and float images to 255 without a word.
_EIGHT_BIT = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"}

# What Pillow logs of a damaged image would come on standard error where a program has set up no logging.
logging.getLogger("PIL").addHandler(logging.NullHandler())


@dataclass(frozen=True, eq=False)
class ReadImage:
    """Pixels of an image file as uint8 [C, H, W]; `resized` says that the file had another size."""

    pixels_CHW: NDArray[np.uint8]
    resized: bool


def encoding_of(content: bytes) -> str:
    """The format of an encoded image by its first bytes, one of `FORMATS`; empty of any other."""
    found = (name for name, starts in STARTS.items() if content.startswith(starts))
    name = next(found, "")
    return "" if name == "WEBP" and content[8:12] != b"WEBP" else name


def decode_image(content: bytes, place: str, channels: int) -> NDArray[np.uint8]:
    """The pixels uint8 [C, H, W] of an encoded image, for 1 (luma) or 3 (RGB) channels; transparency is dropped.

    Raises:
        InputError: in none of the formats that are read, damaged, more than 20 megapixels, or more than 8 bits a
            channel; the message begins with `place`.
    """
    return _pixels(_open(content, place), channels)


def decode_fitted(content: bytes, place: str, shape: tuple[int, int, int]) -> ReadImage:
    """The pixels of an encoded image in the given shape (C, H, W).

    An image of another size is scaled (bicubic) until it just covers that size, and its middle is taken.

    Raises:
        InputError: as `decode_image`.
    """
    channels, height, width = shape
    image = _open(content, place)
    resized = image.size != (width, height)
    if resized:
        # Scaled in its colour form: a palette cannot be interpolated.
        image = ImageOps.fit(image.convert(_MODES[channels]), (width, height), Image.Resampling.BICUBIC)
    return ReadImage(_pixels(image, channels), resized)


def read_image(path: Path, shape: tuple[int, int, int]) -> ReadImage:
    """The pixels of an image file in the given shape (C, H, W), as `decode_fitted`.

    Raises:
        InputError: the file is missing, or as `decode_image`.
        StorageError: it cannot be read.
    """
    return decode_fitted(read_bytes(path), str(path), shape)


def read_bytes(path: Path) -> bytes:
    """The bytes of an image file, bounded.

    Raises:
        InputError: it is missing, or larger than 64 MiB.
        StorageError: it cannot be read.
    """
    try:
        if not path.is_file():
            raise InputError(f"{path} is missing" if not path.exists() else f"{path} is not a file")
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"{path} is larger than {MAX_BYTES >> 20} MiB")
        return path.read_bytes()
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror or error}") from error


def is_grey(content: bytes, place: str) -> bool:
    """Whether an encoded image has no colours by its form.

    Raises:
        InputError: as `decode_image`.
    """
    return _open(content, place).mode in ("1", "L", "LA")


def _open(content: bytes, place: str) -> Image.Image:
    """The first frame of an image, decoded and upright."""
    if content.startswith(STARTS["JPEG"]) and (scans := content.count(JPEG_SCAN)) > MAX_SCANS:
        raise InputError(f"{place} has {scans:,} scans; at most {MAX_SCANS} are read")
    if (head := PPM_HEAD.match(content, 0, MAX_HEAD)) and len(head[0]) == MAX_HEAD:
        raise InputError(f"{place} has {MAX_HEAD:,} bytes of comments, or more, before its pixels")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # remarks on metadata, which nobody reads here
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(BytesIO(content), formats=tuple(FORMATS))
            if image.width * image.height <= MAX_PIXELS:
                with _unheard() if image.info.get("compression", "raw") != "raw" else nullcontext():
                    image.load()
                upright = ImageOps.exif_transpose(image)
                if upright.mode in _EIGHT_BIT:
                    return upright
                problem = f"has pixels of mode {upright.mode}; 8 bits a channel are read"
            else:
                problem = f"has {image.width}×{image.height} pixels; at most {MAX_PIXELS:,} are read"
    except UnidentifiedImageError:
        said = instead(content)
        problem = f"is {said}" if said else f"is not an image in a format that is read: {', '.join(FORMATS)}"
    except Exception as error:  # Pillow raises whatever its parsers happen to meet: SyntaxError, struct.error …
        problem = f"is a damaged image: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
    raise InputError(f"{place} {problem}")


@contextmanager
def _unheard() -> Iterator[None]:
    """Without what a library in C writes to standard error itself: libtiff does, of images that are damaged."""
    try:
        kept = os.dup(2)
    except OSError:  # standard error is closed: nothing is heard anyway
        yield
        return
    try:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _pixels(image: Image.Image, channels: int) -> NDArray[np.uint8]:
    pixels = np.asarray(image.convert(_MODES[channels]), dtype=np.uint8)
    return pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)
