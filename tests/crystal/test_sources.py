"""Sources: folders, OPTIMADE, Materials Project and AFLOW, served on loopback only."""

from __future__ import annotations

import gzip
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import numpy as np
import pytest
from loopback import Answer, Request, as_json, serving
from scipy.spatial.transform import Rotation

from diskern.crystal.cif_write import cif_text
from diskern.crystal.common import common_phases
from diskern.crystal.crystal import Crystal
from diskern.crystal.sources.aflow import aflow_prototypes
from diskern.crystal.sources.duplicates import unique_crystals
from diskern.crystal.sources.folder import disorder_of, read_folder
from diskern.crystal.sources.http import Client
from diskern.crystal.sources.materials_project import Query, fetch_materials_project
from diskern.crystal.sources.optimade import element_filter, fetch_optimade
from diskern.crystal.sources.record import ATTRIBUTION, Record, Refusal, keep_records, records_of
from diskern.errors import DiskernError

QUICK = Client(retries=3, pause=0.001, timeout=5)


def phase(name: str) -> Crystal:
    return next(c for c in common_phases() if c.name.startswith(name))


# --- CIF and duplicates -----------------------------------------------------------------
@pytest.mark.parametrize("name", ["NaCl", "TiO2 (rutile)", "Mg", "CaCO3"])
def test_written_cif_reads_back(name: str, tmp_path: Path) -> None:
    crystal = phase(name)
    path = tmp_path / "a.cif"
    path.write_text(cif_text(crystal), encoding="utf-8")
    again = Crystal.from_cif(path)
    np.testing.assert_allclose(again.parameters, crystal.parameters, atol=1e-6)
    assert again.formula == crystal.formula
    assert again.symmetry().number == crystal.symmetry().number


def disguised(crystal: Crystal, seed: int) -> Crystal:
    """The same crystal in a primitive cell, turned, shifted, doubled and shuffled."""
    rng = np.random.default_rng(seed)
    small = crystal.primitive(0.01)
    lattice = np.array([[1, 1, 0], [0, 1, 0], [0, 0, 2]]) @ small.lattice
    positions = np.concatenate([small.cartesian, small.cartesian + small.lattice[2]])
    positions = positions + rng.random(3)
    order = rng.permutation(len(positions))
    turn = Rotation.random(rng=rng).as_matrix()
    fractional = positions[order] @ np.linalg.inv(lattice)
    return Crystal.from_arrays(lattice @ turn.T, fractional, np.tile(small.numbers, 2)[order])


def test_duplicates_are_found_in_any_cell() -> None:
    names = ["NaCl", "Si", "Mg", "TiO2 (rutile)", "TiO2 (anatase)", "Al", "Cu"]
    crystals = [phase(n) for n in names]
    everything = crystals + [disguised(c, i) for i, c in enumerate(crystals)]
    kept, copies = unique_crystals(everything)
    assert kept == list(range(7))
    assert copies == {7 + i: i for i in range(7)}


def test_a_strained_crystal_is_another() -> None:
    si = phase("Si")
    near = Crystal.from_arrays(si.lattice * 1.005, si.fractional, si.numbers)
    far = Crystal.from_arrays(si.lattice * 1.05, si.fractional, si.numbers)
    assert unique_crystals([si, near, far])[0] == [0, 2]


# --- folders -----------------------------------------------------------------------------
def write_folder(folder: Path) -> None:
    (folder / "below").mkdir()
    for name, crystal in {
        "nacl.cif": phase("NaCl"),
        "below/again.cif": disguised(phase("NaCl"), 1),
        "si.cif": phase("Si"),
        "mixed.cif": Crystal.from_arrays(
            [2.9, 2.9, 2.9, 90, 90, 90], [[0, 0, 0], [0, 0, 0]], [26, 27], [0.5, 0.5]
        ),
        "split.cif": Crystal.from_arrays(
            [4.0, 4, 4, 90, 90, 90], [[0, 0, 0], [0.06, 0, 0], [0.5, 0.5, 0.5]], [8, 8, 26],
            [0.5, 0.5, 1],
        ),
    }.items():  # fmt: skip
        (folder / name).write_text(cif_text(crystal), encoding="utf-8")
    (folder / "broken.cif").write_text("data_x\n_cell_length_a 3")
    (folder / "notes.txt").write_text("not a structure")


def test_folder_reports_everything(tmp_path: Path) -> None:
    write_folder(tmp_path)
    found = read_folder(tmp_path)
    assert [r.identifier for r in found.records] == ["below/again.cif", "mixed.cif", "si.cif"]
    assert found.copies == {"nacl.cif": "below/again.cif"}
    reasons = {r.identifier: r.reason for r in found.refused}
    assert set(reasons) == {"broken.cif", "split.cif"}
    assert "0.24 Å apart" in reasons["split.cif"]
    assert found.records[1].facts["disorder"].startswith("mixed sites")


