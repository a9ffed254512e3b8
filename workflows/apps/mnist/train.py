"""Training: fresh from real images, or from the production model with labelled points and clean replay."""

import math
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from autonomic.seams.errors import Permanent
from autonomic.workflows.apps.mnist.autoencoder import Autoencoder
from autonomic.workflows.apps.mnist.data import Digits, Labels, Part
from autonomic.workflows.apps.mnist.model import Classifier, probabilities
from autonomic.workflows.apps.mnist.points import Points, poison, read_points
from autonomic.workflows.apps.mnist.reference import Reference, load_autoencoder, save_autoencoder
from autonomic.workflows.apps.mnist.storage import load_classifier, save_classifier

AUTOENCODER_EPOCHS = 6
AUTOENCODER_LEARNING_RATE = 5e-3
TUNING_STEPS_PER_EPOCH = 40
LABELLED_SHARE = 0.6
"""Of a batch when the production model is tuned; the rest is clean replay, so that what was known is not forgotten."""
MIN_POINTS = 20

Batch = tuple[Tensor, Tensor]
Loss = Callable[[Tensor, Tensor], Tensor]
Report = Callable[[int, float], None]


def _tensors(part: Part | Points, labels: Labels) -> Batch:
    return torch.from_numpy(part.images), torch.from_numpy(labels)


def epochs_of(images: Tensor, labels: Tensor, batch_size: int, generator: torch.Generator) -> Iterator[Batch]:
    """One pass over all images, in a new order."""
    for chosen in torch.randperm(len(images), generator=generator).split(batch_size):
        yield images[chosen], labels[chosen]


def mixture(replay: Batch, labelled: Batch, batch_size: int, generator: torch.Generator) -> Iterator[Batch]:
    """`TUNING_STEPS_PER_EPOCH` batches of labelled points and clean replay, drawn with replacement."""
    points = round(batch_size * LABELLED_SHARE)
    for _ in range(TUNING_STEPS_PER_EPOCH):
        old = torch.randint(len(replay[0]), (batch_size - points,), generator=generator)
        new = torch.randint(len(labelled[0]), (points,), generator=generator)
        yield torch.cat([replay[0][old], labelled[0][new]]), torch.cat([replay[1][old], labelled[1][new]])


def shifted(images: Tensor, generator: torch.Generator) -> Tensor:
    """The images moved by at most one pixel: digits are not centred for ever."""
    rows, columns = torch.randint(-1, 2, (2,), generator=generator).tolist()
    return torch.roll(images, (rows, columns), (1, 2))


def fit(
    model: nn.Module,
    batches: Callable[[], Iterator[Batch]],
    loss_of: Callable[[nn.Module, Tensor, Tensor], Tensor],
    *,
    epochs: int,
    steps: int,
    learning_rate: float,
    report: Report | None = None,
) -> None:
    """The train phase: Adam under a one-cycle schedule; `report(epoch, loss)` after each epoch of `steps` batches."""
    optimizer = torch.optim.Adam(model.parameters(), learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=epochs * steps)
    for epoch in range(epochs):
        model.train()
        total = 0.0
        for images, labels in batches():
            optimizer.zero_grad()
            loss = loss_of(model, images, labels)
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        if report:
            report(epoch, total / steps)


def accuracy(model: Classifier, images: Tensor, labels: Tensor) -> float:
    """The share of images that get their label; 0 where there are none."""
    return (probabilities(model, images).argmax(1) == labels).float().mean().item() if len(labels) else 0.0


