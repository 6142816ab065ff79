"""The claims that come with the project can be tested as they are; a bad file is refused in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from curriculum_ray.config import ConfigError
from tests.door import ROOT
from tuning.claims.claim import CLAIMS, load_claim, load_claims
from tuning.evidence.boundary import FIRST_SEEDS

GOOD: dict[str, Any] = {
    "version": 1,
    "title": "A claim",
    "source": {"authors": "A et al.", "year": 2024, "title": "T", "arxiv": "2403.10348", "where": "Eq. 1"},
    "says": "Something.",
    "asks": "Whether?",
    "arms": {
        "mine": {"role": "claim", "about": "a weighting", "set": {"weighting.kind": "min_snr"}},
        "other": {"role": "rival", "about": "another", "set": {"weighting.kind": "p2"}},
    },
}


def _write(folder: Path, **changes: Any) -> Path:
    path = folder / "good.yaml"
    content = {key: value for key, value in {**GOOD, **changes}.items() if value is not ...}
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def test_every_claim_of_the_project_has_arms_beside_its_own_and_enough_seeds() -> None:
    claims = load_claims([], ROOT / CLAIMS)
    assert len(claims) >= 9
    for claim in claims:
        roles = [arm.role for arm in claim.arms.values()]
        assert {"reverse", "control"} & set(roles), claim.name
        assert "rival" in roles, claim.name
        assert claim.seeds[0] >= FIRST_SEEDS, claim.name
        assert claim.source.link.startswith("https://"), claim.name


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"says": ...}, "says is required but missing"),
        ({"version": 2}, "version must be 1, but got 2"),
        ({"nonsense": 1}, "nonsense is not a known key"),
        ({"name": "other"}, "remove the key name"),
        ({"title": "a | b"}, "title: a text must be one line, without |"),
        ({"arms": {}}, "arms"),
        (
            {"arms": {"other": GOOD["arms"]["other"], "mine": GOOD["arms"]["mine"]}},
            "the first arm, and no other, must have the role claim, but got rival, claim",
        ),
        ({"arms": {"m": {**GOOD["arms"]["mine"], "role": "best"}}}, "arms.m.role must be 'claim', 'reverse'"),
        (
            {"arms": {"m": {**GOOD["arms"]["mine"], "set": {"images": 5}}}},
            "arms.m: images must not be changed",
        ),
        ({"source": {**GOOD["source"], "arxiv": "240310348"}}, "source.arxiv"),
        ({"source": {**GOOD["source"], "arxiv": None}}, "either an arxiv number or a doi, but got neither"),
        ({"seeds": [6, 3]}, "confirm_seeds must be between 2 and 1000"),
        ({"margin": 0}, "margin must be greater than 0"),
        ({"run": {"images": 0}}, "run.images must be greater than or equal to 1"),
        ({"run": {"evaluation": None}}, "run.evaluation must be set"),
        ({"run": {"seed": 5}}, "run.seed must be left out of a study"),
        ({"run": {"schedule": {"base": {"kind": "beta"}}}}, "run.schedule.base.kind is 'beta'"),
        (
            {"arms": {"m": {**GOOD["arms"]["mine"], "set": {"weighting.kind": "none"}}}},
            "arms.m trains like uniform sampling",
        ),
        ({"arms": {"uniform": GOOD["arms"]["mine"]}}, "an arm's name must not be uniform"),
        ({"run": {"model": "python:os.system"}}, "names code to import and run, os.system"),
    ],
)
def test_a_bad_claim_is_refused_in_one_line_that_names_the_file(
    tmp_path: Path, changes: dict[str, Any], says: str
) -> None:
    path = _write(tmp_path, **changes)
    with pytest.raises(ConfigError) as caught:
        load_claim(path)
    assert str(path) in str(caught.value)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_claims_are_found_by_name_and_by_path(tmp_path: Path) -> None:
    path = _write(tmp_path)
    by_name, by_path = load_claims(["good"], tmp_path), load_claims([str(path)], tmp_path / "nowhere")
    assert by_name == by_path == load_claims(["good", "good"], tmp_path)
    with pytest.raises(ConfigError, match=r"no claim is called 'bad': .* has good"):
        load_claims(["bad"], tmp_path)
    with pytest.raises(ConfigError, match="holds no claims"):
        load_claims([], tmp_path / "nowhere")


def test_a_folder_may_hold_claims_of_either_ending_and_one_of_a_name(tmp_path: Path) -> None:
    path = _write(tmp_path)
    other = path.with_name("other.yml")
    other.write_text(path.read_text())
    assert [claim.name for claim in load_claims([], tmp_path)] == ["good", "other"]
    assert [claim.name for claim in load_claims(["other"], tmp_path)] == ["other"]
    other.rename(path.with_suffix(".yml"))
    for names in ([], ["good"]):
        with pytest.raises(ConfigError, match="two claims are called good"):
            load_claims(names, tmp_path)
    path.unlink()
    assert [claim.name for claim in load_claims(["good"], tmp_path)] == ["good"]


def test_a_result_belongs_to_the_settings_of_its_claim_and_not_to_its_words(tmp_path: Path) -> None:
    claim = load_claim(_write(tmp_path))
    assert load_claim(_write(tmp_path, says="Otherwise.", seeds=[3, 20])).digest == claim.digest
    assert load_claim(_write(tmp_path, run={"images": 6400})).digest != claim.digest
    assert load_claim(_write(tmp_path, arms={"mine": GOOD["arms"]["mine"]})).digest != claim.digest
