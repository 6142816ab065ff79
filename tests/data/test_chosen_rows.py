"""Rows that are kept of a stream: as many as are asked for, evenly from many units, and none that are left out."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from curriculum_ray.data.chosen_rows import choose_rows
from curriculum_ray.data.headers import Unit


def _units(sizes: list[int]) -> tuple[Unit, ...]:
    return tuple(Unit("a.parquet", group, rows) for group, rows in enumerate(sizes))


@settings(max_examples=50)
@given(st.lists(st.integers(0, 40), min_size=1, max_size=60), st.integers(0, 300), st.integers(0, 99))
def test_as_many_rows_as_are_asked_for_each_once_and_none_of_those_left_out(
    sizes: list[int], count: int, seed: int
) -> None:
    units = _units(sizes)
    first = choose_rows(units, count // 2, seed)
    second = choose_rows(units, count, seed + 1, first)
    assert len(first) == min(count // 2, sum(sizes))
    assert len(second) == min(count, sum(sizes) - len(first))
    for index, rows in second.numbers.items():
        assert rows
        assert len({*rows}) == len(rows)
        assert {*rows} <= {*range(sizes[index])} - {*first.of(index)}
    assert second == choose_rows(units, count, seed + 1, first)


def test_rows_come_in_equal_numbers_from_32_units_and_from_more_only_where_those_are_too_few() -> None:
    few = choose_rows(_units([100] * 500), 64, 0)
    assert [len(rows) for rows in few.numbers.values()] == [2] * 32
    many = choose_rows(_units([100] * 500), 4_000, 0)
    assert [len(rows) for rows in many.numbers.values()] == [100] * 40
    uneven = choose_rows(_units([1, 100, 100]), 41, 0)
    assert [len(rows) for rows in uneven.numbers.values()] == [1, 20, 20]
