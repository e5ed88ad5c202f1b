"""Rematerialisation."""

from velax._transforms.remat import (
    checkpoint as checkpoint,
    checkpoint_name as checkpoint_name,
    checkpoint_policies as checkpoint_policies,
    print_saved_residuals as print_saved_residuals,
    saved_residuals as saved_residuals,
)

remat = checkpoint
