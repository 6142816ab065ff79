"""The bundles beside the results can be read by this version, and say what the pages say of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from curriculum_ray.config import load_yaml
from tuning.bundle.archive import read_bundle
from tuning.bundle.packed_study import PackedStudy
from tuning.evidence.answer import answer
from tuning.evidence.differences import against_uniform

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "docs" / "results"
BUNDLES = sorted((RESULTS / "bundles").iterdir())


def _page(name: str) -> str | None:
    """What a page says of the study of a bundle; None where nothing is said yet, because its runs are not done."""
    if name.startswith("long-"):
        page, mark = (RESULTS / "long-runs.md").read_text(), f"<!-- study {name.partition('.')[0]} -->"
        return page.partition(mark)[2].partition("<!-- end of")[0] if mark in page else None
    if not name.startswith("claim-"):
        return (RESULTS / "index.md").read_text()
    claim = load_yaml(ROOT / "examples" / "claims" / f"{name.removeprefix('claim-').partition('.')[0]}.yaml")
    return (RESULTS / "claims.md").read_text().split(f"## {claim['title']}\n")[1].partition("\n## ")[0]


@pytest.mark.parametrize("path", BUNDLES, ids=lambda path: path.name.partition(".")[0])
def test_a_published_bundle_holds_what_is_published(path: Path) -> None:
    study = PackedStudy(read_bundle(path))
    assert answer(study.ranking) == study.bundle.json("answer.json")["answer"]
    said = _page(path.name)
    if said is None:
        return
    found = [
        each for each in against_uniform(study.ranking) if each.low is not None and each.high is not None
    ]
    assert found
    for each in found:
        numbers = [each.percent(value) for value in (each.mean, each.low, each.high)]
        # The pages of searches leave out the sign of a gain.
        wanted = "{:.1f}% [{:.1f}, {:.1f}]".format(*numbers)
        assert re.search(rf"(?<![\d.-])\+?{re.escape(wanted)}", said), wanted


def test_every_bundle_is_named_on_a_page() -> None:
    pages = "".join(page.read_text() for page in RESULTS.glob("*.md"))
    unnamed = {path.name for path in BUNDLES if path.name not in pages and not path.name.startswith("claim-")}
    assert not unnamed
