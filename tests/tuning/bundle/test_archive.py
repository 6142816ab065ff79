"""A bundle is read only if it is exactly what its manifest says, and nothing in it can leave it or fill a memory."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from curriculum_ray.config import ConfigError
from tuning.bundle import archive
from tuning.bundle.archive import archived, read_bundle

FILES = {"study.json": b"{}", "trials/search-000/record.json": b'{"a": 1}'}


def _bundle(folder: Path, content: bytes) -> Path:
    path = folder / "a.zip"
    path.write_bytes(content)
    return path


def test_what_is_packed_is_read_again_and_equal_files_make_equal_bytes(tmp_path: Path) -> None:
    content = archived("a", "id", FILES)
    assert content == archived("a", "id", dict(reversed(FILES.items())))
    bundle = read_bundle(_bundle(tmp_path, content))
    assert bundle.files == FILES
    assert bundle.manifest.study == "a"


Edit = Callable[[zipfile.ZipInfo, bytes], tuple[str, bytes]]


def _edited(
    content: bytes, edit: Edit, more: dict[str, bytes] | None = None, method: int = zipfile.ZIP_DEFLATED
) -> bytes:
    """The same bundle with files edited, and some added, as a stranger would."""
    result = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as before, zipfile.ZipFile(result, "w", method) as after:
        for entry in before.infolist():
            name, text = edit(entry, before.read(entry))
            after.writestr(name, text)
        for name, text in (more or {}).items():
            after.writestr(name, text)
    return result.getvalue()


def _same(entry: zipfile.ZipInfo, text: bytes) -> tuple[str, bytes]:
    return entry.filename, text


def test_an_edited_file_is_named(tmp_path: Path) -> None:
    content = _edited(
        archived("a", "id", FILES), lambda entry, text: (entry.filename, text.replace(b'a": 1', b'a": 2'))
    )
    with pytest.raises(ConfigError, match=r"record\.json does not match the SHA-256"):
        read_bundle(_bundle(tmp_path, content))


@pytest.mark.parametrize(
    "name", ["../escaped", "/tmp/escaped", "a/../../escaped", "a\\..\\escaped", ".hidden", "a//b"]
)
def test_a_name_that_could_leave_the_bundle_is_refused(tmp_path: Path, name: str) -> None:
    content = _edited(archived("a", "id", FILES), _same, {name: b"x"})
    with pytest.raises(ConfigError, match="holds a name that no file of a bundle has"):
        read_bundle(_bundle(tmp_path, content))
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


def test_a_file_that_the_manifest_lacks_or_lacks_in_the_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"holds more.json, which its manifest does not list"):
        read_bundle(_bundle(tmp_path, _edited(archived("a", "id", FILES), _same, {"more.json": b""})))
    renamed = _edited(
        archived("a", "id", FILES), lambda entry, text: (entry.filename.replace("study", "other"), text)
    )
    with pytest.raises(ConfigError, match=r"other.json|study.json"):
        read_bundle(_bundle(tmp_path, renamed))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_that_stands_twice_is_refused(tmp_path: Path) -> None:
    content = _edited(archived("a", "id", FILES), _same, {"study.json": b"{}"})
    with pytest.raises(ConfigError, match=r"holds a name twice: .study\.json."):
        read_bundle(_bundle(tmp_path, content))


def test_a_bomb_is_refused_by_its_sizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "_LARGEST_PART", 10_000)
    with pytest.raises(ConfigError, match=r"bomb has 1,000,000 bytes, but may have 10,000"):
        read_bundle(_bundle(tmp_path, _edited(archived("a", "id", FILES), _same, {"bomb": bytes(10**6)})))
    with pytest.raises(ConfigError, match="may have"):
        archived("a", "id", {"bomb": bytes(10**6)})


def test_a_size_that_lies_is_found(tmp_path: Path) -> None:
    """A bomb that declares ten bytes: no more than those are read, and then it is not what its checksum says."""
    content = bytearray(archived("a", "id", {"bomb": bytes(10**6)}))
    at = content.find((10**6).to_bytes(4, "little"))
    while at >= 0:
        content[at : at + 4] = (10).to_bytes(4, "little")
        at = content.find((10**6).to_bytes(4, "little"))
    with pytest.raises(ConfigError, match=r"damaged|digest"):
        read_bundle(_bundle(tmp_path, bytes(content)))


def test_unusual_compression_is_refused(tmp_path: Path) -> None:
    content = _edited(archived("a", "id", FILES), _same, method=zipfile.ZIP_LZMA)
    with pytest.raises(ConfigError, match="compressed in an unusual way"):
        read_bundle(_bundle(tmp_path, content))


def test_torn_bundles_and_other_files_are_refused_in_one_line(tmp_path: Path) -> None:
    content = archived("a", "id", FILES)
    for length in range(0, len(content), 7):
        with pytest.raises(ConfigError, match=r"a\.zip"):
            read_bundle(_bundle(tmp_path, content[:length]))
    with pytest.raises(ConfigError, match="holds no manifest"):
        read_bundle(_bundle(tmp_path, _edited(content, lambda entry, text: (f"x-{entry.filename}", text))))
    with pytest.raises(ConfigError, match="cannot be read"):
        read_bundle(tmp_path / "missing.zip")
