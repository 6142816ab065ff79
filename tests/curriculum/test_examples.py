"""The examples run as they stand, in this process to share its imports, and reach ordinary training."""

import re
import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
# Those that import a large library take seconds for that alone.
SCRIPTS = [
    *(
        pytest.param(name, marks=pytest.mark.slow)
        for name in ("accelerate_loop", "diffusers_unet", "lightning_module")
    ),
    "edm_sigma",
    "flow_matching",
    "plain_pytorch",
]


@pytest.mark.parametrize("name", SCRIPTS)
def test_an_example_runs_and_ends_in_the_last_stage(name, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    stages = re.findall(r"stage\s+(\d+) of\s+(\d+)", capsys.readouterr().out)
    assert stages
    assert int(stages[0][0]) < int(stages[0][1])
    assert stages[-1][0] == stages[-1][1]
    assert not list(tmp_path.iterdir()), "an example leaves files behind"


def test_the_plain_loop_stays_under_sixty_lines():
    assert len((EXAMPLES / "plain_pytorch.py").read_text().splitlines()) < 60
