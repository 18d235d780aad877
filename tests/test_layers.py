"""The shape of the house: who may import whom, and how large anything may grow."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from statistics import median

SOURCE = Path(__file__).resolve().parents[1] / "src" / "diskern"
LAYERS = {
    **dict.fromkeys(("_version", "physics", "errors"), 0),
    **dict.fromkeys(("crystal", "io", "compute"), 1),
    **dict.fromkeys(("simulate", "nets", "patterns"), 2),
    "bragg": 3,
    **dict.fromkeys(("symmetry", "mapping", "train"), 4),
    "report": 5,
    **dict.fromkeys(("cli", "web", "adapters"), 6),
}
MODULE_LINES, FUNCTION_LINES, MEDIAN_LINES = 600, 80, 150
FORBIDDEN_CALLS = {"print", "eval", "exec"}
FORBIDDEN_IMPORTS = {"pickle", "dill", "joblib"}
LAZY_ONLY = {"matplotlib"}
"""Imported inside functions only: no module may cost a plot library before it plots."""

MODULES = sorted(SOURCE.rglob("*.py"))
Function = ast.FunctionDef | ast.AsyncFunctionDef


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


@cache
def nodes() -> tuple[tuple[str, ast.AST], ...]:
    """(place, node) of everything in the package."""
    return tuple(
        (f"{name}:{getattr(node, 'lineno', 0)}", node)
        for path in MODULES
        for name in [path.relative_to(SOURCE)]
        for node in ast.walk(tree_of(path))
    )


def room_of(module: str) -> str:
    """First folder or module below the package, ``""`` for the package itself."""
    return module.split(".")[1] if "." in module else ""


def module_of(path: Path) -> str:
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def own_imports() -> Iterator[tuple[str, str, str, str]]:
    """(importing room, imported module, name, place) within the package."""
    for path in MODULES:
        room = room_of(module_of(path))
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.ImportFrom):
                assert not node.level, f"{path}:{node.lineno}: imports are absolute"
                found = [(node.module or "", alias.name) for alias in node.names]
            elif isinstance(node, ast.Import):
                found = [(alias.name, "") for alias in node.names]
            else:
                continue
            for module, name in found:
                if module.split(".")[0] == "diskern":
                    yield room, module, name, f"{path.relative_to(SOURCE)}:{node.lineno}"


def test_every_room_is_in_a_layer() -> None:
    rooms = {room_of(module_of(path)) for path in MODULES} - {""}
    assert rooms <= LAYERS.keys(), "add the room to the architecture page and to LAYERS"


def test_arrows_point_downwards() -> None:
    wrong = []
    for room, module, name, place in own_imports():
        target = room_of(module) or (name if name in LAYERS else "_version")
        if room and LAYERS[target] > LAYERS[room]:
            wrong.append(f"{place}: {room} imports {module} from a higher layer")
    assert not wrong


def test_private_names_stay_in_their_room() -> None:
    """Names with an underscore stay in their module, such modules in their room."""
    wrong = []
    for room, module, name, place in own_imports():
        private_name = name.startswith("_") and not name.startswith("__")
        is_module = (SOURCE.parent / module.replace(".", "/") / f"{name}.py").exists()
        if private_name and not (is_module and room_of(module) == room):
            wrong.append(f"{place}: takes {module}.{name}")
        hidden = any(part.startswith("_") for part in module.split(".")[1:])
        if hidden and room_of(module) not in {room, "_version"}:
            wrong.append(f"{place}: reaches into {module}")
    assert not wrong


def test_no_star_import_no_print_no_bare_except() -> None:
    wrong = []
    for place, node in nodes():
        star = isinstance(node, ast.ImportFrom) and any(a.name == "*" for a in node.names)
        called = (
            node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""
        )
        bare = isinstance(node, ast.ExceptHandler) and node.type is None
        if star or bare or called in FORBIDDEN_CALLS:
            wrong.append(f"{place}: {called or ('star import' if star else 'bare except')}")
    assert not wrong


def imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name.split(".")[0] for alias in node.names]
    return [(node.module or "").split(".")[0]] if isinstance(node, ast.ImportFrom) else []


def test_no_pickle() -> None:
    assert not [place for place, node in nodes() if FORBIDDEN_IMPORTS & set(imported(node))]


def test_plotting_is_imported_where_it_is_used() -> None:
    wrong = [
        f"{path.relative_to(SOURCE)}:{node.lineno}"
        for path in MODULES
        for node in tree_of(path).body
        if LAZY_ONLY & set(imported(node))
    ]
    assert not wrong


def test_functions_stay_short() -> None:
    wrong = []
    for place, node in nodes():
        if isinstance(node, Function):
            body = node.body[1:] if ast.get_docstring(node) and len(node.body) > 1 else node.body
            length = (node.end_lineno or 0) - body[0].lineno + 1
            if length > FUNCTION_LINES:
                wrong.append(f"{place}: {node.name} has {length} lines")
    assert not wrong


def test_modules_stay_short() -> None:
    lengths = {str(p.relative_to(SOURCE)): len(p.read_text("utf-8").splitlines()) for p in MODULES}
    assert not {name: n for name, n in lengths.items() if n > MODULE_LINES}
    assert median(lengths.values()) <= MEDIAN_LINES


def test_public_names_are_documented() -> None:
    wrong = [
        f"{path.relative_to(SOURCE)}" for path in MODULES if not ast.get_docstring(tree_of(path))
    ]
    for path in MODULES:
        for node in tree_of(path).body:
            named = isinstance(node, Function | ast.ClassDef) and not node.name.startswith("_")
            if named and not ast.get_docstring(node):
                wrong.append(f"{path.relative_to(SOURCE)}:{node.lineno}: {node.name}")
    assert not wrong


def test_no_mutable_defaults() -> None:
    wrong = []
    for place, node in nodes():
        if isinstance(node, Function | ast.Lambda):
            defaults = [*node.args.defaults, *node.args.kw_defaults]
            if any(isinstance(d, ast.List | ast.Dict | ast.Set) for d in defaults):
                wrong.append(place)
    assert not wrong


def test_every_room_has_tests() -> None:
    rooms = {path.parent.name for path in MODULES if path.parent.parent == SOURCE}
    rooms = {r for r in rooms if any(p.name != "__init__.py" for p in (SOURCE / r).glob("*.py"))}
    tested = {p.name for p in Path(__file__).parent.iterdir() if any(p.glob("test_*.py"))}
    assert rooms <= tested
