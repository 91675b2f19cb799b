"""Pictures that people have: of every depth and palette, turned, moving, cut off, too large; with captions beside."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from pruning.calibration import pictures
from pruning.errors import Refused

SIDE = 8
RAMP = np.linspace(0, 255, SIDE * SIDE).round().astype(np.uint8).reshape(SIDE, SIDE)
TABLE = "file_name,text\na.png,a cat\n"


def taken(file, mode="RGB"):
    """The pixels as they are looked at, (SIDE, SIDE, 3) or (SIDE, SIDE)."""
    return np.asarray(pictures.opened(file, SIDE, mode)).astype(int)


def near(values, wanted, within=1):
    return np.abs(values - wanted).max() <= within


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tif", "a.webp", "a.gif"])
def test_gray_is_the_same_gray_in_every_format(tmp_path, name):
    exact = {"lossless": True} if name.endswith("webp") else {}
    Image.fromarray(RAMP).save(tmp_path / name, **exact)
    assert near(taken(tmp_path / name), RAMP[..., None])
    assert near(taken(tmp_path / name, "L"), RAMP)


@pytest.mark.parametrize(("values", "name"), [
    (RAMP.astype(np.uint16) * 257, "a.png"), (RAMP.astype(np.uint16) * 257, "a.tif"),
    (RAMP.astype(np.int32) * 257, "a.tif"), (RAMP.astype(np.float32) / 255, "a.tif")])
def test_more_than_8_bits_are_scaled(tmp_path, values, name):
    Image.fromarray(values).save(tmp_path / name)
    assert near(taken(tmp_path / name), RAMP[..., None])


@pytest.mark.parametrize("values", [RAMP.astype(np.float32), np.full((SIDE, SIDE), np.nan, np.float32),
                                    RAMP.astype(np.int32) - 5])
def test_an_unknown_white_is_refused(tmp_path, values):
    Image.fromarray(values).save(tmp_path / "a.tif")
    with pytest.raises(Refused, match="its white is not known"):
        taken(tmp_path / "a.tif")


def test_what_is_transparent_is_white(tmp_path):
    layers = np.zeros((SIDE, SIDE, 4), np.uint8)
    layers[:, SIDE // 2:, 3] = 255  # black, the left half clear
    Image.fromarray(layers).save(tmp_path / "a.png")
    found = taken(tmp_path / "a.png")
    assert (found[:, : SIDE // 2] == 255).all()
    assert (found[:, SIDE // 2:] == 0).all()


def test_a_palette_keeps_its_colours_and_its_clear_entry(tmp_path):
    one = Image.new("P", (SIDE, SIDE), 1)
    one.putpalette([0, 0, 255, 255, 0, 0])
    one.paste(0, (0, 0, SIDE // 2, SIDE))
    one.save(tmp_path / "a.png", transparency=0)
    found = taken(tmp_path / "a.png")
    assert (found[:, : SIDE // 2] == 255).all()
    assert (found[:, SIDE // 2:] == (255, 0, 0)).all()


def test_colours_for_print_become_those_of_a_screen(tmp_path):
    Image.new("CMYK", (SIDE, SIDE), (0, 255, 255, 0)).save(tmp_path / "a.tif")
    assert near(taken(tmp_path / "a.tif"), (255, 0, 0))


def test_a_photo_stands_as_it_was_taken(tmp_path):
    one = Image.fromarray(np.stack([RAMP] * 3, -1))
    turned = Image.Exif()
    turned[0x0112] = 6  # the camera was held upright: turn by 90 degrees clockwise
    one.save(tmp_path / "a.png", exif=turned)
    assert near(taken(tmp_path / "a.png"), np.rot90(np.asarray(one).astype(int), -1))


def test_of_a_film_the_first_frame_counts(tmp_path):
    frames = [Image.new("RGB", (SIDE, SIDE), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert near(taken(tmp_path / "a.gif"), (255, 0, 0))


def test_what_is_not_square_is_cropped_around_its_centre(tmp_path):
    wide = np.zeros((SIDE, 3 * SIDE, 3), np.uint8)
    wide[:, SIDE : 2 * SIDE] = 255
    Image.fromarray(wide).save(tmp_path / "a.png")
    assert (taken(tmp_path / "a.png") == 255).all()
    assert pictures.opened(tmp_path / "a.png", (SIDE, 2 * SIDE)).size == (SIDE, 2 * SIDE)


@pytest.mark.parametrize("content", [b"", b"not a picture", "half"])
def test_what_cannot_be_read_is_refused_by_name(tmp_path, content):
    if content == "half":
        buffer = io.BytesIO()
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(buffer, "PNG")
        content = buffer.getvalue()[: len(buffer.getvalue()) // 2]
    (tmp_path / "cut.png").write_bytes(content)
    with pytest.raises(Refused, match=r"cut\.png cannot be read as a picture.*Take it out"):
        taken(tmp_path / "cut.png")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_too_many_pixels_are_refused_before_they_are_decoded(tmp_path, monkeypatch):
    Image.fromarray(RAMP).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", SIDE * SIDE - 1)
    monkeypatch.setattr(Image.Image, "convert", lambda *_, **__: pytest.fail("was decoded"))
    with pytest.raises(Refused, match="too many pixels"):
        taken(tmp_path / "a.png")


@pytest.fixture
def folder(tmp_path):
    for name in ("a.png", "b.PNG", "c.jpeg"):
        Image.fromarray(RAMP).save(tmp_path / name)
    (tmp_path / "notes.md").write_text("no picture")
    return tmp_path


def captions(folder, prompts=()):
    return {file.name: caption for file, caption in pictures.inside(folder, prompts)}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be"])
@pytest.mark.parametrize("ending", [".txt", ".caption"])
def test_captions_are_read_in_the_usual_encodings(folder, ending, encoding):
    mark = "\ufeff" if encoding == "utf-16-be" else ""
    (folder / "a").with_suffix(ending).write_bytes(f"{mark}une fée, 猫\n".encode(encoding))
    assert captions(folder) == {"a.png": "une fée, 猫", "b.PNG": "", "c.jpeg": ""}


@pytest.mark.parametrize("name", ["text", "caption", "prompt"])
@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_a_table_has_the_captions(folder, kind, name):
    rows = [{"file_name": "a.png", name: " a cat, on a mat "}, {"file_name": "c.jpeg", name: "a dog"}]
    quoted = [f'{row["file_name"]},"{row[name]}"' for row in rows]
    text = "\n".join(map(json.dumps, rows)) if kind == "jsonl" else "\n".join([f"file_name,{name}", *quoted])
    (folder / f"metadata.{kind}").write_text(text)
    assert captions(folder) == {"a.png": "a cat, on a mat", "b.PNG": "", "c.jpeg": "a dog"}


def test_a_file_of_its_own_goes_before_the_table_and_the_prompts_come_last(folder):
    (folder / "metadata.csv").write_text(TABLE)
    (folder / "a.txt").write_text("a lion")
    assert captions(folder, ("x", "y")) == {"a.png": "a lion", "b.PNG": "y", "c.jpeg": "x"}


@pytest.mark.parametrize(("name", "content"), [
    ("metadata.jsonl", b"{"), ("metadata.jsonl", b'{"text": "a cat"}'), ("metadata.csv", b"a,b\n1,2\n"),
    ("metadata.jsonl", b"[1]"), ("metadata.csv", b"file_name,text\na.png," + b"x" * 200_000)])
def test_a_table_that_is_none_is_refused_by_name(folder, name, content):
    (folder / name).write_bytes(content)
    with pytest.raises(Refused, match=rf"{name} cannot be read as a table"):
        pictures.inside(folder)


def test_bytes_that_are_no_text_are_refused_by_place(folder):
    (folder / "a.txt").write_bytes(b"caf\xe9")
    with pytest.raises(Refused, match=r"a\.txt is not a text in UTF-8: byte 4 is 0xe9"):
        pictures.inside(folder)


def test_what_a_picture_comes_from_is_told(folder):
    (folder / "metadata.csv").write_text(TABLE)
    (folder / "a.caption").write_text("a cat")
    assert [file.name for file in pictures.sources(folder / "a.png")] == ["a.png", "a.caption", "metadata.csv"]
