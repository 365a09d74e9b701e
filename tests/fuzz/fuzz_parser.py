"""Mutation fuzzing of the parser, verifier and printer: `python -m tests.fuzz.fuzz_parser --seconds 600`.

Texts of the corpus are cut, spliced, repeated and sprinkled with tokens. Whatever comes out must parse or be refused by
a `StepwellError`; what parses must verify or be refused so; what verifies must survive printing and parsing. Anything
else is a crash: it is written to a folder, and belongs into the corpus once it is fixed."""

from __future__ import annotations

import argparse
import pathlib
import re
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from random import Random

from stepwell.errors import StepwellError
from stepwell.ir.parser import parse_module
from stepwell.ir.printer import PrintOptions, print_op
from stepwell.ir.verifier import verify

CORPUS = pathlib.Path(__file__).parent / "corpus"
_TOKEN = re.compile(
    r'"(?:[^"\\]|\\.)*"|[A-Za-z_][\w.$]*|[%^@#!][\w.$#-]+|-?\d+(?:\.\d*(?:e[-+]?\d+)?)?|->|\s+|.', re.DOTALL
)
_SPRINKLE = (
    "(", ")", "{", "}", "[", "]", "<", ">", ",", ":", "=", "->", "{-#", "#-}", "-", "*", "?", "%x", "%0", "%x#1",
    "^bb0", "@f", "#a", "!t", "#tensor.dims<[1]>", "!tensor.f4E2M1FN", "!x.y", "0x", "0xFFFFFFFFFF", "-1", "0", "1e",
    "1.5", "-0.0", "99999999999999999999", "tensor<", "tensor<4xf32>", "tensor<?xf32>", "memref<", "i1",
    "vector<4xf32>", "f32", "index", "none", "dense<", "dense_resource<r>", "affine_map<", "loc(", "unit", "true",
    "attributes", "iter", "//", "func.func", "func.return", "arith.constant", "loop.for", "tensor.generic", "xi8",
    "4x",
    '"', '"op"', '"\\', '"\\FF"', "dense<1> : tensor<2xi8>", "array<i8: 1>", "affine_map<(d0) -> (d0)>",
    'loc("a":1:2)', "\n", "\t", "\x00", "é", "\ud800",
)  # fmt: skip


def corpus() -> list[str]:
    """The committed texts, and the examples of all ops."""
    from tests.ir.samples import SAMPLES, all_ops, example_of

    files = [path.read_text(errors="surrogateescape") for path in sorted(CORPUS.glob("*.mlir"))]
    return [*files, *SAMPLES.values(), *map(example_of, all_ops())]


def mutate(rng: Random, texts: Sequence[str]) -> str:
    """A text of the corpus, changed in a few places."""
    tokens = _TOKEN.findall(rng.choice(texts))
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        rng.choice(_MUTATIONS)(rng, tokens, texts)
    text = "".join(tokens)
    return text[: rng.randrange(len(text) + 1)] if rng.random() < 0.05 else text


def _place(rng: Random, tokens: Sequence[str]) -> int:
    return rng.randrange(len(tokens) + 1)


def _span(rng: Random, tokens: Sequence[str]) -> slice:
    start = _place(rng, tokens)
    return slice(start, start + rng.choice((1, 1, 2, 4, 16)))


def _delete(rng: Random, tokens: list[str], texts: Sequence[str]) -> None:
    del tokens[_span(rng, tokens)]


def _repeat(rng: Random, tokens: list[str], texts: Sequence[str]) -> None:
    span = _span(rng, tokens)
    tokens[span] = tokens[span] * rng.choice((2, 2, 3, 200))


def _sprinkle(rng: Random, tokens: list[str], texts: Sequence[str]) -> None:
    tokens.insert(_place(rng, tokens), rng.choice(_SPRINKLE))


def _replace(rng: Random, tokens: list[str], texts: Sequence[str]) -> None:
    tokens[_span(rng, tokens)] = [rng.choice(_SPRINKLE)]


