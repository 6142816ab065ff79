"""Inception-v3 from local weights: the hash first, then tensors and nothing else, all before training."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import urllib.error
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from curriculum_ray.config import ConfigError
from curriculum_ray.data import Dataset, to_uint8
from curriculum_ray.evaluation import EvaluationSpec, inception, prepare
from curriculum_ray.evaluation.extractors import _inception


def colour(count: int = 16, channels: int = 3) -> Dataset:
    generator = torch.Generator().manual_seed(0)
    return Dataset("colour", torch.rand(count, channels, 12, 12, generator=generator) * 2 - 1)


def spec_of(path: Path, sha256: str | None = None, **more: Any) -> EvaluationSpec:
    return EvaluationSpec(extractor="inception-v3", weights=str(path), sha256=sha256, **more)


@pytest.fixture
def nothing_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("loaded")

    monkeypatch.setattr(torch, "load", refuse)
    monkeypatch.setattr(pickle, "loads", refuse)
    monkeypatch.setattr(inception, "load_inception", refuse)


@pytest.mark.usefixtures("nothing_is_loaded")
@pytest.mark.parametrize("sha256", [None, "0" * 64])
def test_a_wrong_hash_is_refused_before_anything_is_loaded(tmp_path: Path, sha256: str | None) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(b"something else")
    with pytest.raises(ConfigError, match="must have the SHA-256") as error:
        prepare(spec_of(path, sha256), colour())
    assert (sha256 or inception.INCEPTION_SHA256) in str(error.value)
    assert hashlib.sha256(b"something else").hexdigest() in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.usefixtures("nothing_is_loaded")
def test_missing_weights_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone\.pth cannot be read: No such file or directory"):
        prepare(spec_of(tmp_path / "gone.pth"), colour())


def test_no_file_and_no_network_is_said_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", unreachable)
    with pytest.raises(ConfigError, match=r"cannot be downloaded .*no network.* evaluation\.weights"):
        prepare(EvaluationSpec(), colour())


def test_a_download_is_checked_and_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def download(url: str, path: str, hash_prefix: str, progress: bool) -> None:
        calls.append((url, hash_prefix))
        Path(path).write_bytes(b"weights")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    assert inception.find_weights(None) == inception.find_weights(None)
    (call,) = calls
    assert call[0].endswith(inception.find_weights(None).name)
    assert call[1] == inception.INCEPTION_SHA256
    assert inception.INCEPTION_SHA256.startswith(call[0].removesuffix(".pth").rsplit("-", 1)[1])


class Harmful:
    """Pickles as a call that makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.path),)


def test_code_in_a_file_with_the_expected_hash_is_not_run(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    buffer = io.BytesIO()
    torch.save({"fc.weight": Harmful(trace)}, buffer)
    path = tmp_path / "weights.pth"
    path.write_bytes(buffer.getvalue())
    with pytest.raises(ConfigError, match="does not hold the weights of inception-v3") as error:
        prepare(spec_of(path, hashlib.sha256(buffer.getvalue()).hexdigest()), colour())
    assert not trace.exists()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [{"fc.weight": torch.zeros(1)}, {"fc.weight": 1}, [torch.zeros(1)], 3])
def test_other_content_is_refused(content: object) -> None:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    with pytest.raises(ConfigError, match="some file does not hold the weights of inception-v3"):
        inception.load_inception(buffer.getvalue(), "some file")


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[EvaluationSpec, nn.Module]]:
    """A file of random weights (the published ones are 91 MiB) and torch-fidelity's network with them."""
    from torch_fidelity import FeatureExtractorInceptionV3

    empty = io.BytesIO()
    torch.save({}, empty)
    empty.seek(0)
    with pytest.MonkeyPatch.context() as patch, torch.random.fork_rng():
        patch.setattr(FeatureExtractorInceptionV3, "load_state_dict", lambda *_: None)
        torch.manual_seed(0)
        network = FeatureExtractorInceptionV3("any", ["2048"], empty)
    path = tmp_path_factory.mktemp("inception") / "weights.pth"
    torch.save(network.state_dict(), path)
    yield spec_of(path, hashlib.sha256(path.read_bytes()).hexdigest(), num_samples=16), network
    path.unlink()
    _inception.cache_clear()


@pytest.mark.slow
def test_local_weights_become_the_network_of_torch_fidelity(local: tuple[EvaluationSpec, nn.Module]) -> None:
    spec, network = local
    before = torch.get_rng_state()
    protocol = prepare(spec, colour())
    assert torch.equal(torch.get_rng_state(), before)
    assert protocol.protocol["weights"] == spec.sha256
    images = to_uint8(colour(count=2).items)
    assert torch.equal(protocol.extractor.network(images), network(images)[0])


def test_grey_images_are_seen_as_colour(local: tuple[EvaluationSpec, nn.Module]) -> None:
    spec, network = local
    protocol = prepare(spec, colour(channels=1))
    images = to_uint8(colour(count=2, channels=1).items)
    assert torch.equal(protocol.extractor.network(images), network(images.repeat(1, 3, 1, 1))[0])


@pytest.mark.slow
def test_colour_images_are_scored(local: tuple[EvaluationSpec, nn.Module]) -> None:
    metrics = prepare(local[0], colour()).score(to_uint8(colour().items))
    assert metrics["precision"] == metrics["recall"] == 1
    assert metrics["fid"] == pytest.approx(0, abs=1e-3)
