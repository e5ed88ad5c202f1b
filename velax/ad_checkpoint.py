"""Rematerialisation."""

from velax._transforms.remat import (
    checkpoint as checkpoint,
)
from velax._transforms.remat import (
    checkpoint_name as checkpoint_name,
)
from velax._transforms.remat import (
    checkpoint_policies as checkpoint_policies,
)

remat = checkpoint
