"""Image folders: what is read, how it is cropped, and what is refused."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from curriculum_ray.config import ConfigError
from curriculum_ray.data import NO_CONDITIONING, Dataset, DataSpec, load_data


def write(
    path: Path, color: tuple[int, ...] | int = 0, size: tuple[int, int] = (10, 10), mode: str = "RGB"
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, color).save(path)


def load(folder: Path, size: int | None = 8, channels: int | None = None) -> Dataset:
    return load_data(DataSpec(name=str(folder), image_size=size, channels=channels))


def test_images_come_in_sorted_order_and_in_range(tmp_path: Path) -> None:
    write(tmp_path / "b.png", (255, 0, 0))
    write(tmp_path / "a.JPG", (0, 0, 0))
    write(tmp_path / "c.png", (255, 255, 255))
    data = load(tmp_path)
    assert data.items.shape == (3, 3, 8, 8)
    assert data.items.mean((2, 3)).round().tolist() == [[-1, -1, -1], [1, -1, -1], [1, 1, 1]]
    assert data.conditioning == NO_CONDITIONING
    assert data.name == tmp_path.name


def test_sub_folders_are_classes(tmp_path: Path) -> None:
    for name in ("dog/1.png", "cat/2.png", "cat/deep/1.png"):
        write(tmp_path / name)
    data = load(tmp_path)
    assert data.class_names == ("cat", "dog")
    assert data.condition is not None
    assert data.condition.tolist() == [0, 0, 1]


def test_one_sub_folder_is_no_class(tmp_path: Path) -> None:
    write(tmp_path / "train/1.png")
    assert load(tmp_path).condition is None


def test_the_centre_is_cropped(tmp_path: Path) -> None:
    image = Image.new("L", (30, 10), 0)
    image.paste(255, (10, 0, 20, 10))
    image.save(tmp_path / "wide.png")
    assert (load(tmp_path, size=10).items == 1).all()


def test_pictures_are_turned_as_the_camera_says(tmp_path: Path) -> None:
    image = Image.new("L", (8, 8), 0)
    image.paste(255, (0, 0, 8, 4))
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    image.save(tmp_path / "a.png", exif=exif)
    assert (load(tmp_path).items[0, 0, 4:] == 1).all()


def test_grey_files_give_one_channel_unless_a_setting_says_otherwise(tmp_path: Path) -> None:
    write(tmp_path / "a.png", 0, mode="L")
    assert load(tmp_path).shape == (1, 8, 8)
    assert load(tmp_path, channels=3).shape == (3, 8, 8)
    write(tmp_path / "b.png", (9, 9, 9))
    assert load(tmp_path).shape == (3, 8, 8)
    assert load(tmp_path, channels=1).shape == (1, 8, 8)


def test_the_size_is_32_unless_a_setting_says_otherwise(tmp_path: Path) -> None:
    write(tmp_path / "a.png")
    assert load(tmp_path, size=None).shape == (3, 32, 32)


def test_other_and_hidden_files_are_passed_over(tmp_path: Path) -> None:
    write(tmp_path / "a.png")
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "._a.png").write_text("no image")
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache/b.png").write_text("no image")
    assert len(load(tmp_path)) == 1


def test_the_same_folder_has_the_same_fingerprint(tmp_path: Path) -> None:
    for k in range(20):
        write(tmp_path / f"{k}.png", (k, k, k))
    assert load(tmp_path).fingerprint == load(tmp_path).fingerprint


def test_unreadable_files_are_counted_and_named(tmp_path: Path) -> None:
    write(tmp_path / "good.png")
    for k in range(5):
        (tmp_path / f"bad{k}.png").write_bytes(b"not a picture")
    with pytest.raises(ConfigError, match=r"5 of 6 cannot be read: bad0\.png .* and 2 more") as error:
        load(tmp_path)
    assert "\n" not in str(error.value)


def test_a_truncated_file_is_unreadable(tmp_path: Path) -> None:
    Image.effect_noise((64, 64), 50).save(tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(data[: len(data) // 2])
    with pytest.raises(ConfigError, match=r"1 of 1 cannot be read: a\.png"):
        load(tmp_path)


def test_sixteen_bit_grey_is_refused_rather_than_clipped(tmp_path: Path) -> None:
    Image.new("I;16", (8, 8), 40000).save(tmp_path / "a.png")
    with pytest.raises(ConfigError, match="8 bits per channel"):
        load(tmp_path)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"must hold images .* but has none"):
        load(tmp_path)


def test_images_beside_class_folders_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.png")
    write(tmp_path / "cat/b.png")
    with pytest.raises(ConfigError, match="1 of 2 are in folders"):
        load(tmp_path)


def test_transparency_and_palettes_are_read_as_colour(tmp_path: Path) -> None:
    write(tmp_path / "a.png", (255, 0, 0, 255), mode="RGBA")
    Image.new("RGB", (9, 9), (255, 0, 0)).convert("P", palette=Image.Palette.ADAPTIVE).save(
        tmp_path / "b.png"
    )
    images = load(tmp_path).items
    torch.testing.assert_close(images[0], images[1])


def test_a_link_back_up_adds_no_images(tmp_path: Path) -> None:
    for name in ("a/1.png", "b/2.png"):
        write(tmp_path / name)
    (tmp_path / "a/back").symlink_to("..")
    (tmp_path / "here").symlink_to(".")
    data = load(tmp_path)
    assert len(data) == 2
    assert data.class_names == ("a", "b")


def test_a_folder_is_read_once_by_its_own_name_whatever_links_lead_to_it(tmp_path: Path) -> None:
    for name in ("root/a/1.png", "root/b/2.png", "elsewhere/3.png"):
        write(tmp_path / name)
    (tmp_path / "root/a/link").symlink_to("../b")
    (tmp_path / "root/c").symlink_to(tmp_path / "elsewhere")
    data = load(tmp_path / "root")
    assert data.class_names == ("a", "b", "c")
    assert data.condition is not None
    assert data.condition.tolist() == [0, 1, 2]


@pytest.mark.parametrize("filled", [("cat", "dog"), ("cat",)])
def test_a_class_folder_without_images_is_refused(tmp_path: Path, filled: tuple[str, ...]) -> None:
    for name in filled:
        write(tmp_path / name / "1.png")
    (tmp_path / "fox").mkdir()
    (tmp_path / "fox/notes.txt").write_text("no image")
    (tmp_path / ".cache").mkdir()
    with pytest.raises(ConfigError, match="in each of its class folders, but fox has none"):
        load(tmp_path)
    assert len(load_data(DataSpec(name=str(tmp_path), conditioning="none"))) == len(filled)


def test_a_class_whose_images_were_all_skipped_is_named(tmp_path: Path) -> None:
    for name in ("cat/1.png", "dog/1.png", "fox/1.png"):
        write(tmp_path / name)
    (tmp_path / "fox/1.png").write_bytes(b"no image")
    with pytest.warns(UserWarning, match="1 of 3 cannot be read, which leaves none in fox:"):
        data = load_data(DataSpec(name=str(tmp_path), corrupt="skip"))
    assert data.class_names == ("cat", "dog")


def test_skipped_images_are_all_named_up_to_a_hundred(tmp_path: Path) -> None:
    write(tmp_path / "good.png")
    for number in range(102):
        (tmp_path / f"bad{number:03d}.png").write_bytes(b"not a picture")
    with pytest.warns(UserWarning, match="102 of 103 cannot be read:") as caught:
        load_data(DataSpec(name=str(tmp_path), corrupt="skip"))
    names = str(caught[0].message).splitlines()[1:]
    expected = [f"bad{number:03d}.png (UnidentifiedImageError)" for number in range(100)]
    assert names == [*expected, "and 2 more"]