def test_folder_of_ordered_crystals_only(tmp_path: Path) -> None:
    write_folder(tmp_path)
    found = read_folder(tmp_path, disorder="refuse", merge=False, deep=False)
    assert [r.identifier for r in found.records] == ["nacl.cif", "si.cif"]
    assert {r.identifier for r in found.refused} == {"broken.cif", "mixed.cif", "split.cif"}


def test_folders_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(DiskernError, match=r"ends in \.cif"):
        read_folder(tmp_path)
    with pytest.raises(DiskernError, match="is no folder"):
        read_folder(tmp_path / "nowhere")


def test_ordered_crystals_have_no_disorder() -> None:
    assert disorder_of(phase("NaCl")) == ""


# --- HTTP ----------------------------------------------------------------------------------
def test_passing_failures_are_tried_again() -> None:
    def answer(request: Request, before: int) -> Answer:
        return as_json({}, 503, **{"Retry-After": "0"}) if before < 2 else as_json({"ok": 1})

    with serving(answer) as log:
        assert QUICK.get(log.address) == {"ok": 1}
        assert len(log.requests) == 3


def test_lasting_failures_are_not() -> None:
    def answer(request: Request, before: int) -> Answer:
        return as_json({"errors": [{"detail": "bad\nfilter"}]}, 400)

    with serving(answer) as log:
        with pytest.raises(DiskernError, match=r"400 .*bad filter"):
            QUICK.get(log.address)
        assert len(log.requests) == 1


@pytest.mark.parametrize("body", [b"", b"<html>", b"[1]", b"\xff\xfe"])
def test_answers_that_are_no_object(body: bytes) -> None:
    with serving(lambda request, before: (200, {}, body)) as log, pytest.raises(DiskernError):
        QUICK.get(log.address)


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://x/y", "nonsense", ""])
def test_only_http_addresses(url: str) -> None:
    with pytest.raises(DiskernError, match="no http"):
        QUICK.get(url)


def test_nobody_there() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(DiskernError, match="does not answer"):
        Client(retries=1, pause=0.001).get(f"http://127.0.0.1:{port}/")


def test_cache_asks_once_and_keeps_no_key(tmp_path: Path) -> None:
    client = Client(cache=tmp_path, headers={"X-API-KEY": "secret"})
    with serving(lambda request, before: as_json({"n": before})) as log:
        assert client.get(log.address) == client.get(log.address) == {"n": 0}
        assert len(log.requests) == 1
    assert all(b"secret" not in p.read_bytes() for p in tmp_path.iterdir())
    assert "secret" not in repr(client)


# --- OPTIMADE --------------------------------------------------------------------------------
def entry(name: str, crystal: Crystal, **changes: Any) -> dict[str, Any]:
    symbols = [crystal.elements[i] for i in np.unique(crystal.numbers, return_inverse=True)[1]]
    attributes = {
        "lattice_vectors": crystal.lattice.tolist(),
        "cartesian_site_positions": crystal.cartesian.tolist(),
        "species": [
            {"name": s, "chemical_symbols": [s], "concentration": [1.0]} for s in crystal.elements
        ],
        "species_at_sites": symbols,
        "nperiodic_dimensions": 3,
        "structure_features": [],
    }
    return {"id": name, "type": "structures", "attributes": {**attributes, **changes}}


def optimade_pages(request: Request, before: int) -> Answer:
    """Three pages; links of both forms that the standard allows."""
    page = int(request.query.get("page", "0"))
    names = ["Si", "NaCl", "Mg", "TiO2 (rutile)", "Cu"][2 * page : 2 * page + 2]
    data: list[Any] = [entry(f"x-{n}", phase(n)) for n in names]
    following: Any = None
    if page < 2:
        address = f"/v1/structures?page={page + 1}"
        following = address if page else {"href": address}
    return as_json(
        {"data": data, "links": {"next": following}, "meta": {"provider": {"prefix": "tst"}}}
    )


def test_optimade_pages_and_positions() -> None:
    with serving(optimade_pages) as log:
        found = list(records_of(fetch_optimade(log.address, client=QUICK, page=2)))
        assert log.requests[0].path == "/v1/structures"
        assert log.requests[0].query["page_limit"] == "2"
    assert [r.identifier for r in found] == ["x-Si", "x-NaCl", "x-Mg", "x-TiO2 (rutile)", "x-Cu"]
    assert found[0].provider == "tst"
    for record, name in zip(found, ["Si", "NaCl", "Mg", "TiO2 (rutile)", "Cu"], strict=True):
        assert unique_crystals([phase(name), record.crystal])[0] == [0]
        assert log.address in record.attribution


