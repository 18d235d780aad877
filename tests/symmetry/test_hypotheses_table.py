"""The file of net hypotheses is what the code computes."""

from dataclasses import fields

import numpy as np
import pytest

from diskern.symmetry.hypotheses import BLOCKS, Block, computed_block
from diskern.symmetry.hypotheses_table import FILE, block, write


def same(a, b):
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and np.array_equal(a, b)
    if isinstance(a, tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)


@pytest.mark.parametrize("name", BLOCKS)
def test_the_file_holds_what_is_computed(name):
    kept, made = block(*name), computed_block(*name)
    for field in fields(Block):
        a, b = getattr(kept, field.name), getattr(made, field.name)
        if field.name == "log_prior":
            assert np.allclose(a, b, rtol=0, atol=1e-12)
        elif field.name == "zones":
            assert np.array_equal(a.basis, b.basis)
        else:
            assert same(a, b), field.name


def test_writing_gives_the_same_numbers_again(tmp_path):
    write(tmp_path / FILE)
    with np.load(tmp_path / FILE) as again:
        for name in BLOCKS:
            assert np.array_equal(again[f"{BLOCKS.index(name)}.basis"], block(*name).basis)
