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
from velax._transforms.remat import (
    print_saved_residuals as print_saved_residuals,
)
from velax._transforms.remat import (
    saved_residuals as saved_residuals,
)

remat = checkpoint
