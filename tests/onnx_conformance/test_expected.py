"""The gate: what becomes of a case is what has to become of it, or the tests and the command fail."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import pytest

import stepwell
from stepwell.errors import IRError, ModelError
from tests.onnx_conformance import __main__ as command
from tests.onnx_conformance.cases import CRASH, HANG, HOST, INTERNAL, OK, REFUSED, SPECIALISED, WRONG, Outcome
from tests.onnx_conformance.expected import EXEMPTIONS, NO_PYTHON, UNREACHABLE, surprise, surprises
from tests.onnx_conformance.suite import WAYS, items, outcome
from tests.onnx_conformance.test_suite import check

DFT = "test_dft_inverse"


def made(name: str, kind: str) -> Outcome:
    return Outcome(name, "(an operator)", kind, "a reason")


@pytest.mark.parametrize("kind", [OK, HOST, SPECIALISED])
@pytest.mark.parametrize("mode", WAYS)
def test_what_runs_is_expected(kind: str, mode: str) -> None:
    assert surprise(made("test_add", kind), mode) == ""


@pytest.mark.parametrize("kind", [WRONG, REFUSED, INTERNAL, CRASH, HANG])
@pytest.mark.parametrize("mode", WAYS)
def test_nothing_else_is(kind: str, mode: str) -> None:
    assert surprise(made("test_add", kind), mode) == f"test_add is {kind} ({mode}): a reason"


@pytest.mark.parametrize(
    ("name", "mode", "kind", "said"),
    [
        (DFT, "symbolic", WRONG, ""),
        (DFT, "misfits", WRONG, ""),
        (DFT, "given", WRONG, f"{DFT} is wrong"),
        (DFT, "constant", WRONG, f"{DFT} is wrong"),
        (DFT, "symbolic", OK, f"{DFT} runs"),
        (DFT, "symbolic", REFUSED, f"{DFT} is refused"),
        ("test_loop16_seq_none", "given", INTERNAL, ""),
        ("test_loop16_seq_none", "given", WRONG, "test_loop16_seq_none is wrong"),
        ("test_loop16_seq_none", "given", OK, "test_loop16_seq_none runs"),
        ("test_bernoulli", "given", WRONG, ""),
        ("test_bernoulli", "given", OK, ""),  # by chance
        ("test_bernoulli", "given", REFUSED, "test_bernoulli is refused"),
        ("test_bernoulli_seed", "given", OK, "test_bernoulli_seed runs"),
    ],
)
def test_exemptions_hold_for_one_kind_in_their_modes(name: str, mode: str, kind: str, said: str) -> None:
    found = surprise(made(name, kind), mode)
    assert found.startswith(said) if said else found == ""


@pytest.mark.parametrize(
    ("operator", "reason", "emulated", "is_expected"),
    [
        ("StringConcat 20", f"TargetError: {NO_PYTHON}, which calls functions of it", True, True),
        ("StringConcat 20", f"TargetError: {NO_PYTHON}, which calls functions of it", False, False),
        ("StringConcat 20", "TargetError: another reason", True, False),
        ("Add 14", f"TargetError: {NO_PYTHON}, which calls functions of it", True, False),
    ],
)
def test_what_calls_the_host_is_refused_where_it_is_emulated(
    operator: str, reason: str, emulated: bool, is_expected: bool
) -> None:
    refused = Outcome("test_string_concat", "StringConcat", REFUSED, reason, (operator,))
    assert (surprise(refused, "given", emulated) == "") is is_expected


def test_a_case_without_an_outcome_is_reported() -> None:
    assert surprises(["test_add", "test_sub"], [made("test_add", OK)], "given") == ["test_sub has no outcome (given)"]


def test_the_list_names_cases_and_modes_that_there_are() -> None:
    assert set(EXEMPTIONS) <= set(items())
    assert set().union(*(listed.modes for listed in EXEMPTIONS.values())) <= set(WAYS)
    assert len(UNREACHABLE) == 7


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch) -> Callable[[Exception], None]:
    """Makes every compilation raise an error."""

    def by(error: Exception) -> None:
        def compile_(*args: object, **options: object) -> None:
            raise error

        monkeypatch.setattr(stepwell, "compile", compile_)

    return by


@pytest.mark.parametrize(
    ("error", "kind"),
    [(ModelError("no"), REFUSED), (IRError("out of a lowering"), INTERNAL), (KeyError("no"), INTERNAL)],
)
def test_a_compilation_that_fails_makes_the_test_of_a_case_fail(
    refusing: Callable[[Exception], None], error: Exception, kind: str
) -> None:
    refusing(error)
    assert outcome("test_add").kind == kind
    with pytest.raises(pytest.fail.Exception, match=f"test_add is {kind}"):
        check("test_add", "given")


def test_a_refusal_is_not_the_flaw_that_an_unreachable_case_has(refusing: Callable[[Exception], None]) -> None:
    refusing(ModelError("no"))
    with pytest.raises(pytest.fail.Exception, match="test_bernoulli is refused"):
        check("test_bernoulli", "given")


@pytest.mark.parametrize(
    ("mode", "kinds", "status"),
    [
        ("given", {"test_add": OK, "test_bernoulli": WRONG}, 0),
        ("given", {"test_add": REFUSED, "test_bernoulli": WRONG}, 1),
        ("given", {"test_add": OK, DFT: WRONG}, 1),
        ("symbolic", {"test_add": OK, DFT: WRONG}, 0),
        ("symbolic", {"test_add": OK, DFT: OK}, 1),
    ],
)
def test_the_commands_status(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], mode: str, kinds: dict[str, str], status: int
) -> None:
    def swept(names: Sequence[str], jobs: int, options: Sequence[str] = ()) -> Iterator[Outcome]:
        return (made(name, kind) for name, kind in kinds.items())

    monkeypatch.setattr(command, "items", lambda: dict.fromkeys(kinds))
    monkeypatch.setattr(command, "sweep", swept)
    assert command.main(["--mode", mode]) == status
    assert ("not as expected" in capsys.readouterr().out) is bool(status)