def test_optimade_limit_stops_early() -> None:
    with serving(optimade_pages) as log:
        assert len(list(fetch_optimade(log.address, limit=3, client=QUICK))) == 3
        assert len(log.requests) == 2


def test_optimade_resumes_from_its_cache(tmp_path: Path) -> None:
    def torn(request: Request, before: int) -> Answer:
        broken = state["broken"] and request.query.get("page") == "2"
        return as_json({}, 403) if broken else optimade_pages(request, before)

    state = {"broken": True}
    client = Client(cache=tmp_path, retries=0)
    with serving(torn) as log:
        got: list[Record | Refusal] = []
        with pytest.raises(DiskernError, match="403"):
            got.extend(fetch_optimade(log.address, client=client))
        state["broken"] = False
        assert len(list(fetch_optimade(log.address, client=client))) == 5
        assert len(log.requests) == 4


def test_a_server_that_links_to_itself_ends() -> None:
    def loop(request: Request, before: int) -> Answer:
        return as_json({"data": [], "links": {"next": request.path}})

    with serving(loop) as log:
        assert list(fetch_optimade(log.address, client=QUICK)) == []
        assert len(log.requests) <= 2


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"nperiodic_dimensions": 2}, "2 directions"),
        ({"cartesian_site_positions": [[0, 0, 0]] * 8}, "0.00 Å apart"),
        ({"lattice_vectors": None}, "not finite"),
        ({"lattice_vectors": [[None, 1, 1], [0, 1, 0], [0, 0, 1]]}, "not finite"),
        ({"species_at_sites": ["Si"]}, "form"),
        ({"species_at_sites": ["Q"] * 8}, "form"),
        (
            {"species": [{"name": "Si", "chemical_symbols": ["X"], "concentration": [1.0]}]},
            "no element",
        ),
        ({"structure_features": ["unknown_positions"]}, "unknown"),
    ],
)
def test_entries_that_are_no_structure(changes: dict[str, Any], words: str) -> None:
    data = [entry("bad", phase("Si"), **changes), entry("good", phase("Si"))]
    with serving(lambda request, before: as_json({"data": data})) as log:
        bad, good = fetch_optimade(log.address, client=QUICK)
    assert isinstance(bad, Refusal)
    assert words in bad.reason
    assert "\n" not in bad.reason
    assert isinstance(good, Record)


def test_vacancies_become_occupancies() -> None:
    species = [{"name": "Si", "chemical_symbols": ["Si", "vacancy"], "concentration": [0.7, 0.3]}]
    data = [entry("a", phase("Si"), species=species)]
    with serving(lambda request, before: as_json({"data": data})) as log:
        (found,) = records_of(fetch_optimade(log.address, client=QUICK))
    np.testing.assert_allclose(found.crystal.occupancy, 0.7)


def test_element_filter() -> None:
    assert element_filter(["Ni", "al"]) == 'elements HAS ALL "Al","Ni" AND nelements=2'
    with pytest.raises(DiskernError, match="Qq"):
        element_filter(["Qq"])


def optimade_python() -> str | None:
    """An interpreter that has the reference server: this one, or the one that is named."""
    named = os.environ.get("DISKERN_OPTIMADE_PYTHON")
    if named:
        return named
    return sys.executable if find_spec("optimade") and find_spec("uvicorn") else None


