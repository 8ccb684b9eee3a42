"""Security rules for images: known formats, bounded, first frame, upright; data sets and predictions read alike."""

import struct
import sys
import warnings
import zlib
from io import BytesIO

import numpy as np
import pytest
from cifar_files import one_line
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from residuum.data.images import FORMATS, SUFFIXES, UNREAD_SUFFIXES, decode_fitted, decode_image, read_image
from residuum.errors import InputError

PIXELS_HWC = np.random.default_rng(2).integers(0, 256, (6, 9, 3), dtype=np.uint8)


def encoded(image, form="PNG", **options):
    buffer = BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def rgb(pixels=PIXELS_HWC):
    return Image.fromarray(pixels)


@pytest.mark.parametrize(
    ("form", "options"),
    [
        ("PNG", {}),
        ("BMP", {}),
        ("WEBP", {"lossless": True}),
        ("GIF", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("TIFF", {"compression": "tiff_adobe_deflate"}),
        ("PPM", {}),
    ],
)
def test_lossless_formats_give_the_pixels(form, options):
    np.testing.assert_array_equal(decode_image(encoded(rgb(), form, **options), "x", 3), PIXELS_HWC.transpose(2, 0, 1))


def test_forms_of_ppm_and_their_text():
    grey = Image.fromarray(PIXELS_HWC[..., 0])
    np.testing.assert_array_equal(decode_image(encoded(grey, "PPM"), "x", 1)[0], PIXELS_HWC[..., 0])
    text = b"P2 # a comment\n2 1\n255\n7 200\n"
    assert decode_image(text, "x", 1).tolist() == [[[7, 200]]]


def test_every_format_that_is_read_has_endings_of_its_own():
    endings = [suffix for suffixes in FORMATS.values() for suffix in suffixes]
    assert len(endings) == len(set(endings)) == len(SUFFIXES)
    assert not SUFFIXES & UNREAD_SUFFIXES
    assert all(suffix == suffix.lower() and suffix.startswith(".") for suffix in SUFFIXES | UNREAD_SUFFIXES)


def test_grey_is_luma():
    luma = np.rint(PIXELS_HWC @ [0.299, 0.587, 0.114])
    found = decode_image(encoded(rgb()), "x", 1)
    assert found.shape == (1, 6, 9)
    assert np.abs(found[0] - luma).max() <= 1


def test_other_colour_forms_are_converted():
    grey = Image.fromarray(PIXELS_HWC[..., 0])
    for channel in decode_image(encoded(grey), "x", 3):
        np.testing.assert_array_equal(channel, PIXELS_HWC[..., 0])
    transparent = rgb().convert("RGBA")
    transparent.putalpha(7)
    np.testing.assert_array_equal(decode_image(encoded(transparent), "x", 3), PIXELS_HWC.transpose(2, 0, 1))
    palette = rgb().quantize(4)
    np.testing.assert_array_equal(
        decode_image(encoded(palette), "x", 3), np.asarray(palette.convert("RGB")).transpose(2, 0, 1)
    )


def test_images_are_upright():
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 90° clockwise to see it upright
    found = decode_image(encoded(rgb(), exif=exif), "x", 3)
    np.testing.assert_array_equal(found, np.rot90(PIXELS_HWC, -1).transpose(2, 0, 1))


@pytest.mark.parametrize(("form", "options"), [("WEBP", {"lossless": True}), ("GIF", {}), ("TIFF", {}), ("PNG", {})])
def test_the_first_frame_is_taken(form, options):
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    content = encoded(frames[0], form, save_all=True, append_images=frames[1:], **options)
    assert decode_image(content, "x", 3)[:, 0, 0].tolist() == [255, 0, 0]


def png_of(width, height):
    """The head of a PNG file that announces a size, without pixels."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ((4473, 4473), "x has 4473×4473 pixels; at most 20,000,000 are read"),
        ((10_000, 9_500), "x is a damaged image: Image size .95000000 pixels. exceeds limit"),
        ((20_000, 20_000), "x is a damaged image: Image size .400000000 pixels. exceeds limit"),
    ],
)
def test_security_bombs_are_refused_before_they_are_decoded(size, message):
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        with pytest.raises(InputError, match=message) as caught:
            decode_image(png_of(*size), "x", 3)
    assert not warned  # a warning would be a second line
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (encoded(rgb(), "TGA"), "is not an image"),
        (encoded(rgb(), "PCX"), "is not an image in a format that is read: PNG, JPEG, WEBP, BMP, GIF, TIFF, PPM$"),
        (encoded(rgb(), "ICO"), "is not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "is not an image"),
        (encoded(rgb())[:80], "is a damaged image"),
        (encoded(Image.fromarray(np.full((4, 4), 40_000, np.uint16))), "has pixels of mode I;16"),
    ],
)
def test_security_what_is_not_read_is_one_line(content, message):
    with pytest.raises(InputError, match="^here " + message) as caught:
        decode_image(content, "here", 3)
    assert "\n" not in str(caught.value)


SAMPLES = [encoded(rgb(), form) for form in FORMATS]


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    st.sampled_from(SAMPLES),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=5),
    st.floats(0.2, 1),
)
def test_security_fuzzed_images_raise_nothing_else(sample, changes, keep):
    content = bytearray(sample)
    for place, value in changes:
        content[int(place * len(content))] = value
    try:
        found = decode_image(bytes(content[: int(keep * len(content))]), "x", 3)
    except InputError as error:
        one_line(error)
    else:
        assert found.dtype == np.uint8
        assert found.shape[0] == 3


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"])
def test_damaged_tiff_is_one_line_and_its_library_is_not_heard(compression, capfd):
    """libtiff writes to standard error by itself."""
    sample = encoded(rgb(), "TIFF", compression=compression)
    bad = sample.replace(struct.pack("<HHLL", 277, 3, 1, 3), struct.pack("<HHLL", 277, 3, 1, 40_000))
    with pytest.raises(InputError):  # samples a pixel, on which Pillow itself remarks
        decode_image(bad, "x", 3)
    refused = 0
    for seed in range(60):
        draw = np.random.default_rng(seed)
        content = np.frombuffer(sample, np.uint8).copy()
        content[draw.integers(8, len(content), 4)] = draw.integers(0, 256, 4)
        try:
            decode_image(content.tobytes(), "x", 3)
        except InputError as error:
            one_line(error)
            refused += 1
    assert refused
    sys.stderr.write("still heard\n")
    assert capfd.readouterr().err == "still heard\n"


def test_an_image_of_the_right_size_is_left_as_it_is(tmp_path):
    """Guard 29: a training image saved as PNG comes back as the same pixels."""
    (tmp_path / "x.png").write_bytes(encoded(rgb()))
    image = read_image(tmp_path / "x.png", (3, 6, 9))
    assert not image.resized
    np.testing.assert_array_equal(image.pixels_CHW, PIXELS_HWC.transpose(2, 0, 1))


def test_another_size_is_scaled_to_cover_and_its_middle_taken():
    wide = np.zeros((8, 32, 3), np.uint8)
    wide[:, 12:20] = 200  # the middle 8×8
    image = decode_fitted(encoded(rgb(wide)), "x", (3, 4, 4))
    assert image.resized
    assert image.pixels_CHW.shape == (3, 4, 4)
    assert (image.pixels_CHW[:, :, 1:3] > 180).all()
    tall = decode_fitted(encoded(rgb(wide.swapaxes(0, 1).copy())), "x", (3, 4, 4))
    np.testing.assert_array_equal(tall.pixels_CHW, image.pixels_CHW.swapaxes(1, 2))


def test_a_palette_is_scaled_in_its_colours():
    palette = rgb().quantize(8)
    scaled = [decode_fitted(encoded(image), "x", (3, 4, 4)).pixels_CHW for image in (palette, palette.convert("RGB"))]
    np.testing.assert_array_equal(*scaled)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match=r"x\.png is missing"):
        read_image(tmp_path / "x.png", (3, 4, 4))
    with pytest.raises(InputError, match="is not a file"):
        read_image(tmp_path, (3, 4, 4))
    with (tmp_path / "big.png").open("wb") as file:
        file.truncate(65 * 2**20)
    with pytest.raises(InputError, match="larger than 64 MiB"):
        read_image(tmp_path / "big.png", (3, 4, 4))
