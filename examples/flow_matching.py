"""A curriculum over flow-matching times (1 is noise, as in Esser et al. 2024) on 8x8 digits, in seconds on a CPU."""

import torch
from sklearn.datasets import load_digits
from torch import nn

from curriculum_ray.curriculum import CurriculumSchedule, TimestepSampler

BATCH, STEPS = 128, 300

# The logit-normal times of Stable Diffusion 3 and a curriculum at once: the noisiest fifth first.
schedule = CurriculumSchedule.from_dict(
    {
        "version": 1,
        "base": {"kind": "logit_normal", "mean": 0.0, "std": 1.0},
        "clusters": {"by": "uniform", "count": 5},
        "order": {"direction": "easy_to_hard"},
        "pacing": {"rule": "fixed", "stage_share": 0.1},
        "active": {"set": "newest_weighted", "newest_weight": 2.0},
    }
)


def main() -> None:
    torch.manual_seed(0)
    images = torch.tensor(load_digits().data, dtype=torch.float32) / 8 - 1
    model = nn.Sequential(nn.Linear(65, 256), nn.SiLU(), nn.Linear(256, 256), nn.SiLU(), nn.Linear(256, 64))
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    sampler = TimestepSampler(schedule, flow=True, total_images=STEPS * BATCH)
    for step in range(STEPS):
        clean = images[torch.randint(len(images), (BATCH,))]
        noise = torch.randn_like(clean)
        t = sampler.sample(BATCH)[:, None]  # 1 is noise; in place of torch.rand
        x = (1 - t) * clean + t * noise
        velocity = model(torch.cat([x, t], dim=1))
        loss = nn.functional.mse_loss(velocity, noise - clean)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        sampler.update(loss)
        if step % 50 == 49:
            low, high = t.min().item(), t.max().item()
            print(
                f"step {step + 1}  t {low:.2f}..{high:.2f}  stage {sampler.stage + 1} of {sampler.num_stages}"
            )


if __name__ == "__main__":
    main()
