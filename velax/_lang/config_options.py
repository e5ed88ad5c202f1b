"""The options of `velax.config`, one row an option.

A row says the option's name (its environment variable is the name in capitals), what values it takes, its
default, whether it is *traced* (part of the key of every cache of traced or compiled programs, because it can
change what a function computes or how it is staged), and what it does. Options that configure machinery Velax
does not have are accepted, so that programs which set them run, and their row says so.
"""

from __future__ import annotations

import enum
from typing import Any

from velax._lang.record import Record

__all__ = [
    "OPTIONS", "Choice", "ExplicitX64Mode", "LegacyPrngKeyState", "NumpyDtypePromotion", "Option",
    "RuntimeTracebackMode",
]  # fmt: skip


class NumpyDtypePromotion(enum.StrEnum):
    """How binary operations treat operands of different dtypes."""

    STANDARD = "standard"
    STRICT = "strict"


class LegacyPrngKeyState(enum.StrEnum):
    """What happens when a raw ``uint32`` array is used as a random key."""

    ALLOW = "allow"
    WARN = "warn"
    ERROR = "error"


class RuntimeTracebackMode(enum.StrEnum):
    """How much of the Python stack is attached to compiled programs."""

    OFF = "off"
    ON = "on"
    FULL = "full"


class ExplicitX64Mode(enum.IntEnum):
    """What happens when a 64-bit dtype is requested while 64-bit dtypes are disabled."""

    WARN = 1
    ERROR = 2
    ALLOW = 3


class Choice(Record):
    """The type of an option that takes one of a few strings."""

    values: tuple[str, ...]


class Option(Record):
    """What is known of one option before it has a value.

    Args:
      name: its name, as `config.update` takes it.
      kind: ``bool``, ``int``, ``float``, ``str``, an enumeration class, a `Choice`, or ``object`` (anything hashable).
      default: the value when neither the environment nor the program sets one.
      help: what it does.
      optional: whether ``None`` is a value.
      traced: whether it is part of every cache key.
      scoped: whether it can be set for a block of code by a context manager.
      context_default: the value that its context manager takes when called without one.
      lacks: what a program that sets it does not get; setting it warns, but for the default and ``harmless`` values.
    """

    name: str
    kind: Any
    default: Any
    help: str
    optional: bool = False
    traced: bool = False
    scoped: bool = True
    context_default: Any = None
    lacks: str = ""
    harmless: tuple = ()


NO_EFFECT = " (Accepted; Velax has no such machinery.)"
_GUARD = Choice(("allow", "log", "disallow", "log_explicit", "disallow_explicit"))
_LEVEL = Choice(("UNKNOWN", "O0", "O1", "O2", "O3"))
_ON_ERROR = Choice(("ignore", "raise"))
_PRECISIONS = Choice(
    (
        "default", "high", "highest", "bfloat16", "tensorfloat32", "float32", "ANY_F8_ANY_F8_F32",
        "ANY_F8_ANY_F8_F32_FAST_ACCUM",
        "ANY_F8_ANY_F8_ANY", "ANY_F8_ANY_F8_ANY_FAST_ACCUM", "F16_F16_F16", "F16_F16_F32", "BF16_BF16_BF16",
        "BF16_BF16_F32",
        "BF16_BF16_F32_X3", "BF16_BF16_F32_X6", "BF16_BF16_F32_X9", "TF32_TF32_F32", "TF32_TF32_F32_X3", "F32_F32_F32",
        "F64_F64_F64",
    )
)  # fmt: skip
_PRNGS = Choice(("threefry2x32", "threefry4x32", "rbg", "unsafe_rbg", "philox2x32", "philox4x32"))


def _flag(name: str, default: bool, help: str, **more) -> Option:
    """A switch; its context manager turns it on when called without a value."""
    return Option(name, bool, default, help, context_default=True, **more)


