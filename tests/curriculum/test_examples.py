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


@pytest.mark.slow
def test_a_lightning_run_resumes_where_a_strategy_reads_the_checkpoint_after_its_setup(tmp_path):
    import lightning
    import torch
    from lightning.pytorch.strategies import SingleDeviceStrategy
    from torch.utils.data import DataLoader, TensorDataset

    class _Late(SingleDeviceStrategy):
        """Reads a checkpoint when FSDP and DeepSpeed do."""

        restore_checkpoint_after_setup = True

    example = runpy.run_path(str(EXAMPLES / "lightning_module.py"))
    schedule = example["CurriculumSchedule"].from_file(EXAMPLES / "schedule.yaml")
    loader = DataLoader(TensorDataset(torch.rand(256, 64)), batch_size=128)
    path, samplers = tmp_path / "half.ckpt", []
    for epochs, start in ((2, None), (4, path)):
        model = example["Diffusion"](schedule, total_images=10_000)
        trainer = lightning.Trainer(
            max_epochs=epochs,
            strategy=_Late(device=torch.device("cpu")),
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(model, loader, ckpt_path=start)
        trainer.save_checkpoint(path)
        samplers.append(model.sampler)
    assert [sampler.images for sampler in samplers] == [512, 1024]


def test_the_plain_loop_stays_under_sixty_lines():
    assert len((EXAMPLES / "plain_pytorch.py").read_text().splitlines()) < 60
