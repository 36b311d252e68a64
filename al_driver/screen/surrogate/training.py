"""Training one network: AdamW under a learning rate that rises and falls, until the validation error falls no more."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from al_driver.errors import ConfigError
from al_driver.schema.suggest import nearest
from al_driver.screen.crystals import Floats
from al_driver.screen.graph import Graph
from al_driver.screen.job import FitSettings
from al_driver.screen.surrogate.batch import make_batch, split_by_atoms
from al_driver.screen.surrogate.member import Member
from al_driver.seeds import make_rng, make_seed

WARM_UP = 0.1  # of the steps
SLOWEST = 0.01  # of the learning rate, at the end
LARGEST_GRADIENT = 5.0
FEWEST_STEPS, SMALLEST_BATCH = 8, 64  # of an epoch, in atoms: few crystals are learnt in small batches


@dataclass(frozen=True)
class Known:
    """Crystals with a known property, of shape (n_crystals,)."""

    graphs: Sequence[Graph]
    values: Floats

    def __len__(self) -> int:
        return len(self.graphs)

    def take(self, indices: Sequence[int]) -> "Known":
        """Return some of them."""
        return Known([self.graphs[index] for index in indices], self.values[list(indices)])


@dataclass(frozen=True)
class Epoch:
    """A line of a learning curve; errors are mean absolute ones, in the property's unit."""

    member: int
    epoch: int
    learning_rate: float
    train_mae: float
    valid_mae: float


def train_member(
    member: Member, index: int, train: Known, valid: Known, settings: FitSettings, tell: Callable[[Epoch], None]
) -> list[Epoch]:
    """Train a network in place; it ends with the weights of its best epoch.

    Parameters
    ----------
    index
        Which member of an ensemble it is: its draws follow from that and the seed.
    tell
        Called after each epoch.

    Returns
    -------
    The learning curve. ``train_mae`` is of the epoch's own steps, with dropout and the batches' normalisations.

    Raises
    ------
    ConfigError
        If the training diverges.
    """
    net, device = member.net, next(member.net.parameters()).device
    frozen = freeze(net, settings.freeze)
    rng = make_rng(settings.seed, "surrogate", index)
    free = [parameter for parameter in net.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(free, settings.learning_rate, weight_decay=settings.weight_decay)
    sizes = [len(graph) for graph in train.graphs]
    batch_atoms = min(settings.batch_atoms, max(sum(sizes) // FEWEST_STEPS, SMALLEST_BATCH))
    n_batches = sum(1 for _ in split_by_atoms(sizes, batch_atoms))
    steps = max(settings.epochs * n_batches, 2)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step / steps))
    spread = float(train.values.std()) or 1.0
    curve, best, best_state = list[Epoch](), float("inf"), _copy(net)
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices):  # dropout's draws are ours, whatever else runs in this process
        torch.manual_seed(make_seed(settings.seed, "dropout", index))
        for number in range(1, settings.epochs + 1):
            net.train()
            for module in frozen:
                module.eval()
            order = rng.permutation(len(train))
            total = 0.0
            for part in split_by_atoms([sizes[one] for one in order], batch_atoms):
                some = train.take(order[part].tolist())
                values = torch.as_tensor(some.values, dtype=torch.float32, device=device)
                output = net(make_batch(some.graphs).to(device))
                optimizer.zero_grad()
                _loss(member, output, values, spread).backward()
                nn.utils.clip_grad_norm_(free, LARGEST_GRADIENT)
                optimizer.step()
                schedule.step()
                total += float((member.scale(output.detach()) - values).abs().sum())
            error = float(np.abs(member.predict(valid.graphs)[0] - valid.values).mean())
            rate = schedule.get_last_lr()[0]
            curve.append(Epoch(index, number, rate, total / len(train), error))
            tell(curve[-1])
            if not np.isfinite(error):
                raise ConfigError(f"the training diverged in epoch {number}; try a smaller --learning-rate")
            if error < best:
                best, best_state, since = error, _copy(net), 0
            else:
                since += 1
            if since >= settings.patience:
                break
    net.load_state_dict(best_state)
    net.eval()
    return curve


def freeze(net: nn.Module, names: Sequence[str]) -> list[nn.Module]:
    """Freeze modules by their names, ``embedding``, ``convs.0`` …, and return them; ``convs`` are all convolutions.

    Raises
    ------
    ConfigError
        If there is no such module, or nothing is left to train.
    """
    for parameter in net.parameters():
        parameter.requires_grad_(True)
    there = {name: module for name, module in net.named_modules() if any(True for _ in module.parameters()) and name}
    frozen = []
    for name in names:
        if name not in there:
            raise ConfigError(f"--freeze {name}: the network has no such part{nearest(name, there)}")
        there[name].requires_grad_(False)
        frozen.append(there[name])
    if not any(parameter.requires_grad for parameter in net.parameters()):
        raise ConfigError("--freeze: nothing is left to train")
    return frozen


def _loss(member: Member, output: Tensor, values: Tensor, spread: float) -> Tensor:
    if member.is_classifier:
        return functional.nll_loss(output, values.long())
    return functional.smooth_l1_loss(member.scale(output) / spread, values / spread, beta=0.1)


def _rate(progress: float) -> float:
    """Return the share of the learning rate: a line up, half a cosine down."""
    if progress < WARM_UP:
        return max(progress / WARM_UP, SLOWEST)
    fallen = (progress - WARM_UP) / (1 - WARM_UP)
    return SLOWEST + (1 - SLOWEST) * 0.5 * (1 + float(np.cos(np.pi * min(fallen, 1.0))))


def _copy(net: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in net.state_dict().items()}
