"""Keeps tiny models on one thread."""

import torch

# Models this small gain nothing from more, and lose much where the cores are shared.
torch.set_num_threads(1)