@contextmanager
def reference_server() -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ["-m", "uvicorn", "optimade.server.main:app", "--port", str(port)]
    process = subprocess.Popen(
        [str(optimade_python()), *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(240):
            try:
                with urlopen(f"{address}/v1/info", timeout=5):
                    break
            except (URLError, ConnectionError, TimeoutError):
                assert process.poll() is None, "the reference server stopped"
                time.sleep(0.25)
        yield address
    finally:
        process.terminate()
        process.wait(timeout=20)


@pytest.mark.slow
@pytest.mark.skipif(optimade_python() is None, reason="optimade[server] is not installed")
def test_reference_server_of_optimade() -> None:
    """The standard's own implementation with its own 17 test structures."""
    with reference_server() as address:
        whole = list(fetch_optimade(address, page=5, client=QUICK))
        binary = list(fetch_optimade(address, "nelements=2", client=QUICK))
        with pytest.raises(DiskernError, match="400"):
            list(fetch_optimade(address, "nonsense ===", client=QUICK))
    assert len(whole) == 17
    assert len(binary) == 2
    assert len({e.identifier for e in whole}) == 17
    # Most of its structures are scrambled on purpose: all atoms in one place.
    assert all("apart" in e.reason or "volume" in e.reason for e in whole if isinstance(e, Refusal))


# --- Materials Project --------------------------------------------------------------------------
def mp_entry(name: str, crystal: Crystal) -> dict[str, Any]:
    symbols = [crystal.elements[i] for i in np.unique(crystal.numbers, return_inverse=True)[1]]
    sites = [
        {"species": [{"element": s, "occu": 1}], "abc": p}
        for s, p in zip(symbols, crystal.fractional.tolist(), strict=True)
    ]
    return {
        "material_id": name,
        "structure": {"lattice": {"matrix": crystal.lattice.tolist()}, "sites": sites},
        "symmetry": {"number": 227},
        "energy_above_hull": 0.0,
    }


def mp_server(request: Request, before: int) -> Answer:
    if request.headers.get("X-Api-Key", request.headers.get("X-API-KEY")) != "k-123":
        return as_json({"detail": "no key"}, 401)
    skip, limit = int(request.query["_skip"]), int(request.query["_limit"])
    everything = [mp_entry(f"mp-{i}", phase(n)) for i, n in enumerate(["Si", "Ge", "NaCl", "Al"])]
    everything.append({"material_id": "mp-bad", "structure": None})
    return as_json({"data": everything[skip : skip + limit]})


def test_materials_project_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MP_API_KEY", "k-123")
    query = Query(elements=["Si"], hull=0.1, space_groups=[227])
    with serving(mp_server) as log:
        found = list(fetch_materials_project(query, page=2, client=QUICK, address=log.address))
        first = log.requests[0].query
        assert len(log.requests) == 3
    assert (first["elements"], first["energy_above_hull_max"]) == ("Si", "0.1")
    assert first["spacegroup_number"] == "227"
    assert [e.identifier for e in found] == ["mp-0", "mp-1", "mp-2", "mp-3", "mp-bad"]
    assert isinstance(found[-1], Refusal)
    record = found[0]
    assert isinstance(record, Record)
    assert "CC BY 4.0" in record.attribution
    assert record.facts == {"energy_above_hull": 0.0, "space_group": 227}
    assert record.crystal.symmetry().number == 227


def test_materials_project_needs_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MP_API_KEY", raising=False)
    with pytest.raises(DiskernError, match="MP_API_KEY"):
        next(fetch_materials_project(Query()))
    monkeypatch.setenv("MP_API_KEY", "wrong")
    with serving(mp_server) as log, pytest.raises(DiskernError, match="401") as caught:
        next(fetch_materials_project(Query(), client=QUICK, address=log.address))
    assert "wrong" not in str(caught.value)


@pytest.mark.parametrize(
    "query", [Query(elements=["Zz"]), Query(hull=-1.0), Query(space_groups=[0])]
)
def test_impossible_queries(query: Query, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MP_API_KEY", "k")
    with pytest.raises(DiskernError):
        next(fetch_materials_project(query, address="http://127.0.0.1:1"))


# --- AFLOW and keeping ---------------------------------------------------------------------------
def test_aflow_table(tmp_path: Path) -> None:
    snl = mp_entry("x", phase("NaCl"))["structure"]
    rows = [
        {"snl": snl, "tags": {"aflow": "AB_cF8_225_a_b", "mineral": "Halite"}},
        {"snl": {}, "tags": {"aflow": "broken"}},
    ]
    path = tmp_path / "t.json.gz"
    path.write_bytes(gzip.compress(json.dumps(rows).encode()))
    good, bad = aflow_prototypes(path)
    assert isinstance(good, Record)
    assert good.crystal.name == "NaCl (Halite)"
    assert isinstance(bad, Refusal)
    path.write_bytes(b"junk")
    with pytest.raises(DiskernError, match="no table"):
        list(aflow_prototypes(path))


@pytest.mark.skipif(find_spec("pymatgen") is None, reason="pymatgen is not installed")
def test_installed_aflow_prototypes() -> None:
    assert len(list(records_of(aflow_prototypes()))) == 288


def test_kept_records_carry_their_attribution(tmp_path: Path) -> None:
    record = Record(phase("Si"), "mp-149", "mp", "http://x", "CC BY 4.0", {"energy": 0.0})
    entries = [record, Refusal("mp-2", "no"), record]
    count, refused = keep_records(entries, tmp_path)
    assert (count, len(refused)) == (2, 1)
    kept = json.loads((tmp_path / ATTRIBUTION).read_text(encoding="utf-8"))
    assert kept["Si_mp_mp-149.cif"]["attribution"] == "CC BY 4.0"
    again = read_folder(tmp_path).records
    assert len(again) == 1
    assert again[0].crystal.symmetry().number == 227


def test_interrupted_keeping_keeps_attributions(tmp_path: Path) -> None:
    def torn() -> Iterator[Record]:
        yield Record(phase("Si"), "a", "p", attribution="one")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        keep_records(torn(), tmp_path)
    keep_records([Record(phase("Al"), "b", "p", attribution="two")], tmp_path)
    kept = json.loads((tmp_path / ATTRIBUTION).read_text(encoding="utf-8"))
    assert len(kept) == 2
