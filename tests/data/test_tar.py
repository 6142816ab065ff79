"""WebDataset shards: which tar files are whole, which members make a sample, and labels that are refused."""

from __future__ import annotations

import io
import random
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from curriculum_ray.config import ConfigError
from curriculum_ray.data.tar import tar_fetch, tar_header, tar_location


def encoded(value: int, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (12, 12), (value, value, value)).save(buffer, format=kind)
    return buffer.getvalue()


def write(path: Path, members: dict[str, bytes], mode: str = "w", format: int = tarfile.PAX_FORMAT) -> str:
    with tarfile.open(path, mode, format=format) as tar:  # type: ignore[call-overload]
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return str(path)


def test_a_cut_file_is_refused_wherever_it_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    write(path, {f"{number}.png": encoded(number) for number in range(20)})
    whole = path.read_bytes()
    end = 20 * 1024
    for cut in [*random.Random(0).sample(range(end), 100), *range(0, end + 512, 512)]:
        path.write_bytes(whole[:cut])
        with pytest.raises(ConfigError, match=r"a\.tar") as error:
            tar_header(str(path), "none")
        assert "\n" not in str(error.value)


def test_a_damaged_header_is_not_taken_for_the_end(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    write(path, {f"{number}.png": encoded(number) for number in range(3)})
    content = bytearray(path.read_bytes())
    content[1024] ^= 1
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="is truncated or damaged at byte 1024"):
        tar_header(str(path), "none")


def test_tar_files_behind_one_another_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    write(path, {"1.png": encoded(1)})
    path.write_bytes(path.read_bytes() * 2)
    with pytest.raises(ConfigError, match="has more after its end at byte 1024"):
        tar_header(str(path), "none")


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("mode", ["w", "w|"])
@pytest.mark.parametrize("zeros", [None, 512, 1024])
def test_what_usual_writers_write_is_whole(tmp_path: Path, format: int, mode: str, zeros: int | None) -> None:
    path = tmp_path / "a.tar"
    long = "long/" * 40 if format != tarfile.USTAR_FORMAT else ""
    write(path, {"1.png": encoded(1), f"{long}2.png": encoded(2)}, mode, format)
    if zeros is not None:
        content = path.read_bytes().rstrip(b"\0")
        path.write_bytes(content + bytes(-len(content) % 512 + zeros))
    assert tar_header(str(path), "none").rows == 2


def test_an_overwritten_file_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    for count in (1, 2):
        write(path, {f"{number}.png": encoded(number) for number in range(count)})
        assert tar_header(str(path), "none").rows == count


def test_every_kind_of_image_of_a_folder_is_an_image_here(tmp_path: Path) -> None:
    kinds = {"1.gif": "GIF", "2.tif": "TIFF", "3.BMP": "BMP", "4.webp": "WEBP", "5.ppm": "PPM"}
    header = tar_header(write(tmp_path / "a.tar", {key: encoded(9, kinds[key]) for key in kinds}), "none")
    assert (header.rows, header.imageless) == (5, ())


def test_samples_without_an_image_are_named(tmp_path: Path) -> None:
    members = {"a/1.png": encoded(1), "a/2.heic": b"?", "README.md": b"", "._1.png": b"", "3.cls": b"1"}
    assert tar_header(write(tmp_path / "a.tar", members), "none").imageless == ("a/2", "README", "3")


def test_the_image_of_a_sample_is_the_one_of_the_plain_suffix(tmp_path: Path) -> None:
    members = {"1.mask.png": encoded(1), "1.png": encoded(2), "2.image.png": encoded(3)}
    header = tar_header(write(tmp_path / "a.tar", members), "none")
    fetch = tar_fetch(header.units[0], "none")
    assert [fetch(row)[0] for row in range(2)] == [members["1.png"], members["2.image.png"]]
    assert tar_location(header.units[0], 1) == "a.tar sample 2"


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("1.png", "1.jpg"), r"sample 1 has 2: 1\.png, 1\.jpg"),
        (("a.1.png", "a.2.png"), r"sample a has 2: a\.1\.png, a\.2\.png"),
        (("1.png", "1.PNG"), r"has 1\.PNG twice"),
    ],
)
def test_two_images_of_one_sample_are_refused(tmp_path: Path, names: tuple[str, ...], words: str) -> None:
    path = write(tmp_path / "a.tar", {name: encoded(1) for name in names})
    with pytest.raises(ConfigError, match=words):
        tar_header(path, "none")


def test_links_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as tar:
        entry = tarfile.TarInfo("1.png")
        entry.type, entry.linkname = tarfile.LNKTYPE, "2.png"
        tar.addfile(entry)
    with pytest.raises(ConfigError, match=r"must hold only files, but 1\.png is a link"):
        tar_header(str(path), "none")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("1.cls", b"cat", r"member 1\.cls must be a whole number, but got 'cat'"),
        ("1.cls", b"", r"member 1\.cls must be a whole number, but got ''"),
        ("1.cls", b"\xff", r"member 1\.cls must be a whole number"),
        ("1.json", b"{", r"member 1\.json must be JSON, but: Expecting"),
        ("1.json", b"\xff", r"member 1\.json must be JSON, but: 'utf-8' codec"),
        ("1.json", b"[" * 100_000, r"member 1\.json must be JSON"),
        (
            "1.json",
            b'{"label": 1, "label": 2}',
            r"member 1\.json must be JSON, but: the key 'label' is repeated",
        ),
        ("1.json", b"[1]", r"member 1\.json must be a JSON object, but got \[1\]"),
        (
            "1.json",
            b'{"label": [1, 2]}',
            r"member 1\.json key label must be an integer or a string, but got \[1, 2\]",
        ),
        (
            "1.json",
            b'{"label": 1.5}',
            r"member 1\.json key label must be an integer or a string, but got 1\.5",
        ),
        (
            "1.json",
            b'{"label": true}',
            r"member 1\.json key label must be an integer or a string, but got true",
        ),
    ],
)
def test_a_bad_label_is_named(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    path = write(tmp_path / "a.tar", {"1.png": encoded(1), name: content})
    with pytest.raises(ConfigError, match=rf"a\.tar {words}") as error:
        tar_header(path, "class")
    assert "\n" not in str(error.value)
    assert tar_header(path, "none").rows == 1


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("1.txt", b"caf\xe9", r"member 1\.txt must be text in UTF-8, but got byte 0xe9 at 3"),
        ("1.json", b'{"caption": 3}', r"member 1\.json key caption must be a string, but got 3"),
        ("1.json", b'{"caption": ["a"]}', r'member 1\.json key caption must be a string, but got \["a"\]'),
    ],
)
def test_a_bad_caption_is_named(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    path = write(tmp_path / "a.tar", {"1.png": encoded(1), name: content})
    with pytest.raises(ConfigError, match=rf"a\.tar {words}"):
        tar_header(path, "text")


def test_null_is_no_caption_and_no_label(tmp_path: Path) -> None:
    members = {
        "1.png": encoded(1),
        "1.json": b'{"caption": "a cat", "label": 0}',
        "2.png": encoded(2),
        "2.json": b'{"caption": null, "label": null}',
    }
    path = write(tmp_path / "a.tar", members)
    assert tar_header(path, "text").values == ("a cat",)
    assert tar_header(path, "class").values == (0,)
