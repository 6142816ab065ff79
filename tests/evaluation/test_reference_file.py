"""A reference file stands for the data it was made of, compares with nothing else, and is read without trust."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy
import pyarrow
import pyarrow.parquet
import pytest
import torch
from PIL import Image
from torch import Tensor

from curriculum_ray.config import ConfigError, parse
from curriculum_ray.data import Dataset, DataSpec, data_info, load_data
from curriculum_ray.evaluation import EvaluationSpec, Evaluator, prepare
from curriculum_ray.evaluation.counting import Counting, ReferenceSpec
from curriculum_ray.evaluation.reference_file import read_reference
from curriculum_ray.evaluation.sampling import Share
from tuning.cli import main

COUNT = 80
EXTRACTOR = {"extractor": "random-cnn", "num_samples": COUNT}


def pictures(count: int, seed: int = 0) -> Tensor:
    """Smooth colour pictures of 16x16, uint8."""
    coarse = torch.rand(count, 3, 6, 6, generator=torch.Generator().manual_seed(seed))
    return (torch.nn.functional.interpolate(coarse, (16, 16), mode="bilinear") * 255).to(torch.uint8)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> DataSpec:
    """The pictures with three classes, in row groups of 15 of two Parquet files."""
    folder = tmp_path_factory.mktemp("shards")
    encoded = []
    for picture in pictures(COUNT):
        file = io.BytesIO()
        Image.fromarray(picture.permute(1, 2, 0).numpy()).save(file, "PNG")
        encoded.append(file.getvalue())
    for name, rows in (("a", range(50)), ("b", range(50, COUNT))):
        table = {"image": [encoded[row] for row in rows], "label": [row % 3 for row in rows]}
        pyarrow.parquet.write_table(pyarrow.table(table), folder / f"{name}.parquet", row_group_size=15)
    return DataSpec(name=str(folder), format="parquet", image_size=16)


def made(into: Path, data: DataSpec, ranks: int = 1, **settings: Any) -> Path:
    counting = Counting(ReferenceSpec(data=data, extractor="random-cnn", **settings))
    shares = [counting.count(share=Share(rank, ranks)) for rank in range(ranks)]
    into.write_bytes(counting.file(shares))
    return into


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory, shards: DataSpec) -> Path:
    return made(tmp_path_factory.mktemp("file") / "reference.npz", shards)


def against(path: Path, data: Any, **changes: Any) -> Evaluator:
    spec = EvaluationSpec.model_validate({"num_samples": COUNT, "reference": str(path), **changes})
    return prepare(spec, data)


def test_numbers_are_those_of_the_same_items_in_memory(file: Path, shards: DataSpec, tmp_path: Path) -> None:
    samples = pictures(COUNT, seed=1)
    in_memory = prepare(EvaluationSpec.model_validate(EXTRACTOR), Dataset("pictures", pictures(COUNT)))
    wanted = in_memory.score(samples)
    streamed = against(file, data_info(shards))
    assert streamed.protocol["extractor"] == "random-cnn"
    assert streamed.score(samples) == pytest.approx(wanted, rel=1e-6)
    shared = made(tmp_path / "shared.npz", shards, ranks=3)
    assert against(shared, data_info(shards)).score(samples) == pytest.approx(wanted, rel=1e-6)


def test_numbers_with_different_references_never_compare(
    file: Path, shards: DataSpec, tmp_path: Path
) -> None:
    info = data_info(shards)
    copy = tmp_path / "another-name.npz"
    copy.write_bytes(file.read_bytes())
    fewer = made(tmp_path / "fewer.npz", shards, features=20)
    with numpy.load(file) as arrays:
        changed = {**arrays, "mu": arrays["mu"] + 1e-9}
    numpy.savez(tmp_path / "changed.npz", **changed)
    prints = [against(path, info).fingerprint for path in (file, copy, fewer, tmp_path / "changed.npz")]
    assert prints[0] == prints[1]
    assert len(set(prints)) == 3
    assert against(fewer, info).protocol["kid_subset_size"] == 20


def test_samples_have_the_classes_of_the_file_or_all_alike(
    file: Path, shards: DataSpec, tmp_path: Path
) -> None:
    info = data_info(shards)
    own = against(file, info)
    assert own.reference.condition is not None
    assert own.reference.condition.bincount().tolist() == [27, 27, 26]
    assert "condition" not in own.protocol
    mean, cov = numpy.zeros(2048), numpy.eye(2048)
    numpy.savez(tmp_path / "published.npz", mu=mean, sigma=cov, arr_0=numpy.array([1]))
    published = read_reference(tmp_path / "published.npz")
    assert published.about is None
    bare = {name: value for name, value in numpy.load(file).items() if name != "condition"}
    numpy.savez(tmp_path / "bare.npz", **bare)
    alike = against(tmp_path / "bare.npz", info)
    assert alike.protocol["condition"] == "all classes equally often"
    data = Dataset("own", pictures(20), torch.arange(20) % 2, ("a", "b"))
    assert against(file, data).protocol["condition"].startswith("of the data, ")


def test_the_last_bits_of_encoded_captions_are_not_in_the_protocol(file: Path) -> None:
    def protocol(value: float, caption: str) -> dict[str, Any]:
        vectors = torch.full((20, 2, 3), value)
        return against(file, Dataset("own", pictures(20), vectors, captions=(caption,) * 20)).protocol

    assert protocol(1.0, "a cat") == protocol(1.0001, "a cat")
    assert protocol(1.0, "a cat")["condition"] != protocol(1.0, "a dog")["condition"]


def test_published_statistics_give_fid_only(
    tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with numpy.load(file) as arrays:
        numpy.savez(tmp_path / "published.npz", mu=arrays["mu"], sigma=arrays["sigma"].astype("float32"))
    data = Dataset("pictures", pictures(COUNT))
    with pytest.raises(
        ConfigError, match=r"published statistics, which are of inception-v3, but .* random-cnn"
    ):
        against(tmp_path / "published.npz", data, extractor="random-cnn")
    plain = prepare(EvaluationSpec.model_validate(EXTRACTOR), data).extractor
    # Inception's weights are not shipped: another network under its name.
    monkeypatch.setattr(
        "curriculum_ray.evaluation.preparation.load_extractor",
        lambda *_: type(plain)("inception-v3", plain.network, "", "", 64, 1, 1_000),
    )
    evaluator = against(tmp_path / "published.npz", data)
    assert evaluator.names == ("fid",)
    assert (
        evaluator.note == "evaluation.reference published.npz holds no features: no kid, precision or recall"
    )
    assert evaluator.score(pictures(COUNT)).keys() == {"fid"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"extractor": "raw"},
            "was made with another extractor: random-cnn, but samples are compared with raw",
        ),
        ({"shape": (3, 32, 32)}, "another shape of items"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_one_line(
    file: Path, change: dict[str, Any], words: str
) -> None:
    shape = change.pop("shape", (3, 16, 16))
    data = Dataset("others", torch.zeros(20, *shape, dtype=torch.uint8))
    with pytest.raises(ConfigError, match=words) as error:
        against(file, data, **change)
    assert "\n" not in str(error.value)


def test_conditions_that_are_not_what_the_file_says_are_refused_in_one_line(
    file: Path, tmp_path: Path
) -> None:
    with numpy.load(file) as found:
        arrays = {name: found[name] for name in found.files}
    about = json.loads(str(arrays["about"]))
    labels = numpy.arange(20) % 3
    for condition, conditioning, version, words in (
        (labels, {"kind": "class", "size": 3}, 1, ""),
        (labels, {"kind": "class", "size": 2}, 1, "condition must be one of 2 classes for each item"),
        (labels, {"kind": "tokens", "size": 3, "length": 4}, 1, "condition must be one of captions of 4"),
        (labels.astype(float), {"kind": "class", "size": 3}, 1, "condition must be one of 3 classes"),
        (labels[:0], {"kind": "class", "size": 3}, 1, "condition must be one of 3 classes"),
        (labels, {"foo": 1}, 1, "foo"),
        (labels, {"kind": "class", "size": 3}, 2, "about.version is invalid"),
    ):
        said = numpy.array(json.dumps({**about, "conditioning": conditioning, "version": version}))
        numpy.savez(tmp_path / "other.npz", **{**arrays, "about": said, "condition": condition})
        if not words:
            assert read_reference(tmp_path / "other.npz").condition is not None
            continue
        with pytest.raises(ConfigError, match=words) as error:
            read_reference(tmp_path / "other.npz")
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"mu": numpy.zeros(3)}, "it has no sigma"),
        ({"mu": numpy.zeros(3), "sigma": numpy.zeros((3, 2))}, r"sigma has the shape \(3, 2\)"),
        ({"mu": numpy.zeros(2), "sigma": numpy.full((2, 2), numpy.nan)}, "not finite"),
        ({"mu": numpy.zeros(2), "sigma": numpy.array([[1.0, 2], [0, 1]])}, "not symmetric"),
        ({"mu": numpy.array([{}]), "sigma": numpy.eye(1)}, "allow_pickle"),
        ({"mu": numpy.zeros(1), "sigma": numpy.eye(1), "about": numpy.array("{}")}, "about.name is invalid"),
    ],
)
def test_damaged_files_are_refused_in_one_line(tmp_path: Path, arrays: dict[str, Any], words: str) -> None:
    numpy.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(ConfigError, match=words) as error:
        read_reference(tmp_path / "bad.npz")
    assert "\n" not in str(error.value)


def test_arrays_that_torch_does_not_take_are_refused_in_one_line(tmp_path: Path) -> None:
    for mu in (numpy.array(["a"]), numpy.zeros(1, "longdouble"), numpy.zeros(1, ">f8")):
        numpy.savez(tmp_path / "bad.npz", mu=mu, sigma=numpy.eye(1))
        with pytest.raises(ConfigError, match=r"must be an \.npz with mu and sigma") as error:
            read_reference(tmp_path / "bad.npz")
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("compressed", [True, False])
def test_damaged_bytes_are_refused_in_one_line(tmp_path: Path, compressed: bool) -> None:
    path = tmp_path / "bad.npz"
    values = numpy.random.default_rng(0).normal(size=20)
    (numpy.savez_compressed if compressed else numpy.savez)(path, mu=values, sigma=numpy.eye(20))
    whole, said = path.read_bytes(), []
    for place in range(0, len(whole), 7):
        # Each of its own length, as files are kept by size and time.
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :] + bytes(place))
        try:
            read_reference(path)
        except ConfigError as error:
            said.append(str(error))
    assert len(said) > 20
    assert not [line for line in said if "\n" in line]


@pytest.mark.parametrize("flag", [1, 8])
def test_archives_that_zipfile_does_not_open_are_refused_in_one_line(tmp_path: Path, flag: int) -> None:
    """flag 1: the members are said to be encrypted; 8: packed by a method that there is not."""
    path = tmp_path / "bad.npz"
    numpy.savez(path, mu=numpy.zeros(2), sigma=numpy.eye(2))
    content = bytearray(path.read_bytes())
    for magic, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = -1
        while (start := content.find(magic, start + 1)) >= 0:
            at = start + place + (0 if flag == 1 else 2)
            content[at] = 1 if flag == 1 else 99
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"must be an \.npz with mu and sigma"):
        read_reference(path)


@pytest.mark.parametrize("content", [b"", b"\x80\x04K\x01.", b"PK\x03\x04 torn"])
def test_other_files_are_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.npz").write_bytes(content)
    with pytest.raises(ConfigError, match=r"must be an \.npz with mu and sigma"):
        read_reference(tmp_path / "bad.npz")


def test_the_command_makes_what_evaluations_take(
    tmp_path: Path, shards: DataSpec, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "reference",
        "--data",
        shards.name,
        "--set",
        "data.format=parquet",
        "--set",
        "data.image_size=16",
    ]
    words += ["--set", "extractor=random-cnn", "--into", str(tmp_path / "made.npz")]
    for _ in range(2):  # its own file may be replaced
        with pytest.raises(SystemExit) as ended:
            main([*words, "--json"])
        out, err = capsys.readouterr()
        assert ended.value.code == 0, err
    said = json.loads(out)
    assert (said["count"], said["features"], said["extractor"]) == (COUNT, COUNT, "random-cnn")
    assert said["reference"] == against(tmp_path / "made.npz", data_info(shards)).protocol["reference"]
    (tmp_path / "taken.npz").write_bytes(b"mine")
    for into, reason in (("taken.npz", "was not written by this command"), ("made.txt", "must name an .npz")):
        with pytest.raises(SystemExit) as ended:
            main([*words[:-1], str(tmp_path / into)])
        assert ended.value.code == 2
        assert reason in capsys.readouterr().err


def test_held_out_and_augmented_items_are_for_training() -> None:
    with pytest.raises(ConfigError, match="all items are counted as they are"):
        parse(ReferenceSpec, {"data": {"name": "digits", "holdout_share": 0.1}}, "settings")
    assert len(Counting(ReferenceSpec()).data) == len(load_data(DataSpec(holdout_share=0)))


def broken(shards: DataSpec, into: Path, rows: tuple[int, ...], **changes: Any) -> DataSpec:
    """A copy of the shards in which the images of these rows cannot be read, which are skipped."""
    first = 0
    for path in sorted(Path(shards.name).iterdir()):
        table = pyarrow.parquet.read_table(path)
        columns = table.to_pydict()
        for row in rows:
            if first <= row < first + len(table):
                columns["image"][row - first] = b"no image"
        pyarrow.parquet.write_table(pyarrow.table(columns), into / path.name, row_group_size=15)
        first += len(table)
    return shards.model_copy(update={"name": str(into), "corrupt": "skip", **changes})


def test_broken_images_are_left_out_and_replaced_by_none(shards: DataSpec, tmp_path: Path) -> None:
    gone = (3, 4, *range(15, 30))  # with a whole row group
    (tmp_path / "shards").mkdir()
    data = broken(shards, tmp_path / "shards", gone)
    kept = [row for row in range(COUNT) if row not in gone]
    samples = pictures(COUNT, seed=1)
    in_memory = prepare(EvaluationSpec.model_validate(EXTRACTOR), Dataset("pictures", pictures(COUNT)[kept]))
    found = against(made(tmp_path / "reference.npz", data, ranks=2), data_info(shards))
    assert found.reference.count == len(kept)
    assert found.score(samples)["fid"] == pytest.approx(in_memory.score(samples)["fid"], rel=1e-6)
    assert found.reference.condition is not None
    assert found.reference.condition.tolist() == [row % 3 for row in kept]
    with pytest.raises(ConfigError, match="must hold readable images, but cannot read"):
        made(tmp_path / "refused.npz", data.model_copy(update={"corrupt": "refuse"}))


def test_too_few_that_can_be_read_are_refused(shards: DataSpec, tmp_path: Path) -> None:
    data = broken(shards, tmp_path, tuple(range(65)))
    with pytest.raises(ConfigError, match=r"needs at least 16 items, but .* has 15 that can be read"):
        made(tmp_path / "reference.npz", data)
    data = broken(shards, tmp_path, (2,))
    with pytest.raises(
        ConfigError, match=r"only 15 of those chosen of .* set features higher than 16, or to 0"
    ):
        made(tmp_path / "reference.npz", data, features=16)


def test_the_command_says_what_it_left_out(
    tmp_path: Path, shards: DataSpec, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "shards").mkdir()
    broken(shards, tmp_path / "shards", (0, 7, 60))
    words = ["reference", "--data", str(tmp_path / "shards"), "--into", str(tmp_path / "made.npz")]
    for setting in ("data.format=parquet", "data.image_size=16", "data.corrupt=skip", "extractor=random-cnn"):
        words += ["--set", setting]
    for more in ([], ["--json"]):
        with pytest.raises(SystemExit) as ended:
            main([*words, *more])
        out, err = capsys.readouterr()
        assert ended.value.code == 0, err
        if not more:
            assert f"3 of {COUNT} images cannot be read and are left out: " in err
    said = json.loads(out)
    assert (said["count"], said["left_out"]) == (COUNT - 3, 3)
