"""Images to train on: the digits that scikit-learn ships, or a folder of image files."""

from curriculum_ray.data.batches import Batches, InMemoryBatches
from curriculum_ray.data.conditioning import NO_CONDITIONING, Conditioning
from curriculum_ray.data.dataset import Dataset, from_uint8, to_uint8
from curriculum_ray.data.digits import digits_split
from curriculum_ray.data.info import DataInfo
from curriculum_ray.data.load import DataSpec, load_data

__all__ = [
    "NO_CONDITIONING",
    "Batches",
    "Conditioning",
    "DataInfo",
    "DataSpec",
    "Dataset",
    "InMemoryBatches",
    "digits_split",
    "from_uint8",
    "load_data",
    "to_uint8",
]
