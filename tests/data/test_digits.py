"""The embedded digits and their fixed split."""

import torch

from curriculum_ray.data import Conditioning, DataSpec, digits_split, load_data


def test_digits_are_all_there_and_fill_the_range() -> None:
    data = load_data(DataSpec(holdout_share=0))
    assert data.items.shape == (1797, 1, 8, 8)
    assert data.items.min() == -1
    assert data.items.max() == 1
    assert data.conditioning == Conditioning("class", 10)
    assert data.condition is not None
    assert data.condition.bincount().sum() == 1797


def test_the_digits_never_change() -> None:
    fingerprint = load_data(DataSpec(holdout_share=0)).fingerprint
    assert fingerprint == "8aa4a98f227fcb6c0e09f481387d6fb1d13ed860d89d558098140c841f9d9acf"


def test_the_split_is_stratified_disjoint_and_complete() -> None:
    train, held_out = digits_split()
    labels = load_data(DataSpec(holdout_share=0)).condition
    assert labels is not None
    assert torch.equal(torch.cat([train, held_out]).sort().values, torch.arange(1797))
    share = labels[held_out].bincount() / labels.bincount()
    assert ((share - 0.2).abs() < 0.003).all()


def test_the_split_never_changes() -> None:
    _, held_out = digits_split()
    assert held_out[:5].tolist() == [4, 5, 6, 9, 14]
    assert int(held_out.sum()) == 305811
