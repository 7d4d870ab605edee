"""What is pushed of a directory, and what a push changes in a repository."""

import hashlib
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.hub.client import Refusal
from runner.hub.files import Fingerprint, changes, fingerprints


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    directory = tmp_path / "adapter"
    (directory / "more/deep").mkdir(parents=True)
    (directory / "adapter_config.json").write_text("{}")
    (directory / "adapter_model.safetensors").write_bytes(bytes(3_000_000))
    (directory / "more/deep/.hidden").write_text("")
    return directory


def test_every_file_is_taken_with_the_hashes_that_the_hub_tells(adapter: Path) -> None:
    found = fingerprints(adapter)
    assert list(found) == ["adapter_config.json", "adapter_model.safetensors", "more/deep/.hidden"]
    for path, fingerprint in found.items():
        content = (adapter / path).read_bytes()
        blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        assert fingerprint == Fingerprint(len(content), hashlib.sha256(content).hexdigest(), blob)


@pytest.mark.parametrize("path", [".cache/x", "more/.git/config", ".git"])
def test_folders_that_the_client_does_not_take_are_named(adapter: Path, path: str) -> None:
    (adapter / path).parent.mkdir(exist_ok=True)
    (adapter / path).write_text("x")
    with pytest.raises(Refusal, match=f"`{path}` cannot be pushed"):
        fingerprints(adapter)


def test_links_stay_inside(adapter: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("outside")
    (adapter / "inside").symlink_to(adapter / "adapter_config.json")
    assert fingerprints(adapter)["inside"] == fingerprints(adapter)["adapter_config.json"]
    for target in (tmp_path / "secret", tmp_path / "none", tmp_path, adapter / "more"):
        link = adapter / "link"
        link.symlink_to(target)
        with pytest.raises(Refusal, match="`link` cannot be pushed"):
            fingerprints(adapter)
        link.unlink()


def test_what_is_no_file_is_not_passed_over(adapter: Path) -> None:
    subprocess.run(["mkfifo", adapter / "pipe"], check=True)
    with pytest.raises(Refusal, match="`pipe` cannot be pushed"):
        fingerprints(adapter)


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
def test_a_directory_that_lacks_a_part_is_no_adapter(adapter: Path, name: str) -> None:
    (adapter / name).unlink()
    with pytest.raises(Refusal, match="does not hold an adapter"):
        fingerprints(adapter)


VERSIONS = [Fingerprint(size, f"s{content}", f"b{content}") for size, content in ((1, 1), (1, 2), (2, 3))]
TREES = st.dictionaries(st.sampled_from("abcd"), st.sampled_from(VERSIONS))


@given(files=TREES, there=TREES, earlier=TREES, large=st.sets(st.sampled_from("abcd")))
def test_changes_make_ours_equal_and_leave_theirs(
    files: dict[str, Fingerprint], there: dict[str, Fingerprint], earlier: dict[str, Fingerprint], large: set[str]
) -> None:
    told = {
        path: Fingerprint(file.size, file.sha256, None) if path in large else Fingerprint(file.size, None, file.blob)
        for path, file in there.items()
    }
    add, remove = changes(files, told, earlier)
    result = {path: file for path, file in there.items() if path not in remove} | {path: files[path] for path in add}
    assert {path: result[path] for path in files} == files
    assert all(there.get(path) != files[path] for path in add)
    for path in there.keys() - files.keys():
        assert (path in result) == (earlier.get(path) != there[path])
    assert changes(files, result, earlier) == ([], [])
