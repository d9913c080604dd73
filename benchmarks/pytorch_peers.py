"""The benchmark's steps as a PyTorch user writes them today, for comparison.

Eager PyTorch on the CPU with all its threads: the two networks, SGD, lookahead through
`torch.func.functional_call` and double backpropagation (Algorithm 1 of Ren et al., 2018, one
virtual SGD step), and LOW with CVXOPT at the tolerance of its released code, 1e-4. Import this
module only where `torch` is installed (requirements-peers.txt).
"""

# pyright: reportMissingImports=false

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from cvxopt import matrix, solvers
from torch import nn

TorchStep = Callable[[], Any]


def torch_lenet5(num_outputs: int) -> nn.Module:
    """LeNet-5 as `experiments.networks.models.lenet5`, channels first."""
    first = [nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)]
    second = [nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2)]
    dense = [nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU()]
    return nn.Sequential(*first, *second, nn.Flatten(), *dense, nn.Linear(84, num_outputs))


def torch_ren2018_net(num_outputs: int) -> nn.Module:
    """The network of Ren et al. (2018) for 4 against 9."""
    layers, channels = [], 1
    for width in (16, 32, 64):
        layers += [nn.Conv2d(channels, width, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
        channels = width
    return nn.Sequential(
        *layers, nn.Flatten(), nn.Linear(1024, 100), nn.ReLU(), nn.Linear(100, num_outputs)
    )


class _Block(nn.Module):
    """Two normalized convolutions beside a skip; every second pixel where the sides are halved."""

    def __init__(self, before: int, after: int, stride: int):
        super().__init__()
        self.main = nn.Sequential(
            *[nn.Conv2d(before, after, 3, stride, padding=1, bias=False), nn.BatchNorm2d(after)],
            nn.ReLU(),
            *[nn.Conv2d(after, after, 3, padding=1, bias=False), nn.BatchNorm2d(after)],
        )
        self.stride, self.new = stride, after - before

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skip = x[:, :, :: self.stride, :: self.stride]
        skip = nn.functional.pad(skip, (0, 0, 0, 0, 0, self.new))
        return torch.relu(self.main(x) + skip)


def torch_resnet32(num_outputs: int) -> nn.Module:
    """The ResNet of depth 32 for CIFAR, shortcuts without parameters."""
    layers = [nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    channels = 16
    for width in (16, 32, 64):
        for _ in range(5):
            layers.append(_Block(channels, width, 1 if width == channels else 2))
            channels = width
    pool = [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, *pool, nn.Linear(64, num_outputs))


class Peer:
    """A network with a batch of random images, and steps on it."""

    def __init__(
        self,
        network: nn.Module,
        num_outputs: int,
        batch_size: int,
        momentum: float,
        image_shape: tuple[int, ...] = (1, 28, 28),
    ):
        self.network, self.image_shape = network, image_shape
        self.optimizer = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=momentum)
        self.inputs, self.labels = self._draw(batch_size, num_outputs)
        self.num_outputs = num_outputs

    def _draw(self, size: int, num_outputs: int) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.rand(size, *self.image_shape), torch.randint(0, max(num_outputs, 2), (size,))

    def losses(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Cross-entropy per example; for one output the logistic loss."""
        if self.num_outputs == 1:
            return nn.functional.binary_cross_entropy_with_logits(
                logits[:, 0], labels.float(), reduction="none"
            )
        return nn.functional.cross_entropy(logits, labels, reduction="none")

    def _update(self, loss: torch.Tensor) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()

    def plain(self) -> TorchStep:
        """Plain ERM."""
        return lambda: self._update(self.losses(self.network(self.inputs), self.labels).mean())

    def lookahead(self, num_clean: int) -> TorchStep:
        """Weights by the gradient of the clean loss through one virtual step, then the update."""
        clean, clean_labels = self._draw(num_clean, self.num_outputs)

        def step() -> None:
            params = dict(self.network.named_parameters())
            losses = self.losses(self.network(self.inputs), self.labels)
            epsilon = torch.zeros_like(losses, requires_grad=True)
            gradients = torch.autograd.grad(
                (epsilon * losses).sum(), list(params.values()), create_graph=True
            )
            moved = {n: p - g for (n, p), g in zip(params.items(), gradients, strict=True)}
            logits = torch.func.functional_call(self.network, moved, (clean,))
            clean_loss = self.losses(logits, clean_labels).mean()
            (score,) = torch.autograd.grad(clean_loss, epsilon, retain_graph=True)
            weights = torch.clamp(-score, min=0)
            weights = weights / torch.clamp(weights.sum(), min=1e-12)
            self._update((weights.detach() * losses).sum())

        return step

    def low(self, regularization: float) -> TorchStep:
        """LOW: the norms of the logits' gradients, and CVXOPT on the host in every step."""

        def step() -> None:
            logits = self.network(self.inputs)
            losses = self.losses(logits, self.labels)
            (slopes,) = torch.autograd.grad(losses.sum(), logits, retain_graph=True)
            norms = slopes.detach().square().sum(dim=1).double().numpy()
            weights = torch.from_numpy(low_weights_cvxopt(norms, regularization)).float()
            self._update((weights * losses).mean())

        return step


def low_weights_cvxopt(norms: np.ndarray, regularization: float) -> np.ndarray:
    """max w.g - lambda |w - 1|^2 over w >= 0, sum w = B, by CVXOPT's interior-point method."""
    size = len(norms)
    solvers.options.update(show_progress=False, abstol=1e-4, reltol=1e-4, feastol=1e-4)
    solution = solvers.qp(
        matrix(2 * regularization * np.eye(size)),
        matrix(-(norms + 2 * regularization)),
        matrix(-np.eye(size)),
        matrix(np.zeros(size)),
        matrix(np.ones((1, size))),
        matrix(float(size)),
    )
    return np.asarray(solution["x"])[:, 0]


def peers(title: str, batch_size: int, clean_sizes: Sequence[int]) -> dict[str, TorchStep]:
    """The steps beside those of a benchmark's table, by the names that they have there."""
    name = title.partition(",")[0]
    if name == "LeNet-5":
        peer = Peer(torch_lenet5(10), 10, batch_size, momentum=0.9)
    elif name == "ren2018_net":
        peer = Peer(torch_ren2018_net(1), 1, batch_size, momentum=0.0)
    elif name == "ResNet-32":
        peer = Peer(torch_resnet32(10), 10, batch_size, momentum=0.9, image_shape=(3, 32, 32))
    else:
        return {}
    steps = {"uniform": peer.plain(), "low:0.1": peer.low(0.1)}
    return steps | {f"lookahead, {size} clean": peer.lookahead(size) for size in clean_sizes}
