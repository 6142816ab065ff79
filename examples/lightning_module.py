"""A timestep curriculum in a LightningModule: the sampler's state travels in Lightning's own checkpoints."""

import warnings
from pathlib import Path
from typing import Any

import lightning
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from curriculum_ray.curriculum import CurriculumSchedule, TimestepSampler

T, BATCH, EPOCHS = 1000, 128, 8


class Diffusion(lightning.LightningModule):
    """DDPM on flattened images (B, 64) with noise prediction."""

    def __init__(self, schedule: CurriculumSchedule, total_images: int) -> None:
        super().__init__()
        self.schedule, self.total_images = schedule, total_images
        self.time = nn.Embedding(T, 64)
        self.net = nn.Sequential(nn.Linear(128, 256), nn.SiLU(), nn.Linear(256, 64))
        self.register_buffer("alphas_cumprod", (1 - torch.linspace(1e-4, 0.02, T)).cumprod(0))
        self._state: dict[str, Any] | None = None

    def on_train_start(self) -> None:
        # Here torch.distributed is initialised: the sampler finds its rank and the world size by itself. A checkpoint
        # is read by now with every strategy, while FSDP and DeepSpeed read it after on_fit_start.
        self.sampler = TimestepSampler(self.schedule, num_timesteps=T, total_images=self.total_images)
        if self._state is not None:
            self.sampler.load_state_dict(self._state)
            self._state = None

    def training_step(self, batch: list[torch.Tensor], batch_index: int) -> torch.Tensor:
        (clean,) = batch
        t = self.sampler.sample(len(clean), device=self.device)
        noise = torch.randn_like(clean)
        signal = self.alphas_cumprod[t].sqrt()[:, None]
        x = signal * clean + (1 - signal**2).sqrt() * noise
        loss = nn.functional.mse_loss(self.net(torch.cat([x, self.time(t)], dim=1)), noise)
        self.sampler.update(loss)
        return loss

    def on_train_epoch_end(self) -> None:
        sampler = self.sampler
        print(f"{sampler.images} images  stage {sampler.stage + 1} of {sampler.num_stages}")

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["sampler"] = self.sampler.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self._state = checkpoint["sampler"]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=2e-3)


def main() -> None:
    lightning.seed_everything(0, verbose=False)
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    images = torch.tensor(load_digits().data, dtype=torch.float32) / 8 - 1
    # Batches of one size: every rank must see equally many images.
    loader = DataLoader(TensorDataset(images), batch_size=BATCH, shuffle=True, drop_last=True)
    schedule = CurriculumSchedule.from_file(Path(__file__).with_name("schedule.yaml"))
    model = Diffusion(schedule, total_images=EPOCHS * len(loader) * BATCH)
    trainer = lightning.Trainer(
        max_epochs=EPOCHS,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, loader)


if __name__ == "__main__":
    main()
