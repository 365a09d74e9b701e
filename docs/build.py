"""Brings the documentation up to date with the code: `python docs/build.py`, or `--check` to see whether it is.

Reference pages come from declarations (see reference.py). In the pages written by hand, and in README.md, a
comment says which command's output the fenced block below it shows:

    <!-- $ lower --to graph layer.onnx | from func.func | to func.return | cut 100 -->

With `!` in place of `$` the command is one that fails. `from` and `to` keep the lines from the first with one text to
the next with the other; `cut` shortens long lines. The commands of a page run in order, in a folder that holds nothing
but a link to examples/; a block that begins with ```` ```python file=NAME ```` is written there first. What LLVM prints
is compared for one version only: `llvm=22` among the filters."""

from __future__ import annotations

import argparse
import contextlib
import difflib
import io
import os
import re
import runpy
import shlex
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

DOCS = Path(__file__).parent
ROOT = DOCS.parent
_COMMAND = re.compile(r"<!-- ([$!]) (.+?) -->$")
_FILE = re.compile(r"```python file=(\S+)$")


def written_pages() -> list[Path]:
    """The pages with commands: README.md and those under docs/ that no generator owns."""
    return [page for page in [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))] if "<!-- $ " in page.read_text()]


def rebuilt(text: str) -> str:
    """A page's text with every command's block made anew. Its commands run in the current folder."""
    lines, out = text.split("\n"), []
    at = 0
    while at < len(lines):
        line = lines[at]
        out.append(line)
        at += 1
        if named := _FILE.match(line):
            end = lines.index("```", at)
            Path(named[1]).write_text("\n".join(lines[at:end]) + "\n")
        elif command := _COMMAND.match(line):
            fence = lines[at]
            if not fence.startswith("```"):
                raise SystemExit(f"no fenced block follows {line}")
            end = lines.index("```", at + 1)
            made = shown(command[2], fails=command[1] == "!", with_command=fence == "```console")
            out += [fence, *(lines[at + 1 : end] if made is None else made)]
            at = end
    return "\n".join(out)


def shown(line: str, *, fails: bool, with_command: bool) -> list[str] | None:
    """What a block shows for a command with its filters; None: what it shows, as the LLVM at hand is another one."""
    command, *filters = (part.strip() for part in line.split(" | "))
    found = output_of(command, fails).rstrip("\n").split("\n")
    for text in filters:
        name, _, value = text.partition(" ")
        if name == "from":
            found = found[next(n for n, item in enumerate(found) if value in item) :]
        elif name == "to":
            found = found[: next(n for n, item in enumerate(found) if value in item) + 1]
        elif name == "cut":
            found = [item if len(item) <= int(value) else item[: int(value)] + " ..." for item in found]
        elif name.startswith("llvm="):
            if name != f"llvm={llvm_version()}":
                return None
        else:
            raise SystemExit(f"unknown filter {text!r} in {line!r}")
    return [f"$ {command}", *found] if with_command else found


def output_of(command: str, fails: bool = False) -> str:
    """What `lower` or `python FILE` prints, on both streams. Ends the build where it fails unlooked for."""
    program, *args = shlex.split(command)
    stream = io.StringIO()
    with contextlib.redirect_stdout(stream), contextlib.redirect_stderr(stream):
        if program == "lower":
            from stepwell import cli

            status = cli.main(args)
        elif program == "python":
            runpy.run_path(args[0], run_name="__main__")
            status = 0
        else:
            raise SystemExit(f"unknown command: {command}")
    if bool(status) != fails:
        raise SystemExit(f"{command} {'failed' if status else 'did not fail'}:\n{stream.getvalue()}")
    return stream.getvalue()


def llvm_version() -> int:
    """The major version of the LLVM below llvmlite."""
    from llvmlite import binding

    return int(binding.llvm_version_info[0])


@contextlib.contextmanager
def empty_folder() -> Iterator[None]:
    """A new current folder, for the commands of one page, with a link to the examples."""
    before = os.getcwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        os.symlink(ROOT / "examples", "examples")
        try:
            yield
        finally:
            os.chdir(before)


def changes(pages: Sequence[Path], reference: bool) -> Iterator[tuple[Path, str, str]]:
    """(page, its text, the text it should have) of the pages that are not current."""
    wanted = list(reference_pages()) if reference else []
    for page in pages:
        with empty_folder():
            wanted.append((page, rebuilt(page.read_text())))
    for page, text in wanted:
        current = page.read_text() if page.exists() else ""
        if current != text:
            yield page, current, text


def reference_pages() -> Iterator[tuple[Path, str]]:
    """(page, its text) of the pages that a generator owns, before any plug-in is loaded."""
    sys.path[:0] = [str(DOCS), str(ROOT)]
    import reference

    for name, text in reference.pages().items():
        yield DOCS / name, text


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pages", nargs="*", type=lambda text: Path(text).resolve(), help="default: all")
    parser.add_argument("--reference", action="store_true", help="the reference pages only")
    parser.add_argument("--check", action="store_true", help="write nothing; 1 where something is not current")
    args = parser.parse_args()
    pages = args.pages or ([] if args.reference else written_pages())
    found = list(changes(pages, args.reference or not args.pages))
    for page, current, text in found:
        if args.check:
            name = str(page.relative_to(ROOT) if page.is_relative_to(ROOT) else page)
            diff = difflib.unified_diff(current.split("\n"), text.split("\n"), name, "as the code says", lineterm="")
            print("\n".join(diff))
        else:
            page.parent.mkdir(parents=True, exist_ok=True)
            page.write_text(text)
            print(f"wrote {page.relative_to(ROOT)}")
    if args.check and found:
        print("the documentation is not current: run python docs/build.py")
    return int(args.check and bool(found))


if __name__ == "__main__":
    sys.exit(main())
