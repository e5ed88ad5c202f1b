"""`velax.extend`: the parts of the core that libraries build on."""

from velax.extend import core as core, linear_util as linear_util, source_info_util as source_info_util
