"""A timestep curriculum with Accelerate: one loop for one process or many, the sampler in its checkpoints."""

from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from curriculum_ray.curriculum import CurriculumSchedule, TimestepSampler

T, BATCH, EPOCHS = 1000, 128, 8


class Denoiser(nn.Module):
    """Predicts the noise from a noisy image (B, 64) and its timestep (B,)."""

    def __init__(self) -> None:
        super().__init__()
        self.time = nn.Embedding(T, 64)
        self.net = nn.Sequential(nn.Linear(128, 256), nn.SiLU(), nn.Linear(256, 64))

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return self.net(torch.cat([x, self.time(t)], dim=1))


def main() -> None:
    accelerator = Accelerator(cpu=True)
    set_seed(0, device_specific=True)  # every process has noise of its own
    images = torch.tensor(load_digits().data, dtype=torch.float32) / 8 - 1
    # Batches of one size: every process must see equally many images.
    loader = DataLoader(TensorDataset(images), batch_size=BATCH, shuffle=True, drop_last=True)
    model = Denoiser()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    alphas_cumprod = (1 - torch.linspace(1e-4, 0.02, T)).cumprod(0).to(accelerator.device)

    schedule = CurriculumSchedule.from_file(Path(__file__).with_name("schedule.yaml"))
    total_images = EPOCHS * len(loader) * BATCH * accelerator.num_processes
    # After Accelerator() torch.distributed is initialised: rank and world size are found.
    sampler = TimestepSampler(schedule, num_timesteps=T, total_images=total_images)
    accelerator.register_for_checkpointing(sampler)  # save_state and load_state take it along

    for _ in range(EPOCHS):
        for (clean,) in loader:
            t = sampler.sample(len(clean), device=clean.device)
            noise = torch.randn_like(clean)
            signal = alphas_cumprod[t].sqrt()[:, None]
            x = signal * clean + (1 - signal**2).sqrt() * noise
            loss = nn.functional.mse_loss(model(x, t), noise)
            optimizer.zero_grad()
            accelerator.backward(loss)
            optimizer.step()
            sampler.update(loss)
        accelerator.print(f"{sampler.images} images  stage {sampler.stage + 1} of {sampler.num_stages}")


if __name__ == "__main__":
    main()
