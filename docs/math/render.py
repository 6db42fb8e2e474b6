"""Renders formulas.txt to MathML: one `<name>.html` a formula, beside this file.

    pip install latex2mathml
    python docs/math/render.py

The results are committed, so that neither rustdoc nor mdBook needs a script or a network. Each is one
line, `<math display="block">…</math>`: Markdown passes HTML without blank lines through. Stale files are
removed.
"""

import re
from pathlib import Path

from latex2mathml.converter import convert

HERE = Path(__file__).parent


def formulas(text: str) -> dict[str, str]:
    """Names and LaTeX of the lines `name = LaTeX`."""
    found = {}
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        name, equals, latex = line.partition(" = ")
        if not equals or not re.fullmatch(r"[a-z]+", name):
            raise SystemExit(f"formulas.txt:{number}: expected `name = LaTeX`, found {line!r}")
        if name in found:
            raise SystemExit(f"formulas.txt:{number}: {name} is defined twice")
        found[name] = latex
    return found


def render(latex: str) -> str:
    """One line of MathML."""
    html = convert(latex, display="block").replace(' xmlns="http://www.w3.org/1998/Math/MathML"', "")
    # Entities as characters: rustdoc's front page and mdBook are UTF-8. `<` and `&` stay escaped.
    keep = {0x26, 0x3C, 0x3E}
    char = lambda m: m.group(0) if int(m.group(1), 16) in keep else chr(int(m.group(1), 16))
    html = re.sub(r"&#x([0-9A-Fa-f]+);", char, html)
    return " ".join(html.split())


def main() -> None:
    wanted = formulas((HERE / "formulas.txt").read_text(encoding="utf-8"))
    for stale in HERE.glob("*.html"):
        if stale.stem not in wanted:
            stale.unlink()
    for name, latex in wanted.items():
        # No newline at the end: an included file must not end in a blank line inside a table.
        (HERE / f"{name}.html").write_text(render(latex), encoding="utf-8")


if __name__ == "__main__":
    main()
