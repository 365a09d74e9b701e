"""Objects on disk: found again, bounded, private, and never trusted beyond their checksum."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import stepwell
from stepwell.backends.cpu import cache as module
from stepwell.backends.cpu import jit, native, target
from stepwell.backends.cpu.cache import SHARDS, ObjectCache, default, object_key
from stepwell.engine import folder as folders

EXAMPLE = Path(__file__).parents[3] / "examples" / "digits_mlp.onnx"
TEXT = "define i64 @answer() {\n  ret i64 42\n}\n"
KEY, NEAR, FAR = "01" * 32, "01" + "02" * 31, "02" * 32  # the first two fall into one shard


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "kernels"


@pytest.fixture
def cache(folder: Path) -> ObjectCache:
    return ObjectCache.at(folder, SHARDS * 1000)


@pytest.fixture
def configured(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STEPWELL_CACHE", str(folder))
    return folder


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def name_of(key: str) -> str:
    return f"{module._shard(key)}/{key}"


def used(folder: Path, key: str, seconds_ago: float) -> None:
    """Set the time of an object's last use."""
    then = time.time() - seconds_ago
    os.utime(folder / name_of(key), (then, then))


def test_what_is_put_is_found(cache: ObjectCache, folder: Path) -> None:
    assert cache.get(KEY) is None
    cache.put(KEY, b"one")
    cache.put(NEAR, b"two")
    cache.put(KEY, b"one")
    assert (cache.get(KEY), cache.get(NEAR), cache.get(FAR)) == (b"one", b"two", None)
    assert ObjectCache.at(folder, 0).get(KEY) == b"one"


def test_damage_is_a_miss_and_goes(cache: ObjectCache, folder: Path) -> None:
    cache.put(KEY, b"an object")
    (path,) = files(folder)
    data = path.read_bytes()
    cases = [data[:size] for size in range(len(data))]
    cases += [data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :] for at in range(len(data))]
    for case in [*cases, data + b"\0"]:
        path.write_bytes(case)
        assert cache.get(KEY) is None and files(folder) == []
    cache.put(KEY, b"an object")
    assert cache.get(KEY) == b"an object"


def test_an_object_under_another_name_is_a_miss(cache: ObjectCache, folder: Path) -> None:
    cache.put(KEY, b"an object")
    files(folder)[0].rename(folder / name_of(NEAR))
    assert cache.get(NEAR) is None


def test_the_least_recently_used_go_first(cache: ObjectCache, folder: Path) -> None:
    keys = [f"{0:02x}{number:062x}" for number in range(4)]
    for age, key in enumerate(keys[:3]):
        cache.put(key, b"x" * 250)
        used(folder, key, 100 - age)
    assert cache.get(keys[0]) is not None  # and is the latest now
    cache.put(keys[3], b"x" * 250)
    assert [key for key in keys if cache.get(key)] == [keys[0], keys[2], keys[3]]


def test_the_folder_stays_within_its_size(cache: ObjectCache, folder: Path) -> None:
    for number in range(400):
        cache.put(f"{number % 7:02x}{number:062x}", b"x" * (number % 300))
    assert 3000 < sum(path.stat().st_size for path in files(folder)) <= 7 * 1000


def test_what_is_larger_than_a_shard_is_not_kept(cache: ObjectCache, folder: Path) -> None:
    cache.put(KEY, b"x" * 1001)
    assert files(folder) == []


def test_files_of_killed_writers_go_and_those_of_others_stay(cache: ObjectCache, folder: Path) -> None:
    cache.put(KEY, b"one")
    shard = (folder / name_of(KEY)).parent
    for name, age in [("dead.part", 2 * folders.STALE_SECONDS), ("alive.part", 1)]:
        (shard / name).write_bytes(b"half")
        os.utime(shard / name, (time.time() - age, time.time() - age))
    cache.put(NEAR, b"two")
    assert sorted(path.name for path in shard.iterdir()) == sorted([KEY, NEAR, "alive.part"])


MANY = """
import random, sys
from pathlib import Path
from stepwell.backends.cpu.cache import SHARDS, ObjectCache
cache = ObjectCache.at(Path(sys.argv[1]), SHARDS * 2000)
choose = random.Random(sys.argv[2])
found = 0
for _ in range(600):
    number = choose.randrange(20)
    key, image = f"{number % 2:02x}{number:062x}", bytes([number]) * (100 + 10 * number)
    have = cache.get(key)
    assert have in (None, image), have
    found += have is not None
    cache.put(key, image)
print(found)
"""


