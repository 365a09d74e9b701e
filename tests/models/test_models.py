"""Small models are accepted: what `python -m tests.models.accept` asks of all of them, here of those that are quick."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import stepwell
from stepwell.backends.cpu.team import Team
from tests.models import light
from tests.models.accept import fill
from tests.models.checks import CHECKS, THREADS
from tests.models.subject import Subject, same_bits

STATIC, DYNAMIC = ("digits_cnn", "mlp_b64", "lstm_2x256_s64"), ("llama_decode_dyn",)


@pytest.fixture(scope="module", params=[*STATIC, *DYNAMIC])
def subject(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subject]:
    path: Path = tmp_path_factory.mktemp("models") / f"{request.param}.onnx"
    fill(request.param, path)
    usual = Team.get().size
    yield Subject.read(path)
    Team.get(threads=usual)
    path.unlink()


@pytest.mark.parametrize("check", ["right", "precise", "threads", "runs", "sizes", "memory", "targets"])
def test_accepted(subject: Subject, check: str) -> None:
    if check == "targets" and subject.usual_sizes:
        pytest.skip("three more compilations of a second each: the command makes them")
    finding = CHECKS[check](subject)
    assert finding.status == ("skip" if check == "sizes" and not subject.usual_sizes else "pass"), finding.detail


def test_the_same_bits_from_compilations_for_other_teams(subject: Subject) -> None:
    if subject.usual_sizes:
        pytest.skip("compiles in a second, not in a moment: four times would be long")
    feeds, first = subject.typical, subject.results()
    for count in THREADS:
        model = stepwell.compile(subject.path, threads=count)
        found = model.run(feeds)
        assert same_bits(first, [found[port.name] for port in model.outputs]) is None


def test_a_light_model_gives_the_outputs_that_onnx_expects() -> None:
    case = light.case_of("light_squeezenet")
    assert case is not None
    assert case.difference(stepwell.compile(case.path)) is None
