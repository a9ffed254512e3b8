"""The classifier: a small convolutional network."""

import torch
from torch import Tensor, nn


class Classifier(nn.Module):
    """Images `[n, 28, 28]` in 0..1 to logits `[n, 10]`; two convolutions and two dense layers, `width` channels first."""

    def __init__(self, width: int = 12, hidden: int = 64) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv2d(1, width, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(width, 2 * width, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )
        self.dense = nn.Sequential(nn.Flatten(), nn.Linear(2 * width * 49, hidden), nn.ReLU())
        self.last = nn.Linear(hidden, 10)

    def embed(self, images: Tensor) -> Tensor:
        """What the last layer sees, `[n, hidden]`."""
        return self.dense(self.convolutions(images.unsqueeze(1)))

    def forward(self, images: Tensor) -> Tensor:
        return self.last(self.embed(images))


def probabilities(model: Classifier, images: Tensor, batch_size: int = 256) -> Tensor:
    """Class probabilities `[n, 10]` of images `[n, 28, 28]`."""
    model.eval()
    with torch.inference_mode():
        chunks = [torch.softmax(model(chunk), dim=1) for chunk in images.split(batch_size)]
    return torch.cat(chunks) if chunks else torch.zeros(0, 10)