def test_several_processes_at_once(folder: Path) -> None:
    running = [
        subprocess.Popen([sys.executable, "-c", MANY, folder, str(seed)], stdout=subprocess.PIPE, text=True)
        for seed in range(4)
    ]
    assert all(int(process.communicate()[0]) > 0 and process.returncode == 0 for process in running)
    assert not [path for path in files(folder) if path.suffix == ".part"]
    assert sum(path.stat().st_size for path in files(folder)) <= 2 * 2000


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from stepwell.backends.cpu.cache import ObjectCache
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
cache = ObjectCache.at(Path(sys.argv[1]), 1 << 30)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
cache.put("01" * 32, b"x" * 5000)
print(cache.get("01" * 32))
"""


def test_a_full_disk_keeps_nothing(folder: Path) -> None:
    done = subprocess.run([sys.executable, "-c", FULL_DISK, folder], capture_output=True, text=True, check=False)
    assert done.stdout == "None\n", done.stderr
    assert files(folder) == []


# Whose folder it is


def test_the_folder_is_made_private(cache: ObjectCache, folder: Path) -> None:
    cache.put(KEY, b"one")
    paths = [folder, *folder.rglob("*")]
    assert {path.stat().st_mode & 0o777 for path in paths} == {0o700, 0o600}


@pytest.mark.parametrize("mode", [0o720, 0o702, 0o777, 0o1777])
def test_a_folder_that_others_may_write_to_is_not_used(configured: Path, mode: int) -> None:
    configured.mkdir()
    configured.chmod(mode)
    with pytest.warns(UserWarning, match="compiled code is not cached: others may write to the folder"):
        assert default() is None


def test_a_folder_of_another_user_is_not_used(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.mkdir(mode=0o700)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(PermissionError, match="belongs to another user"):
        ObjectCache.at(folder, 1000)


def test_links_inside_are_not_followed(cache: ObjectCache, folder: Path, tmp_path: Path) -> None:
    cache.put(KEY, b"one")
    (path,) = files(folder)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert cache.get(KEY) is None


def test_a_folder_that_takes_its_place_is_not_used(cache: ObjectCache, folder: Path, tmp_path: Path) -> None:
    cache.put(KEY, b"one")
    folder.rename(tmp_path / "moved")
    folder.mkdir()
    assert cache.get(KEY) == b"one"
    cache.put(FAR, b"two")
    assert files(folder) == []


# The environment


@pytest.mark.parametrize(("named", "size"), [("off", ""), ("OFF", ""), ("0", ""), ("FOLDER", "0")])
def test_it_can_be_turned_off(named: str, size: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEPWELL_CACHE", named.replace("FOLDER", str(folder)))
    monkeypatch.setenv("STEPWELL_CACHE_MIB", size)
    assert default() is None


def test_its_usual_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STEPWELL_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
    assert folders._usual_path() == str(tmp_path / "x" / "stepwell")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert folders._usual_path() == str(tmp_path / "home" / ".cache" / "stepwell")


@pytest.mark.parametrize(
    ("named", "size", "why"), [("/dev/null", "", "exists|Not a directory"), ("FOLDER", "lots", "invalid literal")]
)
def test_settings_that_cannot_be_are_a_warning(
    named: str, size: str, why: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEPWELL_CACHE", named.replace("FOLDER", str(folder)))
    monkeypatch.setenv("STEPWELL_CACHE_MIB", size)
    with pytest.warns(UserWarning, match=f"compiled code is not cached: .*({why}).*STEPWELL_CACHE=off"):
        assert default() is None


# Compiling


def test_the_key_tells_apart_all_that_matters() -> None:
    host, other = target.host(), target.named("x86-64")
    keys = [object_key(TEXT, host, 2, ()), object_key(TEXT + " ", host, 2, ()), object_key(TEXT, host, 1, ()),
            object_key(TEXT, host, 2, ("sroa",)), object_key(TEXT, other, 2, ())]  # fmt: skip
    assert len(set(keys)) == len(keys)


def test_objects_come_from_the_cache(cache: ObjectCache, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [TEXT, TEXT.replace("42", "7")]
    cold = jit.compile_objects(texts, target.host(), cache=cache)
    monkeypatch.setattr(jit, "compile_object", lambda *_, **__: pytest.fail("it is compiled again"))
    assert jit.compile_objects(texts, target.host(), cache=cache) == cold


def test_a_kernel_is_compiled_once(configured: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stepwell.engine.code.fingerprint", lambda: None)  # whole models are not kept
    compiled: list[Any] = []
    compile_object = jit.compile_object
    monkeypatch.setattr(jit, "compile_object", lambda *a, **k: (compiled.append(a), compile_object(*a, **k))[1])
    stepwell.compile(EXAMPLE, cache=False)
    count = len(compiled)
    assert count > 0 and files(configured) == []
    stepwell.compile(EXAMPLE)
    assert len(compiled) == 2 * count
    for path in files(configured)[:1]:
        path.write_bytes(b"damaged")
    stepwell.compile(EXAMPLE)
    assert len(compiled) == 2 * count + 1
    stepwell.compile(EXAMPLE)
    assert len(compiled) == 2 * count + 1


def test_the_run_time_is_the_same_on_all_machines_of_an_architecture(monkeypatch: pytest.MonkeyPatch) -> None:
    key, image = native.shipped()
    plain = target.named({"x86_64": "x86-64"}.get(target.host().arch, target.host().arch))
    monkeypatch.setattr(target, "host", lambda: plain)
    assert native.shipped() == (key, image)
