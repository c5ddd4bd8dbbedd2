"""Write what is made from the table of options into the files that have it: ``make reference``."""

from pathlib import Path

from wsrelay.cli import reference

ROOT = Path(__file__).resolve().parent.parent

#: File → what stands between its markers.
MADE = {"docs/options.md": reference.markdown, "man/twistd-wsrelay.1": reference.man_page}

if __name__ == "__main__":
    for name, made in MADE.items():
        file = ROOT / name
        file.write_text(reference.spliced(file.read_text("utf-8"), made()), "utf-8")
