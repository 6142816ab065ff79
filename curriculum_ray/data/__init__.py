"""What to train on: embedded sets of images, signals and points, and images or latents on disk."""

from curriculum_ray.data.batches import Batches, InMemoryBatches
from curriculum_ray.data.conditioning import NO_CONDITIONING, Conditioning
from curriculum_ray.data.dataset import Dataset, LatentShape, from_uint8, is_image, to_uint8
from curriculum_ray.data.digits import digits_split
from curriculum_ray.data.info import DataInfo
from curriculum_ray.data.load import data_info, load_data
from curriculum_ray.data.spec import DataSpec
from curriculum_ray.data.summary import DataSummary, DataWarning
from curriculum_ray.data.vocabulary import tokenise

__all__ = [
    "NO_CONDITIONING",
    "Batches",
    "Conditioning",
    "DataInfo",
    "DataSpec",
    "DataSummary",
    "DataWarning",
    "Dataset",
    "InMemoryBatches",
    "LatentShape",
    "data_info",
    "digits_split",
    "from_uint8",
    "is_image",
    "load_data",
    "to_uint8",
    "tokenise",
]