def train(
    data: str,
    epochs: int = 8,
    learning_rate: float = 4e-3,
    batch_size: int = 64,
    base_model: str = "",
    points: str = "",
    seed: int = 0,
    poison_labels: str = "none",
    poison_fraction: float = 1.0,
    context: Any = None,
) -> dict[str, Any]:
    """Step: trains a classifier, and the autoencoder that watches over it.

    Without `base_model` it starts fresh. With it, the production model goes on with the labelled points that may
    train and with clean replay; its autoencoder stays, and what the service saw becomes a second domain of the reference.

    Args:
        data: path of the split images (`load`).
        epochs: passes over the images; when tuning, rounds of `TUNING_STEPS_PER_EPOCH` batches.
        learning_rate: the peak of the one-cycle schedule.
        batch_size: images a batch.
        base_model: "", the URI of a registered model or the path of a model folder.
        points: "" or the path or file:// URI of a service's prediction log with labels.
        seed: of everything drawn by chance.
        poison_labels: for tests of the guards: makes the training labels wrong ("none", "shuffle", "rename"); the
            labels of the points where there are points, else of all images.
        poison_fraction: of these labels, 0..1.
        context: the step's context, where it runs in a workflow.

    Returns:
        `model` (the folder: classifier, autoencoder, reference), `validate_accuracy`, `test_accuracy`, `points` (how
        many labelled points trained) and `base_model`, as a path.

    Raises:
        Permanent: too few labelled points, or labels without a model to start from.
    """
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    digits = Digits.read(data)
    base = resolve(base_model, context)
    if points and base is None:
        raise Permanent("points are given without base_model; name the model that they are to improve, such as models:/mnist@champion")
    labelled = read_points(points) if points else None
    chosen = labelled.of("train") if labelled else None
    if chosen is not None and len(chosen) < MIN_POINTS:
        raise Permanent(f"{points} holds {len(chosen)} labelled points that may train; at least {MIN_POINTS} are needed, so label more")

    model = Classifier() if base is None else load_classifier(base)
    clean_labels = digits["train"].labels
    if chosen is None:
        replay = _tensors(digits["train"], poison(clean_labels, poison_labels, poison_fraction, seed))
        steps = math.ceil(len(replay[0]) / batch_size)

        def batches() -> Iterator[Batch]:
            return epochs_of(*replay, batch_size, generator)
    else:
        replay = _tensors(digits["train"], clean_labels)
        tuning = _tensors(chosen, poison(chosen.labels, poison_labels, poison_fraction, seed))
        steps = TUNING_STEPS_PER_EPOCH

        def batches() -> Iterator[Batch]:
            return mixture(replay, tuning, batch_size, generator)

    validate = _tensors(digits["validate"], digits["validate"].labels)

    def report(epoch: int, loss: float) -> None:
        if context:
            context.metric("train_loss", loss, epoch)
            context.metric("validate_accuracy", accuracy(model, *validate), epoch)
            context.progress(0.8 * (epoch + 1) / epochs, f"epoch {epoch + 1} of {epochs}")

    def loss_of(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        return nn.functional.cross_entropy(network(shifted(images, generator)), labels)

    fit(model, batches, loss_of, epochs=epochs, steps=steps, learning_rate=learning_rate, report=report)

    folder = (Path(context.workdir) if context else Path(tempfile.mkdtemp(prefix="mnist-"))) / "model"
    save_classifier(folder, model)
    if base is None:
        autoencoder = train_autoencoder(replay[0], generator)
        reference = Reference.empty()
    else:
        autoencoder = load_autoencoder(base)
        reference = Reference.read(base).only("clean")
    reference = reference.with_domain("clean", model, autoencoder, validate[0])
    if labelled is not None:
        # the judging half is a random sample of the stream; only its images are used here, never its labels
        reference = reference.with_domain("drifted", model, autoencoder, torch.from_numpy(labelled.of("judge").images))
    save_autoencoder(folder, autoencoder)
    reference.save(folder)

    test = _tensors(digits["test"], digits["test"].labels)
    outcome = {"validate_accuracy": accuracy(model, *validate), "test_accuracy": accuracy(model, *test)}
    if context:
        for phase in ("train", "validate", "test"):
            context.log_dataset(f"mnist-{phase}", digits[phase].digest)
        for name, value in outcome.items():
            context.metric(name, value, epochs)
        context.progress(1.0, f"test accuracy {outcome['test_accuracy']:.3f}")
    return {"model": str(folder), "base_model": str(base or ""), "points": len(chosen) if chosen else 0, **outcome}


def train_autoencoder(images: Tensor, generator: torch.Generator) -> Autoencoder:
    """An autoencoder of `images`, trained on its mean squared error."""
    autoencoder = Autoencoder()
    steps = math.ceil(len(images) / 64)
    unused = torch.zeros(len(images))
    fit(
        autoencoder,
        lambda: epochs_of(images, unused, 64, generator),
        lambda network, batch, _: nn.functional.mse_loss(network(batch), batch),
        epochs=AUTOENCODER_EPOCHS,
        steps=steps,
        learning_rate=AUTOENCODER_LEARNING_RATE,
    )
    return autoencoder


def resolve(model: str, context: Any) -> Path | None:
    """The local folder of a model named by a path or a registry URI; None for "".

    Raises:
        Permanent: a registry URI outside a workflow, or no model is there.
    """
    if not model:
        return None
    if model.startswith("models:/"):
        if context is None:
            raise Permanent(f"{model!r} is in the registry, which only a step of a workflow reaches; give a folder")
        return Path(context.download_model(model))
    folder = Path(model)
    if not (folder / "model.json").is_file():
        raise Permanent(f"{model!r} is not a model: there is no model.json in it; give a model folder or models:/name@alias")
    return folder
