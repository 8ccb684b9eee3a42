"""Hostile and damaged images, by name: functions that write one and say where it lies.

    python -m tests.data_sets.hostile_images

tries all of them by `residuum predict`, each in a process of its own. None may take more than 2 seconds or 500 MiB,
write anything, or end otherwise than read right or refused in one line.
"""

import io
import os
import struct
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
from PIL import Image

from residuum.cli import main

sys.path.insert(0, str(Path(__file__).parents[1]))

from forked import SPECIAL, Case, Tried, attempt, put, run

CASES: dict[str, tuple[Case, str]] = {}
RGB = Image.fromarray(np.random.default_rng(1).integers(0, 256, (12, 12, 3), np.uint8))


def case(name: str, content: Callable[[], bytes], wanted: str = "refused", file: str = "x.png") -> None:
    """Keep an image of some content as a case; `wanted` is what has to come of it."""
    assert name not in CASES, name
    CASES[name] = put(file, lambda path: path.write_bytes(content())), wanted


def encoded(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def png(width: int, height: int, data: bytes, *, bits: int = 8, kind: int = 2, extra: bytes = b"") -> bytes:
    """A PNG by its chunks, whatever they say."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    head = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + extra + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def text_chunk(size: int) -> bytes:
    content = b"a\0\0" + zlib.compress(bytes(size), 9)
    return struct.pack(">I", len(content)) + b"zTXt" + content + struct.pack(">I", zlib.crc32(b"zTXt" + content))


def turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(RGB, "JPEG", exif=exif)


for _form in ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM"):
    case(f"{_form}: as it should be", lambda form=_form: encoded(RGB, form), "read")
    case(f"{_form}: cut in the middle", lambda form=_form: (c := encoded(RGB, form))[: len(c) // 2], "either")
    case(f"{_form}: its head alone", lambda form=_form: encoded(RGB, form)[:20])
case("one pixel", lambda: encoded(RGB.resize((1, 1))), "read")
case("one row of 10,000", lambda: encoded(RGB.resize((10_000, 1))), "read")
case("CMYK", lambda: encoded(RGB.convert("CMYK"), "JPEG"), "read", "x.jpg")
case("16 bits a channel", lambda: encoded(Image.fromarray(np.arange(144, dtype=np.uint16).reshape(12, 12))))
case("32 bits a value", lambda: encoded(Image.fromarray(np.ones((12, 12), np.int32)), "TIFF"))
case("values of fp32", lambda: encoded(Image.fromarray(np.ones((12, 12), np.float32)), "TIFF"))
case("a palette", lambda: encoded(RGB.quantize(16)), "read")
case("a palette with transparency", lambda: encoded(RGB.quantize(16), transparency=3), "read")
case("transparency", lambda: encoded(RGB.convert("RGBA")), "read")
case("black and white", lambda: encoded(RGB.convert("1")), "read")
case("grey", lambda: encoded(RGB.convert("L")), "read")
case("several frames", lambda: encoded(RGB, "GIF", save_all=True, append_images=[RGB.rotate(90)] * 9), "read", "x.gif")
case("turned by its EXIF", turned, "read", "x.jpg")
case("EXIF of rubbish", lambda: encoded(RGB, "JPEG", exif=b"Exif\0\0" + b"\xff" * 500), "either", "x.jpg")
case("100,000 × 100,000 are announced", lambda: png(100_000, 100_000, b""))
case("4 billion pixels of nothing", lambda: png(65_535, 65_535, zlib.compress(bytes(1 << 26), 9)))
case("25 megapixels of nothing", lambda: encoded(Image.new("L", (5000, 5000))))
case("19 megapixels", lambda: encoded(Image.new("L", (4750, 4000))), "read")
case("no pixels", lambda: png(0, 0, zlib.compress(b"")))
case("too few pixels", lambda: png(12, 12, zlib.compress(b"\0" * 30)), "either")
case("many more pixels than announced", lambda: png(12, 12, zlib.compress(bytes(1 << 28), 9)), "either")
case(
    "a text chunk of gigabytes", lambda: png(12, 12, zlib.compress(bytes(12 * 37)), extra=text_chunk(1 << 28)), "either"
)
case("a wrong checksum", lambda: (c := bytearray(encoded(RGB))).__setitem__(45, c[45] ^ 1) or bytes(c))
case("a bit depth that is none", lambda: png(12, 12, zlib.compress(bytes(999)), bits=7))
case("a colour type that is none", lambda: png(12, 12, zlib.compress(bytes(999)), kind=5))
case(
    "JPEG of 5,000 scans",
    lambda: (c := encoded(RGB, "JPEG", progressive=True))[:-2] + c[c.find(b"\xff\xda") : -2] * 5000 + c[-2:],
    file="x.jpg",
)
case("PPM with a comment of 20 MB", lambda: b"P6\n#" + b"x" * 20_000_000 + b"\n12 12\n255\n" + bytes(432), file="x.ppm")
case(
    "PPM of one colour, that of a comment",
    lambda: encoded(Image.new("RGB", (200, 200), (35, 35, 35)), "PPM"),
    "read",
    "x.ppm",
)
case("SVG", lambda: b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>", file="x.svg")
case("text named .png", lambda: b"hello\n" * 99)
case("a page named .png", lambda: b"<!doctype html><html>")
case(
    "a program in PostScript",
    lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(canary) (w) file\nshowpage\n",
    file="x.eps",
)
case("PDF", lambda: b"%PDF-1.4\n1 0 obj\n<<>>\nendobj\n", file="x.pdf")
case("empty", lambda: b"")
case("rubbish", lambda: np.random.default_rng(2).bytes(5000))
case("a name that turns the terminal", lambda: encoded(RGB), "read", "x\x1b]0;a\x07\u202e.png")
case("such a name, of a file that is refused", lambda: b"x", file="x\x1b[2J\n\u202egnp.png")
case("a name of stars and question marks", lambda: encoded(RGB), "read", "[a]*?.png")
case("a name like an option's value", lambda: encoded(RGB), "read", "=[b]x[b].png")


CASES |= {name: (put("x.png", lay), "refused") for name, lay in SPECIAL.items()}


def tried(folder: Path, names: tuple[str, ...] = ()) -> Iterator[Tried]:
    """What comes of each case, or of some, one after the other."""
    data = "{name = 'synthetic', size = 12, train = 40, test = 20, classes = 3}"
    words = ["train", "quick", "--epochs", "1", "--runs", str(folder / "runs"), "--set", f"data.dataset={data}",
             "--set", "model={name = 'cifar_resnet', depth = 8, channels = [4, 4, 4]}"]  # fmt: skip
    RGB.save(folder / "warm.png")
    with redirect_stdout(io.StringIO()):  # what is imported once is no part of a case
        assert main(words) == 0
        (record,) = (folder / "runs").glob("resnet8*")
        assert main(["predict", str(record), str(folder / "warm.png")]) == 0
    for number, name in enumerate(names or CASES):
        made, wanted = CASES[name]
        place = folder / f"image-{number}"
        place.mkdir()
        os.chdir(place)
        image = made(place)
        name, outcome, seconds, mib = attempt(name, ("predict", record, image), wanted, place / "canary")
        if {*place.iterdir()} - {image}:
            outcome = "WRONG: something was written"
        yield name, outcome, seconds, mib


if __name__ == "__main__":
    run(tried)
