"""Write what is generated from the table of options into the files that have it: ``make reference``."""

from pathlib import Path

from wsrelay.cli import reference

ROOT = Path(__file__).resolve().parent.parent

#: File → the text between its markers.
GENERATED = {
    "docs/options.md": reference.markdown,
    "docs/reliability.md": reference.limits,
    "man/twistd-wsrelay.1": reference.man_page,
}

if __name__ == "__main__":
    for name, generate in GENERATED.items():
        file = ROOT / name
        file.write_text(reference.spliced(file.read_text("utf-8"), generate()), "utf-8")
