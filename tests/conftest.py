"""One thread for each of the workers that share the cores: torch's threads would spin and wait for one another."""

import os

import torch

os.environ.setdefault("OMP_NUM_THREADS", "1")  # of processes that tests start
torch.set_num_threads(1)
