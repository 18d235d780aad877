"""The normal matrices and the step against plain linear algebra, pixel by pixel."""

import numpy as np
import pytest
import torch

from diskern.bragg.disk_basis import count
from diskern.bragg.disk_fit import BACKGROUND, Tables, gauss_newton, model, normal_matrix, project
from diskern.bragg.disk_probe import Probe
from diskern.bragg.disk_windows import Rim

RADIUS = 6.0


def design(tables: Tables, shape: torch.Tensor) -> np.ndarray:
    """(N, pixels, 3 + m) background and polynomial terms, written out."""
    values = tables.values.double().numpy()
    ground = np.broadcast_to(values[:, :BACKGROUND], (len(shape), len(values), BACKGROUND))
    disk = shape.double().numpy()[:, :, None] * values[:, : count(tables.order)]
    return np.concatenate([ground, disk], axis=2)


@pytest.fixture
def setting() -> tuple[Tables, tuple[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]:
    tables = Tables.of(RADIUS, RADIUS + 3, 3)
    rim = Rim.of(Probe.synthetic((64, 64), RADIUS))
    place = torch.tensor([[0.2, -0.3], [0.0, 0.45], [-1.1, 0.7]], dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    weight = torch.rand((3, len(tables.row)), generator=generator)
    weight[1, ::7] = 0
    return tables, rim(tables, place), weight


def test_normal_matrix_is_that_of_the_terms_written_out(setting) -> None:
    tables, shape, weight = setting
    terms = design(tables, shape[0])
    direct = np.einsum("np,npi,npj->nij", weight.double().numpy(), terms, terms)
    found = normal_matrix(weight, shape[0], tables).numpy()
    assert found == pytest.approx(direct, rel=1e-4, abs=1e-4 * np.abs(direct).max())


def test_projection_is_that_of_the_terms_written_out(setting) -> None:
    tables, shape, weight = setting
    direct = np.einsum("np,npi->ni", weight.double().numpy(), design(tables, shape[0]))
    found = project(weight, shape[0], tables).numpy()
    assert found == pytest.approx(direct, rel=1e-4, abs=1e-4 * np.abs(direct).max())


def test_slopes_of_the_rim_are_its_differences() -> None:
    tables = Tables.of(RADIUS, RADIUS + 3, 0)
    for kind in ("disk", "square", "bullseye"):
        rim = Rim.of(Probe.synthetic((64, 64), 8.0, edge=1.2, kind=kind))
        place = torch.tensor([[0.37, -0.21]], dtype=torch.float64)
        for axis in (0, 1):
            step = torch.zeros(1, 2, dtype=torch.float64)
            step[0, axis] = 0.05
            change = (rim(tables, place + step)[0] - rim(tables, place - step)[0]) / 0.1
            assert rim(tables, place)[1 + axis] == pytest.approx(change, abs=0.06), kind


def test_a_step_solves_a_noiseless_disk() -> None:
    tables = Tables.of(RADIUS, RADIUS + 3, 2)
    rim = Rim.of(Probe.synthetic((64, 64), RADIUS))
    truth = torch.tensor([[0.30, -0.20]], dtype=torch.float64)
    linear = torch.zeros(1, BACKGROUND + count(2), dtype=torch.float64)
    linear[0, 0], linear[0, BACKGROUND], linear[0, BACKGROUND + 1] = 5.0, 400.0, 60.0
    counts = model(tables, rim(tables, truth)[0], linear)[2]
    position, guess = torch.zeros(1, 2, dtype=torch.float64), linear.clone()
    guess[0, BACKGROUND + 1 :] = 0
    for _ in range(4):
        shape = rim(tables, position)
        inner, _, expected = model(tables, shape[0], guess)
        step = gauss_newton(counts - expected, 1 / expected, shape, inner, guess, tables)
        position, guess = position + step.shift, step.linear
    assert position[0].tolist() == pytest.approx([0.30, -0.20], abs=2e-3)
    assert guess[0, BACKGROUND].item() == pytest.approx(400, rel=2e-3)
    flux = (rim(tables, truth)[0] * model(tables, rim(tables, truth)[0], linear)[0]).sum()
    assert step.flux.item() == pytest.approx(float(flux), rel=2e-3)


def test_evidence_chooses_the_degree_that_is_there(setting) -> None:
    tables = setting[0]
    rim = Rim.of(Probe.synthetic((64, 64), RADIUS))
    place = torch.zeros(2, 2, dtype=torch.float64)
    linear = torch.zeros(2, BACKGROUND + count(3), dtype=torch.float64)
    linear[:, 0], linear[:, BACKGROUND] = 5.0, 400.0
    linear[1, BACKGROUND + 3 : BACKGROUND + 6] = 60.0
    shape = rim(tables, place)
    generator = torch.Generator().manual_seed(1)
    counts = torch.poisson(model(tables, shape[0], linear)[2], generator)
    guess = linear.clone()
    guess[:, BACKGROUND + 1 :] = 0
    inner, _, expected = model(tables, shape[0], guess)
    step = gauss_newton(counts - expected, 1 / expected, shape, inner, guess, tables)
    assert step.weights.sum(1).tolist() == pytest.approx([1, 1])
    assert step.weights[0].argmax() == 0
    assert step.weights[1, 2:].sum() > 0.99
    favoured = torch.tensor([0.0, 0.0, 0.0, 20.0], dtype=torch.float64)
    swayed = gauss_newton(counts - expected, 1 / expected, shape, inner, guess, tables, favoured)
    assert swayed.weights[0, 3] > step.weights[0, 3]
