"""Cameras of training sets: what does not fit into a pixel, and what it hides."""

import numpy as np
import pytest
from small_disks import disk_set

from diskern.simulate.instrument import Blooming, Labels, Saturation, Scene
from diskern.train.disks_camera import Camera

SIDE, CENTRE = 48, (16, 24)


def two_disks() -> np.ndarray:
    """A bright disk and, 20 px below it, a faint one; one beside that is as faint."""
    rows, cols = np.indices((SIDE, SIDE))
    image = np.zeros((SIDE, SIDE), dtype=np.float32)
    for place, height in ((CENTRE, 1e4), ((36, 24), 200.0), ((16, 40), 200.0)):
        image[np.hypot(rows - place[0], cols - place[1]) < 4] = height
    return image[None]


def recorded(camera: Camera) -> np.ndarray:
    labels = Labels.of(np.zeros((SIDE, SIDE), np.float32), centre=np.array(CENTRE), pixel_size=0.01)
    return camera.record(two_disks(), labels, np.random.default_rng(1))[0]


def test_charge_that_spills_hides_what_lies_in_its_columns() -> None:
    camera = Camera((), None, None, False, None, 0.0, Blooming(0.1, 0.2, 24))
    hidden = camera.flooded(two_disks())[0]
    assert hidden[CENTRE]
    assert hidden[36, 24]
    assert not hidden[16, 40]
    counts = recorded(camera)
    assert counts[36, 24] == counts.max() == pytest.approx(0.1 * 1e4, rel=0.1)
    assert counts[16, 40] == pytest.approx(200, abs=80)


def test_a_full_well_alone_hides_nothing() -> None:
    camera = Camera((), None, None, False, None, 0.0, Saturation(0.1))
    assert not camera.flooded(two_disks()).any()
    counts = recorded(camera)
    assert counts.max() < 1.2e3
    assert counts[36, 24] == pytest.approx(200, abs=80)


def test_as_many_cameras_are_flooded_as_the_recipe_says() -> None:
    rng, scene = np.random.default_rng(0), Scene((SIDE, SIDE), 0.01)
    wells = [Camera.draw(rng, scene, 0.3).well for _ in range(600)]
    kinds = [sum(isinstance(w, kind) for w in wells) for kind in (Saturation, Blooming)]
    assert kinds == pytest.approx([90, 90], abs=30)
    assert all(Camera.draw(rng, scene).well is None for _ in range(50))


def test_hidden_disks_are_not_taught(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (disk_set().block(2)["disks"][..., 4] > 0.5).any()
    monkeypatch.setattr(Camera, "flooded", lambda _, mean: np.ones(mean.shape, dtype=bool))
    assert not disk_set().block(2)["disks"][..., 4].any()
