"""The report: one file that fetches nothing, escapes everything, and claims what the evidence does."""

import base64
import io
import json
import math
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from PIL import Image

from curriculum_ray.curriculum import CurriculumSchedule
from curriculum_ray.runs.config import RunConfig
from curriculum_ray.runs.result import Measured
from curriculum_ray.training.stages import stages_walked
from tests.tuning.evidence.test_answer import CONTROL, SURE, WIDE, named, times
from tests.tuning.figures.pages import Checker
from tests.tuning.studies import record, schedule
from tuning.evidence.arms import Ranking
from tuning.evidence.differences import against_rival, against_uniform
from tuning.evidence.keys import TrialKey
from tuning.evidence.records import TrialRecord
from tuning.evidence.winner import best_arm
from tuning.figures.levels import density_scale, plot_sampled
from tuning.figures.plots import kind_of
from tuning.figures.run_files import active_set, read_run
from tuning.report import StudyFacts, build_report
from tuning.report.build import _answer, _numbers
from tuning.report.confirmation import confirmation
from tuning.study.config import StudyConfig

STUDY = StudyFacts(name="a study", experiment="digits/ddpm-epsilon", config=StudyConfig())
IMAGES = 76800


def write_run(folder: Path, values: TrialRecord) -> TrialRecord:
    """Give a record a run folder as training leaves it."""
    folder.mkdir(parents=True)
    checked = values.drawn_by
    config = RunConfig(schedule=checked, images=IMAGES)
    stages = 1 if checked.pacing is None else 20
    starts = [[int(stage * IMAGES / 2 / stages), stage] for stage in range(stages)]
    (folder / "config.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json")))
    sampled = {"images": [0, IMAGES / 2, IMAGES], "u": [0, 0.5, 1], "counts": [[0, 100], [0, 0]]}
    (folder / "sampled_timesteps.json").write_text(json.dumps({**sampled, "stage_starts": starts}))
    lines = [{"images": images, "loss": 1 / images, "stage": 0} for images in range(6400, IMAGES, 6400)]
    (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines) + '{"images": 7')
    Image.new("L", (16, 16), 128).save(folder / "samples.png")
    walked = stages_walked(range(stages), starts, IMAGES)
    return values.model_copy(
        update={
            "folder": folder,
            "stage_starts": tuple((images, stage) for images, stage in starts),
            "num_stages": stages,
            "stages_asked": walked.stages_asked,
            "stages_walked": walked.stages_walked,
            "images_in_stage": tuple(walked.images_in_stage),
        }
    )


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Records of a study with everything in it, and hostile names."""
    folder = tmp_path_factory.mktemp("study")
    uniform = {"role": "control", "control": "uniform", "schedule": schedule(1, "none")}
    records = [
        write_run(folder / "uniform", record(9.9, key="control-uniform", **uniform)),
        write_run(folder / "best", record(8.0, key="search-000", protocol={"extractor": "<b>cnn</b>"})),
        write_run(folder / "other", record(9.0, key="search-001", schedule=schedule(6, "hard_to_easy"))),
        record(None, key="search-002", name="<script>alert(1)</script>", reason="a & b < c"),
    ]
    for seed in (1000, 1001, 1002):
        noise = 0.01 * (seed % 2)
        records.append(
            record(8.0 + noise, key=TrialKey.search(0).confirmation(seed), role="confirmation", seed=seed)
        )
        records.append(
            record(
                10.0,
                key=f"confirm-control-uniform-seed{seed}",
                seed=seed,
                **{**uniform, "role": "confirmation"},
            )
        )
    return records


@pytest.fixture(scope="module")
def text(study, tmp_path_factory):
    """The report of that study."""
    return build_report(study, STUDY, tmp_path_factory.mktemp("report")).read_text(encoding="utf-8")


def test_the_page_loads_nothing_and_runs_nothing(text):
    page = Checker(text)
    assert all(address.startswith("data:") for address in page.loads)
    assert "script" not in page.names
    assert "default-src 'none'" in text
    assert not re.search(r"url\(|@import", text)


def test_what_people_wrote_is_shown_as_text(text):
    assert "<script>" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "a &amp; b &lt; c" in text
    assert "&lt;b&gt;cnn&lt;/b&gt;" in text


def test_the_answer_comes_first_and_is_the_evidences(text):
    answer = re.search(r'<p class="answer">(.*?)</p>', text).group(1)
    assert answer == (
        "20 uniform clusters, easy_to_hard, plateau patience 20, cumulative beats uniform sampling by "
        "20.0% FID [19.7, 20.2], 3 seeds, 77k images."
    )


def with_a_rival(ours, rivals):
    """A schedule of this FID and a rival, on three seeds beside uniform sampling, whose FID is 10."""
    records = []
    for seed in (1000, 1001, 1002):
        noise = 0.01 * (seed % 2)
        twice = {"role": "confirmation", "seed": seed}
        records.append(record(ours + noise, key=TrialKey.search(0).confirmation(seed), **twice))
        records.append(
            record(
                rivals + 2 * noise,
                key=TrialKey.rival("min_snr").confirmation(seed),
                control="rival",
                description="min-SNR",
                arm_id="rival",
                schedule=schedule(1, "none"),
                **twice,
            )
        )
        records.append(
            record(
                10.0,
                key=f"confirm-control-uniform-seed{seed}",
                control="uniform",
                schedule=schedule(1, "none"),
                **twice,
            )
        )
    return Ranking.of(records, "fid")


def test_a_comparison_with_the_rival_that_is_not_asked_is_no_win():
    def of_the_rival(ours, rivals):
        ranking = with_a_rival(ours, rivals)
        page = confirmation(ranking, against_uniform(ranking), against_rival(ranking))
        return page[page.index("The second question") :]

    poor = of_the_rival(10.0, 14.0)
    assert "<td>not asked</td>" in poor
    assert "beats</span>" not in poor
    assert '<span class="good">beats</span>' in of_the_rival(6.0, 8.0)


def test_a_question_with_two_answers_has_each_in_a_line_of_its_own():
    ranking = with_a_rival(8.0, 7.0)
    first, *more = _answer(ranking)
    assert "beats uniform sampling" in first
    assert any(each.startswith('<p class="also">min-SNR, against uniform sampling') for each in more), more
    assert dict(_numbers(ranking, best_arm(ranking)))["FID of the best rival, min-SNR"] == "7.01"


def test_the_best_of_a_report_is_the_arm_that_its_answer_names(tmp_path):
    records = [*named("uniform", CONTROL, "uniform"), *named("wide", WIDE), *named("sure", SURE)]
    records += named("third", times(1.0, 1.01, 0.99, 1.0, 1.01, 0.99))
    ranking = Ranking.of(records, "fid")
    assert ranking.best.name == "wide"
    text = build_report(ranking.records, STUDY, tmp_path).read_text(encoding="utf-8")
    assert '<p class="answer">sure beats uniform sampling' in text
    assert re.search(r"<h2>The best schedule</h2>\s*<p>sure:", text), text[text.index("<h2>The best") :][:200]
    sure = ranking.arm("sure").confirmed_value("fid")
    assert dict(_numbers(ranking, best_arm(ranking)))["FID of the best schedule, mean of 6 fresh seeds"] == (
        f"{sure:.2f}"
    )


def test_a_gain_of_geometric_means_is_said_to_be_one(tmp_path):
    records = [*named("uniform", [3.7, 3.7, 3.7], "uniform"), *named("ours", [1.0, 9.0, 1.0])]
    page = confirmation(Ranking.of(records, "fid"), against_uniform(Ranking.of(records, "fid")))
    assert "A gain in FID is that of geometric means" in page
    kid = [each.model_copy(update={"metrics": {"kid": each.metrics["fid"]}}) for each in records]
    assert "geometric" not in confirmation(Ranking.of(kid, "kid"), against_uniform(Ranking.of(kid, "kid")))


def test_uniform_sampling_has_one_colour_whatever_else_is_in_the_plot():
    for top in (1.0, 3.0, 20.0):
        scale = density_scale(top)
        assert scale(0.0) == pytest.approx(0.0)
        assert scale(1.0) == pytest.approx(0.5)
        assert scale(max(top, 2.0)) == pytest.approx(1.0)


def test_the_command_that_runs_the_study_again_is_in_the_report(tmp_path):
    (tmp_path / "study.json").write_text("{}")
    facts = replace(STUDY, config=StudyConfig(trials=7, confirm_seeds=5))
    text = build_report([], facts, tmp_path).read_text(encoding="utf-8")
    assert f"tune search --config {tmp_path / 'study.json'} --set trials=7 --set confirm_seeds=5" in text


def test_the_time_of_a_pack_is_counted_once(tmp_path):
    packed = [record(9.0, key=TrialKey.search(place), seconds=240.0, packed=4) for place in range(4)]
    alone = record(9.0, key=TrialKey.search(4), seconds=60.0)
    text = build_report([*packed, alone], STUDY, tmp_path).read_text(encoding="utf-8")
    assert re.search(r">5\.0<.*?minutes of training and evaluation, over all slots", text, re.DOTALL)


def test_every_part_is_there(text):
    headings = re.findall(r"<h2>(.*?)</h2>", text)
    assert headings == [
        "Confirmation on fresh seeds",
        "All schedules",
        "Every run",
        "What each schedule trained on",
        "The best schedule",
        "What else was confirmed",
        "Training",
        "Samples, from the same noise",
        "Trials without a result",
        "How the numbers were measured",
        "Reproduce this study",
    ]
    for words in (
        "f00dcafe",
        "python -m tune best --study",
        "patience: 20",
        "mlflow",
        "digits/ddpm-epsilon",
    ):
        assert words in text


def test_plots_come_in_light_and_dark_and_can_be_read(text):
    pictures = re.findall(r"data:image/png;base64,([A-Za-z0-9+/=]+)", text)
    assert len(pictures) == 4 * 7 + 2
    assert text.count('(prefers-color-scheme: dark)">') == 2 * 7
    assert text.count('media="(max-width: 700px)') == 2 * 7
    for data in pictures:
        Image.open(io.BytesIO(base64.b64decode(data))).verify()


@pytest.mark.parametrize(
    ("records", "answer"),
    [
        ([], "No trial has finished."),
        ([record(None, reason="died")], "No trial has finished."),
        ([record(9.0, control="uniform")], "Only uniform sampling has finished."),
        ([record(9.0)], "Uniform sampling has no finished run beside it."),
        (
            [record(9.0), record(8.0, control="uniform")],
            "Uniform sampling is the best: FID 8.00, 11.1% better",
        ),
        ([record(math.nan), record(math.inf)], "No trial has finished."),
    ],
)
def test_a_study_with_little_in_it_still_gets_a_report(records, answer, tmp_path):
    text = build_report(records, STUDY, tmp_path).read_text(encoding="utf-8")
    Checker(text)
    assert answer in text


def test_a_report_replaces_the_one_before_and_leaves_nothing_else(tmp_path):
    for _ in range(2):
        build_report([], STUDY, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_damaged_run_files_are_left_out(study, tmp_path):
    values = study[1].model_copy(update={"folder": tmp_path})
    for name in ("sampled_timesteps.json", "metrics.jsonl", "config.yaml"):
        (tmp_path / name).write_bytes(b"\xff{not json: [")
    run = read_run(values)
    assert (run.sampled, run.log, run.samples, run.active) == (None, [], None, None)
    build_report([values], STUDY, tmp_path)


def test_the_active_set_is_a_density_that_grows_from_noise_to_all(study):
    found = active_set(study[1], study[1].ran_in / "config.yaml")
    widths = [right - left for left, right in zip(found.edges, found.edges[1:], strict=False)]
    for stage, row in enumerate(found.densities):
        assert sum(map(math.prod, zip(row, widths, strict=True))) == pytest.approx(1)
        # easy_to_hard: the noisiest clusters, at the end towards u = 1, come first.
        assert [density > 0 for density in row] == [place >= 19 - stage for place in range(20)]
    assert (found.starts[0], found.starts[-1], len(found.starts)) == (0, IMAGES, 21)


def test_a_changing_base_is_drawn_as_what_it_asks_for_in_each_part_of_a_stage(tmp_path):
    base = {
        "kind": "changing",
        "at_share": 0.25,
        "then": {"kind": "beta", "alpha": 2.0},
        "first": {"kind": "uniform"},
    }
    values = {**schedule(2, "easy_to_hard"), "base": base}
    run = RunConfig(schedule=CurriculumSchedule.from_dict(values), images=IMAGES)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(run.model_dump(mode="json")))
    ended = Measured(stage_starts=[[0, 0], [IMAGES // 2, 1]], images=IMAGES)
    found = active_set(ended, tmp_path / "config.yaml")
    assert found.starts == [0, IMAGES // 4, IMAGES // 2, IMAGES]
    assert found.clusters == [0, 0.5, 1]
    middles = [(a + b) / 2 for a, b in zip(found.edges, found.edges[1:], strict=False)]
    # The upper half evenly, then by t ~ Beta(2, 1), whose density is 2t, then all by that.
    asked = (
        [2.0 * (u > 0.5) for u in middles],
        [2 * u / 0.75 * (u > 0.5) for u in middles],
        [2 * u for u in middles],
    )
    for row, wanted in zip(found.densities, asked, strict=True):
        assert row == pytest.approx(wanted, abs=0.03)


def test_uniform_sampling_is_active_everywhere(study):
    assert active_set(study[0], study[0].ran_in / "config.yaml").densities == [[1.0]]


def test_a_schedule_is_drawn_by_the_direction_of_its_order(study):
    assert {kind_of(arm) for arm in Ranking.of(study, "fid").arms} == {
        "uniform",
        "easy_to_hard",
        "hard_to_easy",
    }
    rival = record(9.0, control="rival", schedule=schedule(1, "none"), description="min-SNR")
    assert [kind_of(arm) for arm in Ranking.of([rival], "fid").arms] == ["rival"]


def test_the_plot_of_what_was_sampled_is_a_picture_and_nothing_else(study, tmp_path):
    target = tmp_path / "sampled.png"
    plot_sampled(study[1].ran_in / "sampled_timesteps.json", target)
    with Image.open(target) as image:
        assert image.width > 500
        # Noise (u near 1) is at the top: only that half was drawn from, in the first half of the run.
        pixels = image.convert("L").resize((20, 20))
        assert pixels.getpixel((5, 5)) < pixels.getpixel((5, 14))
        assert pixels.getpixel((5, 5)) < pixels.getpixel((12, 5))
    assert [path.name for path in tmp_path.iterdir()] == ["sampled.png"]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium")
def test_chromium_renders_it_without_a_complaint(text, tmp_path):
    page = tmp_path / "report.html"
    page.write_text(text, encoding="utf-8")
    flags = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--no-first-run",
    ]
    flags += [f"--user-data-dir={tmp_path / 'profile'}", "--enable-logging=stderr", "--dump-dom"]
    done = subprocess.run(["chromium", *flags, page.as_uri()], capture_output=True, text=True, check=True)
    assert "CONSOLE" not in done.stderr
    assert "Reproduce this study" in done.stdout
