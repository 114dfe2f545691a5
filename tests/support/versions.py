"""What tests take that not every version of torch has."""

import pytest
import torch

of_classes = pytest.mark.skipif(torch.__version__ < "2.9", reason="torch compiles the classes from 2.9 on")
