"""A timestep curriculum in a plain PyTorch loop: DDPM on 8x8 digits with a small MLP, in seconds on a CPU."""

from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import nn

from curriculum_ray.curriculum import CurriculumSchedule, TimestepSampler

T, BATCH, STEPS = 1000, 128, 400
torch.manual_seed(0)
images = torch.tensor(load_digits().data, dtype=torch.float32) / 8 - 1  # (1797, 64) in [-1, 1]
alphas_cumprod = (1 - torch.linspace(1e-4, 0.02, T)).cumprod(0)


class Denoiser(nn.Module):
    """Predicts the noise from a noisy image (B, 64) and its timestep (B,), 0 clean .. T-1 noise."""

    def __init__(self) -> None:
        super().__init__()
        self.time = nn.Embedding(T, 128)
        self.net = nn.Sequential(
            nn.Linear(64 + 128, 256), nn.SiLU(), nn.Linear(256, 256), nn.SiLU(), nn.Linear(256, 64)
        )

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return self.net(torch.cat([x, self.time(t)], dim=1))


model = Denoiser()
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)

schedule = CurriculumSchedule.from_file(Path(__file__).with_name("schedule.yaml"))
sampler = TimestepSampler(schedule, num_timesteps=T, total_images=STEPS * BATCH)

for step in range(STEPS):
    x0 = images[torch.randint(len(images), (BATCH,))]
    t = sampler.sample(BATCH)
    noise = torch.randn_like(x0)
    signal = alphas_cumprod[t].sqrt()[:, None]
    x = signal * x0 + (1 - signal**2).sqrt() * noise
    loss = nn.functional.mse_loss(model(x, t), noise)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    sampler.update(loss)
    if step % 50 == 49:
        stage = f"stage {sampler.stage + 1} of {sampler.num_stages}"
        print(f"{sampler.images} images  {stage}  loss {loss.item():.3f}")

checkpoint = {"model": model.state_dict(), "sampler": sampler.state_dict()}  # sampler.load_state_dict resumes
