"""curriculum-ray: which timesteps to train when, for diffusion models of any scale."""

__version__ = "0.1.0"
__all__ = ["__version__"]
