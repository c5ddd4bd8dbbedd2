"""The layers of docs/DESIGN.md: imports point down only, and every module has its test module."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import wsrelay

PACKAGE = Path(wsrelay.__file__).parent
TESTS = Path(__file__).parent

#: Packages and root modules, top to bottom: each imports only from rows below its own.
ROWS = [
    ["__main__"],
    ["commands"],
    ["selftest"],
    ["tap"],
    ["process"],
    ["service"],
    ["admin"],
    ["factory"],
    ["connection", "cli"],
    ["backplane", "limits"],
    ["rooms", "validators", "http"],
    ["logs"],
    ["interfaces", "settings"],
    ["request", "grant", "message", "net", "setting_groups"],
    ["option", "policies", "wanted"],
    ["message_id", "names", "closecodes", "ranges", "signals", "stats", "text"],
    ["errors", "wire"],
]

#: No Twisted, no Autobahn, no clock, no I/O.
PURE = {
    "closecodes",
    "errors",
    "grant",
    "interfaces",
    "limits",
    "message",
    "message_id",
    "names",
    "option",
    "policies",
    "request",
    "rooms",
    "settings",
    "stats",
    "text",
    "wanted",
    "wire",
}
IMPURE_IMPORTS = {
    "twisted",
    "autobahn",
    "txaio",
    "time",
    "datetime",
    "os",
    "socket",
    "select",
    "asyncio",
    "logging",
    "threading",
    "random",
}


def modules() -> dict[str, Path]:
    """Return module name → file, without the packages' own."""
    files = {".".join(path.relative_to(PACKAGE).with_suffix("").parts): path for path in PACKAGE.rglob("*.py")}
    return {name: path for name, path in files.items() if not name.endswith("__init__")}


def imports(path: Path) -> set[str]:
    """Return all that a file imports, wherever the import stands, as full dotted names."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def wsrelay_imports(path: Path) -> set[str]:
    """Return the modules of ours that a file imports."""
    names = modules()
    found = set()
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "wsrelay":
            found |= {".".join(parts[1:end]) for end in (2, 3, 4)} & set(names)
    return found


def top(module: str) -> str:
    """Return the package of a module, or its own name where it is in the root."""
    return module.partition(".")[0]


def row_of(module: str) -> int:
    """Return the number of the row that has a module."""
    return next(number for number, row in enumerate(ROWS) if top(module) in row)


class LayeringTests(SynchronousTestCase):
    """The rows are what the imports say."""

    def test_every_row_exists(self) -> None:
        """Each package and root module is in one row."""
        self.assertEqual(sorted({top(name) for name in modules()}), sorted(name for row in ROWS for name in row))

    def test_arrows_point_down(self) -> None:
        """No package imports from its own row or from above."""
        for name, path in modules().items():
            for imported in wsrelay_imports(path):
                if top(imported) != top(name):
                    self.assertGreater(row_of(imported), row_of(name), f"{name} imports {imported}")

    def test_no_circles(self) -> None:
        """Modules of one package do not import each other in a circle."""
        graph = {name: wsrelay_imports(path) for name, path in modules().items()}
        TopologicalSorter(graph).prepare()  # raises CycleError

    def test_the_core_does_no_io(self) -> None:
        """The pure packages, and all of ours that they import, import no twisted, no autobahn, no clock and no I/O."""
        paths = modules()
        reached = {name for name in paths if top(name) in PURE}
        waiting = list(reached)
        while waiting:
            found = wsrelay_imports(paths[waiting.pop()]) - reached
            reached |= found
            waiting.extend(found)
        for name in reached:
            tops = {imported.split(".")[0] for imported in imports(paths[name])}
            self.assertEqual(tops & IMPURE_IMPORTS, set(), name)
            self.assertNotIn("open(", paths[name].read_text("utf-8"))

    def test_every_module_has_its_tests(self) -> None:
        """Each module has a test module of the same name in the same place."""
        for name in modules():
            *folders, module = name.split(".")
            self.assertTrue(TESTS.joinpath(*folders, f"test_{module}.py").exists(), name)

    def test_packages_are_docstrings(self) -> None:
        """The packages' own files have no code but __all__ and the version."""
        for path in PACKAGE.rglob("__init__.py"):
            for node in ast.parse(path.read_text("utf-8")).body:
                self.assertIsInstance(node, (ast.Expr, ast.Assign), str(path))

    def test_every_test_says_what_it_shows(self) -> None:
        """Each test has a docstring that is a sentence."""
        for path in TESTS.rglob("test_*.py"):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                    self.assertRegex(ast.get_docstring(node) or "", r"[.)?]$", f"{path.name}: {node.name}")

    def test_files_stay_readable(self) -> None:
        """No file passes 400 lines, no function body 30; most are far below."""
        for name, path in modules().items():
            text = path.read_text("utf-8")
            self.assertLessEqual(text.count("\n"), 400, name)
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                    body = node.body[1:] if ast.get_docstring(node) else node.body
                    if body:
                        length = (body[-1].end_lineno or 0) - body[0].lineno + 1
                        self.assertLessEqual(length, 30, f"{name}.{node.name}")
