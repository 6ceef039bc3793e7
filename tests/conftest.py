"""Makes the helper modules beside the tests importable, and keeps tiny models on one thread."""

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))
# Models this small gain nothing from more, and lose much where the cores are shared.
torch.set_num_threads(1)
