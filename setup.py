"""What setup.cfg cannot say: the description with its links, and the optional extension module.

Without a compiler or Python's headers the installation goes on without the module, and the relay runs as pure Python.
With WSRELAY_PURE=1 in the environment it is not tried: for a wheel for all platforms (py3-none-any).
"""

import os
import re
import runpy
import sysconfig
from configparser import ConfigParser
from pathlib import Path

from setuptools import Extension, setup

HERE = Path(__file__).parent
SETTINGS = ConfigParser(interpolation=None)
SETTINGS.read(HERE / "setup.cfg", "utf-8")

#: The repository, which is written in setup.cfg alone, and the tag of this release.
REPOSITORY = SETTINGS["metadata"]["url"]
TAG = "v" + runpy.run_path(str(HERE / "wsrelay" / "__init__.py"))["__version__"]

LINKS = {
    "Documentation": f"{REPOSITORY}/blob/{TAG}/docs/index.md",
    "Source": REPOSITORY,
    "Issues": f"{REPOSITORY}/issues",
    "Changelog": f"{REPOSITORY}/blob/{TAG}/CHANGELOG.md",
}

#: One build for Python 3.11 and later; free-threaded builds have no stable ABI, and therefore no extension.
PURE = bool(os.environ.get("WSRELAY_PURE") or sysconfig.get_config_var("Py_GIL_DISABLED"))

NATIVE = Extension(
    "wsrelay._native",
    ["wsrelay/_native.c"],
    extra_compile_args=["-O3", "-std=c11", "-Wall", "-Wextra"],
    optional=True,
    py_limited_api=True,
)


def with_absolute_links(page: str) -> str:
    """Return a markdown page with links to the repository instead of relative ones, which lead nowhere on an index."""
    return re.sub(
        r"(!?)(\[[^]]*\]\()(?![a-z]+:|#)",
        lambda link: f"{link[1]}{link[2]}{REPOSITORY}/{'raw' if link[1] else 'blob'}/{TAG}/",
        page,
    )


setup(
    long_description=with_absolute_links((HERE / "README.md").read_text("utf-8")),
    long_description_content_type="text/markdown",
    project_urls=LINKS,
    ext_modules=[] if PURE else [NATIVE],
    options={} if PURE else {"bdist_wheel": {"py_limited_api": "cp311"}},
)
