"""The garbage collector stands still while a model is compiled, and no longer."""

from __future__ import annotations

import gc

import pytest

from stepwell.collector import paused_collector


def test_it_runs_again_after_the_last_pause() -> None:
    with paused_collector():
        assert not gc.isenabled()
        with paused_collector():
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled()


def test_it_runs_again_after_an_error() -> None:
    with pytest.raises(ZeroDivisionError), paused_collector():
        raise ZeroDivisionError
    assert gc.isenabled()


def test_a_collector_that_was_off_stays_off() -> None:
    gc.disable()
    try:
        with paused_collector():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_what_stays_is_old_at_once() -> None:
    gc.collect()
    with paused_collector(lasting=True):
        made: list[object] = [[] for _ in range(3)]
    assert gc.isenabled() and gc.get_freeze_count() == 0
    assert any(one is made for one in gc.get_objects(generation=2))


def test_what_others_have_frozen_stays_frozen() -> None:
    gc.freeze()
    try:
        frozen = gc.get_freeze_count()
        with paused_collector(lasting=True):
            pass
        assert gc.get_freeze_count() == frozen > 0
    finally:
        gc.unfreeze()
