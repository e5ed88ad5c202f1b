"""`velax.extend`: the parts of the core that libraries build on."""

from velax.extend import core as core
from velax.extend import linear_util as linear_util
from velax.extend import source_info_util as source_info_util
