"""The autoencoder: what it cannot rebuild is not like what the classifier was trained on."""

import torch
from torch import Tensor, nn


class Autoencoder(nn.Module):
    """Images `[n, 28, 28]` in 0..1 through `code` numbers and back."""

    def __init__(self, width: int = 8, code: int = 24) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, width, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(2 * width * 49, code),
        )
        self.decoder = nn.Sequential(
            nn.Linear(code, 2 * width * 49),
            nn.ReLU(),
            nn.Unflatten(1, (2 * width, 7, 7)),
            nn.ConvTranspose2d(2 * width, width, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(width, 1, 4, stride=2, padding=1),
            nn.Sigmoid(),
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.decoder(self.encoder(images.unsqueeze(1))).squeeze(1)


def log_errors(model: Autoencoder, images: Tensor, batch_size: int = 256) -> Tensor:
    """The logarithm of each image's mean squared reconstruction error, `[n]`."""
    model.eval()
    with torch.inference_mode():
        chunks = [((model(chunk) - chunk) ** 2).mean(dim=(1, 2)).clamp_min(1e-8).log() for chunk in images.split(batch_size)]
    return torch.cat(chunks) if chunks else torch.zeros(0)
