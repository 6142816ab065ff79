"""A curriculum over sigma in an EDM-style loop (Karras et al. 2022) on 8x8 digits, in seconds on a CPU."""

import torch
from sklearn.datasets import load_digits
from torch import nn

from curriculum_ray.curriculum import CurriculumSchedule, TimestepSampler

BATCH, STEPS, SIGMA_DATA = 128, 300, 0.5

# EDM draws ln sigma ~ N(-1.2, 1.2²): the curriculum starts in the noisy half of that distribution.
schedule = CurriculumSchedule.from_dict(
    {
        "version": 1,
        "base": {"kind": "log_normal_sigma", "mean": -1.2, "std": 1.2},
        "clusters": {"by": "log_snr", "count": 10},
        "order": {"direction": "easy_to_hard"},
        "pacing": {"rule": "linear", "start_fraction": 0.5, "full_share": 0.5},
        "active": {"set": "cumulative", "floor": 0.1},
    }
)


class Preconditioned(nn.Module):
    """D(x; sigma) = c_skip x + c_out F(c_in x; c_noise), table 1 of Karras et al. 2022; x is (B, 64)."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(65, 256), nn.SiLU(), nn.Linear(256, 256), nn.SiLU(), nn.Linear(256, 64)
        )

    def forward(self, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        total = sigma**2 + SIGMA_DATA**2
        inner = torch.cat([x / total.sqrt(), sigma.log() / 4], dim=1)
        return SIGMA_DATA**2 / total * x + sigma * SIGMA_DATA / total.sqrt() * self.net(inner)


def main() -> None:
    torch.manual_seed(0)
    images = (torch.tensor(load_digits().data, dtype=torch.float32) / 8 - 1) * SIGMA_DATA
    model = Preconditioned()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    sampler = TimestepSampler(schedule, sigma=True, total_images=STEPS * BATCH)
    for step in range(STEPS):
        clean = images[torch.randint(len(images), (BATCH,))]
        sigma = sampler.sample(BATCH)[:, None]  # in place of exp(-1.2 + 1.2 randn)
        weight = (sigma**2 + SIGMA_DATA**2) / (sigma * SIGMA_DATA) ** 2
        denoised = model(clean + sigma * torch.randn_like(clean), sigma)
        losses = (weight * (denoised - clean) ** 2).mean(1)
        optimizer.zero_grad()
        losses.mean().backward()
        optimizer.step()
        # With EDM's weight the loss is the error of the network inside, on one scale at all sigmas.
        sampler.update(losses)
        if step % 50 == 49:
            low, high = sigma.min().item(), sigma.max().item()
            stage = f"stage {sampler.stage + 1} of {sampler.num_stages}"
            print(f"step {step + 1}  sigma {low:.3f}..{high:.2f}  {stage}")


if __name__ == "__main__":
    main()
