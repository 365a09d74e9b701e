"""Engine files: a compiled model on disk, made by `Model.save` and read by `stepwell.load`.

`container` is the file as numbered, checked sections; `records` reads the metadata without trusting it; `model` turns
models into files and back. What a CPU program consists of is said in `stepwell.backends.cpu.executable`."""

from __future__ import annotations
