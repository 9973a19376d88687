"""What several test files put in the place of real data and trained networks."""

import torch
from torch import nn
from torch.utils.data import Dataset


class Watched(Dataset):
    """A data set that calls ``look(n)`` before it gives its n-th pair."""

    def __init__(self, data: Dataset, look) -> None:
        self.data, self.look, self.given = data, look, 0

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int):
        self.given += 1
        self.look(self.given)
        return self.data[index]


def lively(model: nn.Module) -> nn.Module:
    """Give batch norm statistics that are not those that it starts from."""
    torch.manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.1)
    return model
