"""Check that a tag may become a release; say all that is wrong, and exit with 1.

``check_release.py TAG REPOSITORY``: the tag has the version, setup.cfg the repository's address, and the top of the
changelog the version and a day.
"""

import re
import runpy
import sys
from configparser import ConfigParser
from pathlib import Path


def complaints(root: Path, tag: str, repository: str) -> list[str]:
    """Return what is wrong, in words.

    Args:
        root: the checkout.
        tag: the name of the tag.
        repository: its address, which the links in the metadata and in the readme of an index begin with.
    """
    found = []
    version = runpy.run_path(str(root / "wsrelay" / "__init__.py"))["__version__"]
    if tag != f"v{version}":
        found.append(f"the tag is {tag}, but wsrelay/__init__.py says {version}")
    metadata = ConfigParser(interpolation=None)
    metadata.read(root / "setup.cfg", "utf-8")
    if metadata["metadata"]["url"] != repository:
        found.append(f"url in setup.cfg is {metadata['metadata']['url']}, but the repository is {repository}")
    top = re.search(r"^## (.*)$", (root / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    if not top or not re.fullmatch(rf"{re.escape(version)} - \d{{4}}-\d\d-\d\d", top[1]):
        found.append(f"the top of CHANGELOG.md is {top and top[1]!r}, not '{version} - YYYY-MM-DD'")
    return found


if __name__ == "__main__":
    said = complaints(Path(__file__).parent.parent, *sys.argv[1:3])
    print("\n".join(said) or "the tag, the address and the changelog agree")
    sys.exit(bool(said))