def _move(rng: Random, tokens: list[str], texts: Sequence[str]) -> None:
    span = _span(rng, tokens)
    cut = tokens[span]
    del tokens[span]
    place = _place(rng, tokens)
    tokens[place:place] = cut


def _splice(rng: Random, tokens: list[str], texts: Sequence[str]) -> None:
    other = _TOKEN.findall(rng.choice(texts))
    place = _place(rng, tokens)
    tokens[place:place] = other[_span(rng, other)]


def _kind(token: str) -> str:
    if token[0] in '%^@#!"':
        return token[0]
    if re.fullmatch(r"(?:tensor|memref|vector|index|none|[fi]\d+|bf16|[su]i\d+|x[fi]\d+)", token):
        return "type"
    return "number" if token[0].isdigit() else "word" if token[0].isalpha() else token


def _swap_alike(rng: Random, tokens: list[str], texts: Sequence[str]) -> None:
    """A name for a name, a number for a number, a type for a type: mostly still syntax, seldom still sense."""
    place = rng.choice([n for n, token in enumerate(tokens) if not token.isspace()] or [0])
    pool = tokens if rng.random() < 0.7 else _TOKEN.findall(rng.choice(texts))
    alike = [token for token in pool if tokens and _kind(token) == _kind(tokens[place])]
    if alike:
        tokens[place] = rng.choice(alike)


def _swap_within(rng: Random, tokens: list[str], texts: Sequence[str]) -> None:
    """One token takes the place of another of the same text: names, types, numbers in the wrong place."""
    words = [n for n, token in enumerate(tokens) if not token.isspace()]
    if words:
        tokens[rng.choice(words)] = tokens[rng.choice(words)]


_MUTATIONS: tuple[Callable[[Random, list[str], Sequence[str]], None], ...] = (
    _delete,
    _repeat,
    _sprinkle,
    _replace,
    _move,
    _splice,
    _swap_within,
    *[_swap_alike] * 14,
)


def check(text: str) -> str:
    """How a text ended: `refused`, `invalid` or `survived`. Raises whatever must not be raised."""
    try:
        module = parse_module(text, "fuzz")
    except StepwellError as error:
        str(error)
        return "refused"
    try:
        verify(module)
    except StepwellError as error:
        str(error)
        return "invalid"
    for generic in (False, True):
        options = PrintOptions(generic=generic, locations=True)
        printed = print_op(module, options)
        again = parse_module(printed, "printed")
        if print_op(again, options) != printed:
            raise AssertionError("printing and parsing changed the text")
    return "survived"


def run(seeds: range, texts: Sequence[str]) -> dict[str, int]:
    """Check one mutant per seed; returns how many ended how. A crash carries its text as a note."""
    counts = {"refused": 0, "invalid": 0, "survived": 0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for seed in seeds:
            text = mutate(Random(seed), texts)
            try:
                counts[check(text)] += 1
            except Exception as error:
                error.add_note(f"seed {seed}:\n{text}")
                raise
    return counts


def main(arguments: Sequence[str]) -> int:
    """Fuzz for a while; crashing texts go to a folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--crashes", type=pathlib.Path, default=pathlib.Path("fuzz-crashes"))
    options = parser.parse_args(arguments)
    texts, seed, crashes = corpus(), options.seed, set()
    end = time.monotonic() + options.seconds
    while time.monotonic() < end:
        try:
            run(range(seed, seed + 1), texts)
        except Exception as error:
            trace = error.__traceback__
            while trace is not None and trace.tb_next is not None:
                trace = trace.tb_next
            place = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace is not None else "?"
            if (type(error), place) not in crashes:
                crashes.add((type(error), place))
                options.crashes.mkdir(parents=True, exist_ok=True)
                text = mutate(Random(seed), texts)
                (options.crashes / f"{seed}.mlir").write_text(text, errors="surrogatepass")
                print(f"seed {seed}: {type(error).__name__}: {str(error)[:200]} at {place}")
        seed += 1
    print(f"{seed - options.seed} texts, {len(crashes)} kinds of crashes")
    return 1 if crashes else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
