"""The optional extension module; everything else is in setup.cfg.

Without a compiler or Python's headers the installation goes on without it, and the relay runs as pure Python. With
WSRELAY_PURE=1 in the environment it is not tried: for a wheel for all platforms (py3-none-any).
"""

import os
import sysconfig

from setuptools import Extension, setup

#: One build for Python 3.11 and later; free-threaded builds have no stable ABI, and therefore no extension.
PURE = bool(os.environ.get("WSRELAY_PURE") or sysconfig.get_config_var("Py_GIL_DISABLED"))

NATIVE = Extension(
    "wsrelay._native",
    ["wsrelay/_native.c"],
    extra_compile_args=["-O3", "-std=c11", "-Wall", "-Wextra"],
    optional=True,
    py_limited_api=True,
)

setup(
    ext_modules=[] if PURE else [NATIVE],
    options={} if PURE else {"bdist_wheel": {"py_limited_api": "cp311"}},
)