OPTIONS: tuple[Option, ...] = (
    # Numerics and dtypes
    _flag("jax_enable_x64", False, "Keep 64-bit dtypes; when off they become 32-bit ones.", traced=True),
    Option("jax_explicit_x64_dtypes", ExplicitX64Mode, ExplicitX64Mode.WARN,
           "What an explicitly requested 64-bit dtype does while 64-bit dtypes are off.", traced=True),
    Option("jax_numpy_dtype_promotion", NumpyDtypePromotion, NumpyDtypePromotion.STANDARD,
           "'standard' promotes operands of different dtypes, 'strict' only weakly typed ones.", traced=True),
    Option("jax_numpy_rank_promotion", Choice(("allow", "warn", "raise")), "allow",
           "What NumPy-style broadcasting between arrays of different ranks does.", traced=True),
    Option("jax_default_matmul_precision", _PRECISIONS, None,
           "The precision of matrix products and convolutions that name none.", optional=True, traced=True),
    _flag("jax_allow_f16_reductions", True,
          "Let sums be of 16-bit floats; when off, `lax.reduce_sum` of them raises `ValueError`.", traced=True),
    _flag("jax_softmax_custom_jvp", False, "Differentiate softmax by its own derivative rule.", traced=True),
    _flag("jax_high_dynamic_range_gumbel", False, "Sample Gumbel variables with more mantissa bits in the tails.", traced=True),
    # Random numbers
    Option("jax_default_prng_impl", _PRNGS, "threefry2x32", "The generator behind keys that name none.", traced=True),
    _flag("jax_threefry_partitionable", True, "Draw threefry bits in the form that is computed element by element.", traced=True),
    _flag("jax_enable_custom_prng", False, "Let `random.PRNGKey` return typed keys.", traced=True),
    Option("jax_legacy_prng_key", LegacyPrngKeyState, LegacyPrngKeyState.ALLOW,
           "What using a raw uint32 array as a random key does.", traced=True),
    Option("jax_random_seed_offset", int, 0, "Added to every seed.", traced=True),
    _flag("jax_debug_key_reuse", False, "Raise `KeyReuseError` when a random key is consumed twice.", traced=True,
           lacks="keys that are used again are not found"),
    _flag("jax_threefry_gpu_kernel_lowering", False, "Use a hand-written threefry kernel on GPUs." + NO_EFFECT, traced=True),
    # Debugging
    _flag("jax_debug_nans", False, "Raise `FloatingPointError` when an operation makes a NaN.", traced=True),
    _flag("jax_debug_infs", False, "Raise `FloatingPointError` when an operation makes an infinity.", traced=True),
    Option("jax_error_checking_behavior_nan", _ON_ERROR, "ignore",
           "What a NaN does under `experimental.error_check`." + NO_EFFECT, traced=True),
    Option("jax_error_checking_behavior_divide", _ON_ERROR, "ignore",
           "What a division by zero does under `experimental.error_check`." + NO_EFFECT, traced=True),
    Option("jax_error_checking_behavior_oob", _ON_ERROR, "ignore",
           "What an index out of bounds does under `experimental.error_check`." + NO_EFFECT, traced=True),
    _flag("jax_disable_jit", False, "Run the Python bodies of jitted functions and of control flow.", traced=True),
    _flag("jax_check_tracer_leaks", False, "Raise when a traced value outlives its trace.", traced=True),
    _flag("jax_enable_checks", False, "Check the types and scopes of every jaxpr that is made.", traced=True),
    _flag("jax_check_static_indices", False,
          "Raise `IndexError` for integers in an index that are out of bounds, where elements are read.", traced=True),
    _flag("jax_disable_bwd_checks", False,
          "Skip the checks of the shapes and dtypes of what a custom backward function returns.", traced=True),
    _flag("jax_mutable_array_checks", True, "Check mutable references for aliasing." + NO_EFFECT, traced=True),
    _flag("jax_no_tracing", False, "Raise instead of tracing a function again.", traced=True),
    _flag("jax_no_execution", False, "Raise instead of running a compiled program.", traced=True),
    _flag("jax_log_compiles", False, "Log what is traced and compiled, and how long it takes, as warnings."),
    _flag("jax_log_checkpoint_residuals", False, "Log what `checkpoint` keeps for the backward pass."),
    _flag("jax_explain_cache_misses", False,
          "Log why a jitted function had to be traced again, and which programs a cache folder that is set lacks."),
    Option("jax_logging_level", Choice(("NOTSET", "DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")), "NOTSET",
           "The level of the package's logger.", scoped=False),
    Option("jax_debug_log_modules", str, "", "Comma-separated modules whose loggers write at debug level.", scoped=False),
    Option("jax_traceback_filtering", Choice(("off", "tracebackhide", "remove_frames", "quiet_remove_frames", "auto")), "auto",
           "How the library's own frames are hidden in tracebacks."),
    Option("jax_tracer_error_num_traceback_frames", int, 5,
           "How many frames the message of a leaked tracer shows." + NO_EFFECT, scoped=False),
    Option("jax_traceback_in_locations_limit", int, 100, "How many frames a source location keeps." + NO_EFFECT),
    _flag("jax_include_full_tracebacks_in_locations", True, "Keep whole stacks in source locations." + NO_EFFECT),
    _flag("jax_include_debug_info_in_dumps", True, "Write source locations into dumped programs." + NO_EFFECT, scoped=False),
    Option("jax_hlo_source_file_canonicalization_regex", str, None,
           "A pattern whose matches are removed from file names in source locations." + NO_EFFECT, optional=True),
    Option("jax_source_url_schema", str, None, "A pattern for links to source files in profiles." + NO_EFFECT, optional=True),
    Option("jax_send_traceback_to_runtime", RuntimeTracebackMode, RuntimeTracebackMode.OFF,
           "Attach Python stacks to running programs." + NO_EFFECT),
    Option("jax_dump_ir_to", str, "", "A folder that every program that is compiled is written to.", scoped=False),
    Option("jax_dump_ir_modes", str, "stablehlo",
           "Which forms `jax_dump_ir_to` writes, with commas between: 'jaxpr' is the jaxpr, any other the array graph.", scoped=False),
    _flag("jax_pprint_use_color", True, "Colour jaxprs printed to a terminal." + NO_EFFECT),
    _flag("jax_debug_leaked_clients_on_clear_backends", False, "Raise when a back end outlives `clear_backends`." + NO_EFFECT),
    _flag("jax_thread_guard", False, "Raise when arrays are used from several threads.",
           lacks="uses by other threads are not found"),
    Option("jax_array_garbage_collection_guard", Choice(("allow", "log", "fatal")), None,
           "What freeing an array through the garbage collector does.", optional=True,
           lacks="arrays that the collector frees are not found", harmless=("allow",)),
    _flag("jax_experimental_unsafe_xla_runtime_errors", False, "Raise from inside running programs." + NO_EFFECT),
    # Transfers
    Option("jax_transfer_guard", _GUARD, None,
           "What transfers of host values to devices do; sets the three below.", optional=True),
    Option("jax_transfer_guard_host_to_device", _GUARD, None,
           "What using numbers and NumPy arrays as operands does, and ('log_explicit', 'disallow_explicit') `device_put`.",
           optional=True),
    Option("jax_transfer_guard_device_to_device", _GUARD, None,
           "What transfers between devices do; there are none, as there is one device.", optional=True),
    Option("jax_transfer_guard_device_to_host", _GUARD, None,
           "What transfers from a device to the host do; there are none, as a CPU's memory is the host's.", optional=True),
    # Devices
    Option("jax_default_device", object, None, "The device, or the name of the platform, of computations on no committed array.",
           optional=True, traced=True),
    Option("jax_platforms", str, None, "Comma-separated platforms to start, the default one first.", optional=True, scoped=False),
    Option("jax_platform_name", str, "", "The default platform (older spelling of `jax_platforms`).", scoped=False),
    Option("jax_num_cpu_devices", int, -1, "How many CPU devices to present; -1 leaves one.", scoped=False,
           lacks="there is one CPU device", harmless=(1,)),
    _flag("jax_sort_devices_by_process_index", True, "List devices by process." + NO_EFFECT, scoped=False),
    _flag("jax_cpu_enable_async_dispatch", True, "Run CPU programs in the background." + NO_EFFECT, scoped=False),
    Option("jax_cuda_visible_devices", str, "all", "Which CUDA devices to use." + NO_EFFECT, scoped=False),
    Option("jax_rocm_visible_devices", str, "all", "Which ROCm devices to use." + NO_EFFECT, scoped=False),
    Option("jax_oneapi_visible_devices", str, "all", "Which oneAPI devices to use." + NO_EFFECT, scoped=False),
    Option("jax_mock_gpu_topology", str, "", "A pretended GPU topology." + NO_EFFECT, scoped=False),
    Option("mock_num_gpu_processes", int, 0, "A pretended number of GPU processes." + NO_EFFECT, scoped=False),
    Option("jax_xla_backend", str, "", "The kind of back end." + NO_EFFECT, scoped=False),
    Option("jax_backend_target", str, "", "The address of a remote back end." + NO_EFFECT, scoped=False),
    Option("jax_pjrt_client_create_options", str, None, "Options of a plug-in back end." + NO_EFFECT, optional=True, scoped=False),
    # Compilation and its cache
    _flag("jax_enable_compilation_cache", True,
          "Keep compiled programs on disk; `VELAX_CACHE=0` switches that off, too, where no folder is set."),
    Option("jax_compilation_cache_dir", str, None,
           "The folder of the compilation cache; None leaves it to `VELAX_CACHE_DIR`.", optional=True, scoped=False),
    Option("jax_compilation_cache_max_size", int, -1,
           "The most bytes that the compilation cache keeps, 0 for no cache; -1 leaves it to `VELAX_CACHE_MAX_BYTES` (1 GiB)."),
    Option("jax_persistent_cache_min_compile_time_secs", float, 1.0,
           "Programs that compile faster need not be kept on disk; Velax keeps all." + NO_EFFECT),
    Option("jax_persistent_cache_min_entry_size_bytes", int, 0,
           "Smaller programs need not be kept on disk; Velax keeps all." + NO_EFFECT),
    Option("jax_persistent_cache_enable_xla_caches", str, "xla_gpu_per_fusion_autotune_cache_dir",
           "Which caches of the compiler itself are on." + NO_EFFECT, optional=True),
    _flag("jax_raise_persistent_cache_errors", False,
          "Raise, instead of warning, when the compilation cache fails, and where an entry is damaged."),
    _flag("jax_compilation_cache_check_contents", False, "Check that a cached program equals a fresh compilation." + NO_EFFECT),
    _flag("jax_compilation_cache_include_metadata_in_key", False, "Make source locations part of cache keys." + NO_EFFECT),
    _flag("jax_compilation_cache_expect_pgle", False, "Expect profile-guided programs in the cache." + NO_EFFECT),
    _flag("jax_remove_custom_partitioning_ptr_from_cache_key", False, "Ignore partitioning callbacks in cache keys." + NO_EFFECT),
    _flag("jax_disable_most_optimizations", False, "Compile fast rather than well." + NO_EFFECT, scoped=False),
    Option("jax_optimization_level", _LEVEL, "UNKNOWN", "How hard the compiler optimises." + NO_EFFECT),
    Option("jax_memory_fitting_level", _LEVEL, "O2", "How hard the compiler saves memory." + NO_EFFECT),
    Option("jax_exec_time_optimization_effort", float, 0.0, "The compiler's effort for speed." + NO_EFFECT),
    Option("jax_memory_fitting_effort", float, 0.0, "The compiler's effort for memory." + NO_EFFECT),
    _flag("jax_compiler_enable_remat_pass", True, "Let the compiler recompute values to save memory." + NO_EFFECT),
    Option("jax_compiler_detailed_logging_min_ops", int, 10, "Log compilations of programs of at least so many operations." + NO_EFFECT,
           scoped=False),
    Option("jax_captured_constants_warn_bytes", int, 2_000_000_000,
           "Warn when a function that is compiled captures so many bytes of arrays; -1 for never."),
    Option("jax_captured_constants_report_frames", int, 0,
           "Whether that warning says which arrays they are and where they are read: 0 for no, any other number for yes."),
    Option("jax_embedded_constants_max_bytes", int, 32, "The largest constant that is part of a program's text." + NO_EFFECT, traced=True),
    _flag("jax_use_simplified_jaxpr_constants", False, "Keep captured arrays as literals of jaxprs." + NO_EFFECT, traced=True),
    _flag("eager_constant_folding", False, "Evaluate operations on constants while tracing." + NO_EFFECT, traced=True),
    _flag("jax_use_direct_linearize", True, "Linearize by rule rather than by partial evaluation of a jvp." + NO_EFFECT, traced=True),
    _flag("jax_custom_vjp3", False, "A different form of custom_vjp." + NO_EFFECT, traced=True),
    _flag("jax_remat3", False, "A different form of checkpoint." + NO_EFFECT, traced=True),
    _flag("jax_scan3", False, "A different form of scan." + NO_EFFECT, traced=True),
    _flag("jax_refs_to_pins", False, "A different form of references." + NO_EFFECT),
    _flag("jax_enable_pgle", False, "Profile-guided estimation of latencies." + NO_EFFECT, traced=True),
    Option("jax_pgle_profiling_runs", int, 3, "Runs that are profiled for it." + NO_EFFECT, traced=True),
    Option("jax_pgle_aggregation_percentile", int, 90, "The percentile it uses." + NO_EFFECT),
    Option("jax_xla_profile_version", int, 0, "The version of a stored profile." + NO_EFFECT, traced=True),
    Option("jax_use_magma", Choice(("off", "on", "auto")), "auto", "Use MAGMA for eigenvalues on GPUs." + NO_EFFECT),
    # Sharding and several processes
    _flag("check_vma", False, "Check how values vary over mesh axes in functions mapped over shards." + NO_EFFECT, traced=True),
    _flag("jax_auto_pcast", True, "Mark replicated values as varying where an operation needs it." + NO_EFFECT, traced=True),
    _flag("jax_remove_size_one_mesh_axis_from_type", False, "Leave mesh axes of size one out of types." + NO_EFFECT, traced=True),
    _flag("jax_disable_vmap_shmap_error", False, "Allow some nestings of vmap and shard_map." + NO_EFFECT),
    _flag("jax_disallow_mesh_context_manager", False, "Raise when a mesh is entered as a context manager."),
    _flag("jax_use_shardy_partitioner", True, "Choose the partitioner." + NO_EFFECT, traced=True),
    Option("jax_cpu_collectives_implementation", Choice(("gloo", "mpi", "megascale")), "gloo",
           "How processes on CPUs talk to each other." + NO_EFFECT, optional=True),
    Option("jax_cpu_get_global_topology_timeout_minutes", int, 5, "How long to wait for all processes." + NO_EFFECT),
    Option("jax_cpu_get_local_topology_timeout_minutes", int, 2, "How long to wait for this process." + NO_EFFECT),
    _flag("jax_distributed_debug", False, "Log what the distributed service does." + NO_EFFECT),
    _flag("jax_enable_preemption_service", True, "Watch for the host's preemption." + NO_EFFECT),
    _flag("jax_enable_recoverability", False, "Let other processes go on when one dies." + NO_EFFECT),
    _flag("jax_check_proxy_envs", True, "Warn about proxies set in the environment." + NO_EFFECT, scoped=False),
    Option("jax_cross_host_transfer_socket_address", str, "", "Where transfers between hosts listen." + NO_EFFECT, scoped=False),
    Option("jax_cross_host_transport_addresses", str, "", "Addresses of the transports between hosts." + NO_EFFECT, scoped=False),
    Option("jax_cross_host_transfer_timeout_seconds", int, None, "How long a transfer between hosts may take." + NO_EFFECT,
           optional=True, scoped=False),
    Option("jax_cross_host_transfer_transfer_size", int, None, "The chunk of a transfer between hosts." + NO_EFFECT,
           optional=True, scoped=False),
    _flag("jax_force_dcn_cross_host_transfers", False, "Route transfers between hosts over the network." + NO_EFFECT, scoped=False),
    _flag("jax_share_binary_between_hosts", False, "Compile on one host and send the program to the others." + NO_EFFECT),
    Option("jax_share_binary_between_hosts_timeout_ms", int, 1_200_000, "How long to wait for it." + NO_EFFECT),
    # Export and other front ends
    Option("jax_export_calling_convention_version", int, 10, "The calling convention of exported programs." + NO_EFFECT),
    _flag("jax_export_ignore_forward_compatibility", False, "Export forms that older readers do not know." + NO_EFFECT),
    Option("jax_serialization_version", int, 0, "The version of serialised programs." + NO_EFFECT),
    _flag("jax2tf_associative_scan_reductions", False, "A form of cumulative reductions for TensorFlow." + NO_EFFECT),
    _flag("jax2tf_default_native_serialization", True, "How functions are converted for TensorFlow." + NO_EFFECT),
    _flag("jax_bcoo_cusparse_lowering", False, "Use cuSPARSE for sparse arrays." + NO_EFFECT),
    _flag("jax_mosaic_allow_hlo", False, "Pallas on TPUs." + NO_EFFECT),
    _flag("jax_pallas_enable_debug_checks", False, "Run the debug checks of Pallas kernels." + NO_EFFECT, traced=True),
    _flag("jax_pallas_poison_buffers", False, "Fill fresh buffers of interpreted Pallas kernels with NaN." + NO_EFFECT),
    _flag("jax_pallas_use_mosaic_gpu", True, "Pallas on GPUs." + NO_EFFECT, traced=True),
    _flag("jax_pallas_verbose_errors", False, "Longer errors from Pallas." + NO_EFFECT, scoped=False),
    _flag("jax_ragged_dot_use_gpu_pallas_triton_lowering", False, "Ragged products on GPUs." + NO_EFFECT, traced=True),
    _flag("jax_ragged_dot_use_ragged_dot_instruction", True, "Keep ragged products as one operation." + NO_EFFECT),
    _flag("jax_use_emit_pipeline_primitive", False, "Pallas pipelines as a primitive." + NO_EFFECT, traced=True),
)  # fmt: skip
