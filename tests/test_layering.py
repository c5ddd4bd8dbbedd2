"""The layers of docs/DESIGN.md: imports point down only, and every module has its test module."""

import ast
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import wsrelay

PACKAGE = Path(wsrelay.__file__).parent
TESTS = Path(__file__).parent

#: Top to bottom; a module may import from rows below its own and from its own row's left.
LAYERS = [
    ["tap"],
    ["service"],
    ["web.admin"],
    ["web.views"],
    ["web.routes", "web.metrics", "web.canary"],
    ["web.clients"],
    ["web.gate"],
    ["web.guard"],
    ["net.endpoints"],
    ["factory"],
    ["sweep", "web.public"],
    ["web.page", "web.exchange"],
    ["backplane.local", "protocol"],
    ["autobahn_options"],
    ["event_stream"],
    ["plain_http"],
    ["opening"],
    ["intake"],
    ["keepalive"],
    ["connection"],
    ["relay", "cli.completion"],
    [
        "drain",
        "logs.lines",
        "net.descriptors",
        "validators.plugins",
        "autobahn_protocol",
        "deflate",
        "announcement",
        "cli.check_config",
        "logs.observers",
    ],
    [
        "validators.origin",
        "validators.token",
        "validators.rooms",
        "validators.subprotocol",
        "validators.host",
        "validators.http",
        "validators.python",
    ],
    ["validators.arguments", "validators.backend", "validators.keys", "handshake"],
    ["logs.failures"],
    # --- below this line: no twisted, no autobahn, no clock, no I/O ---
    ["limits.memory", "cli.reference"],
    ["rooms.hub", "limits.admission", "cli.options"],
    ["rooms.scheduler"],
    ["rooms.room"],
    ["rooms.publishers", "rooms.subscribers"],
    ["rooms.log", "rooms.age"],
    ["rooms.audience", "rooms.batch", "rooms.cursors"],
    ["interfaces"],
    ["limits.rates", "canary"],
    ["request", "grant", "settings"],
    ["slow", "by_room"],
    ["wire.sse", "message", "names", "net.proxies", "head", "cli.option_limits"],
    ["stats"],
    ["wire.frames", "closecodes", "errors", "histogram", "cli.option", "status", "tally"],
]
PURE = {name for row in LAYERS[LAYERS.index(["limits.memory", "cli.reference"]) :] for name in row}
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


class LayeringTests(SynchronousTestCase):
    """The map is right."""

    def test_every_module_has_its_place(self) -> None:
        """A new module is put into the map."""
        self.assertEqual(sorted(modules()), sorted(name for row in LAYERS for name in row))

    def test_arrows_point_down(self) -> None:
        """No module imports from its own row or from above."""
        height = {name: number for number, row in enumerate(LAYERS) for name in row}
        for name, path in modules().items():
            for imported in wsrelay_imports(path):
                self.assertGreater(height[imported], height[name], f"{name} imports {imported}")

    def test_the_core_does_no_io(self) -> None:
        """Below the line there is no twisted, no autobahn, no clock and no I/O."""
        for name in PURE:
            tops = {imported.split(".")[0] for imported in imports(modules()[name])}
            self.assertEqual(tops & IMPURE_IMPORTS, set(), name)
            self.assertNotIn("open(", modules()[name].read_text("utf-8"))

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
