"""A timestep curriculum with Hugging Face diffusers: UNet2DModel and DDPMScheduler on 8x8 digits."""

from pathlib import Path

import torch
from diffusers import DDPMScheduler, UNet2DModel
from sklearn.datasets import load_digits

from curriculum_ray.curriculum import CurriculumSchedule, TimestepSampler
from curriculum_ray.diffusion.levels import DiscreteTimesteps

BATCH, STEPS = 32, 60


def main() -> None:
    torch.manual_seed(0)
    images = torch.tensor(load_digits().images, dtype=torch.float32)[:, None] / 8 - 1
    model = UNet2DModel(
        sample_size=8,
        in_channels=1,
        out_channels=1,
        layers_per_block=1,
        block_out_channels=(16, 32),
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
        norm_num_groups=8,
    )
    noise_scheduler = DDPMScheduler(num_train_timesteps=1000, beta_schedule="squaredcos_cap_v2")
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)

    schedule = CurriculumSchedule.from_file(Path(__file__).with_name("schedule.yaml"))
    # num_timesteps=1000 would do for this schedule; with the scheduler's own table any schedule works.
    levels = DiscreteTimesteps(noise_scheduler.alphas_cumprod)
    sampler = TimestepSampler(schedule, levels=levels, total_images=STEPS * BATCH)

    for step in range(STEPS):
        clean = images[torch.randint(len(images), (BATCH,))]
        noise = torch.randn_like(clean)
        timesteps = sampler.sample(BATCH, device=clean.device)  # in place of torch.randint
        noisy = noise_scheduler.add_noise(clean, noise, timesteps)
        loss = torch.nn.functional.mse_loss(model(noisy, timesteps).sample, noise)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        sampler.update(loss)
        if step % 10 == 9:
            print(
                f"step {step + 1}  stage {sampler.stage + 1} of {sampler.num_stages}  loss {loss.item():.3f}"
            )


if __name__ == "__main__":
    main()
