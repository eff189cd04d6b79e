"""Measure how the code is structured: `python benchmarks/structure.py [ROOT]`.

Counts lines and files, finds the widest folder, the longest files, and import cycles among modules
and among folders. Reads the source with `ast` and imports nothing of it, so it also measures an
older checkout. Needs only the standard library.
"""

from __future__ import annotations

import argparse
import ast
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

PACKAGE = "regard"
# Top-level folders that map to `regard.<folder>`; `regard/` itself, where it exists, is the
# package.
FOLDERS = ("core", "photos", "models", "storage", "indexer", "search", "evaluation", "api")
_LONGEST = 10

Graph = Mapping[str, set[str]]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    here = Path(__file__).resolve().parents[1]
    parser.add_argument("root", nargs="?", type=Path, default=here, metavar="ROOT")
    root: Path = parser.parse_args().root
    code = read_sources(root, (PACKAGE, *FOLDERS))
    tests = read_sources(root, ("tests",))
    benchmarks = read_sources(root, ("benchmarks",))
    lengths = {path: count_lines(text) for path, text in code.items()}
    widest, width = Counter(path.parent for path in code).most_common(1)[0]
    modules = module_graph(code)
    folders = folder_graph(modules, {module_name(path) for path in code if is_package(path)})

    rows = [
        ("lines of code", sum(lengths.values())),
        ("lines of tests", sum(map(count_lines, tests.values()))),
        ("lines of benchmarks", sum(map(count_lines, benchmarks.values()))),
        ("files of code", len(code)),
        ("files of tests", len(tests)),
        ("median file, lines", f"{statistics.median(lengths.values()):g}"),
        ("widest folder, files", f"{width} ({widest})"),
        ("folders", len({path.parent for path in code})),
        ("imports between folders", sum(map(len, folders.values()))),
    ]
    for name, value in rows:
        print(f"{name:<26}{value}")
    for name, graph in (("modules", modules), ("folders", folders)):
        cycles = find_cycles(graph)
        print(f"{f'import cycles of {name}':<26}{len(cycles)}")
        for cycle in cycles:
            print(f"  {', '.join(cycle)}")
    print("longest files")
    for path, length in sorted(lengths.items(), key=lambda item: (-item[1], item[0]))[:_LONGEST]:
        print(f"  {length:>5}  {path}")


def read_sources(root: Path, folders: Iterable[str]) -> dict[Path, str]:
    """The text of every Python file below these folders of `root`, by its path relative to
    `root`."""
    return {
        path.relative_to(root): path.read_text(encoding="utf-8")
        for folder in folders
        for path in sorted((root / folder).rglob("*.py"))
    }


def count_lines(text: str) -> int:
    """All lines of a file, blank lines and comments included, as `wc -l` counts them."""
    return len(text.splitlines())


def is_package(path: Path) -> bool:
    """Whether a file is the `__init__.py` of a package."""
    return path.name == "__init__.py"


def module_name(path: Path) -> str:
    """The dotted import name of a source file: `core/words.py` is `regard.core.words`."""
    parts = path.with_suffix("").parts
    parts = parts if parts[0] == PACKAGE else (PACKAGE, *parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def module_graph(code: Mapping[Path, str]) -> dict[str, set[str]]:
    """Each module with the modules it imports, also those it imports inside functions.

    Imports under `if TYPE_CHECKING:` count: they do not run, but a reader has to follow them.
    """
    names = {module_name(path) for path in code}
    graph: dict[str, set[str]] = {}
    for path, text in code.items():
        name = module_name(path)
        package = name if is_package(path) else name.rpartition(".")[0]
        graph[name] = {
            target
            for node in ast.walk(ast.parse(text, str(path)))
            for target in _imported(node, package, names)
        } - {name}
    return graph


def _imported(node: ast.AST, package: str, names: set[str]) -> Iterable[str]:
    """The known modules that an import statement names; `from package import module` names the
    module."""
    if isinstance(node, ast.Import):
        candidates = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            parents = package.split(".")
            base = ".".join([*parents[: len(parents) - node.level + 1], *filter(None, [base])])
        candidates = [
            full if (full := f"{base}.{alias.name}") in names else base for alias in node.names
        ]
    else:
        return ()
    return (candidate for candidate in candidates if candidate in names)


def folder_graph(modules: Graph, packages: set[str]) -> dict[str, set[str]]:
    """The module graph with each module replaced by the folder it lies in.

    A folder stands for the modules directly in it, so a folder and its subfolder can form a cycle.
    """

    def folder(module: str) -> str:
        return module if module in packages else module.rpartition(".")[0]

    graph: dict[str, set[str]] = defaultdict(set)
    for module, targets in modules.items():
        graph[folder(module)] |= {folder(target) for target in targets} - {folder(module)}
    return graph


def find_cycles(graph: Graph) -> list[list[str]]:
    """Strongly connected components of more than one node, by Tarjan's algorithm (Tarjan 1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    on_stack: set[str] = set()
    components: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        on_stack.add(node)
        for target in sorted(graph.get(node, ())):
            if target not in index:
                visit(target)
                low[node] = min(low[node], low[target])
            elif target in on_stack:
                low[node] = min(low[node], index[target])
        if low[node] == index[node]:
            component = []
            while not component or component[-1] != node:
                component.append(stack.pop())
                on_stack.discard(component[-1])
            components.append(component)

    for node in sorted(graph):
        if node not in index:
            visit(node)
    return sorted(sorted(component) for component in components if len(component) > 1)


if __name__ == "__main__":
    main()
