"""Everything that differs between CPU, GPU and TPU, decided in one place."""

import contextlib
import hashlib
import os
import platform as machine
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

_DEV = Path("/dev")


@dataclass(frozen=True)
class BackendChoices:
    """What the same program does differently per kind of device, as measured in docs/design.md."""

    custom_conv_gradient: bool
    """Convolutions carry their own gradient (`jaxnas.nn.conv`): XLA's is slow in loops on CPUs."""

    image_by_image: bool
    """Sums of shifted images run over the batch one image at a time, to stay in the cache."""

    shared_prefix_rows: int
    """Rows of a chunk of the shared-prefix executor: temporaries of tens of MB cost page faults."""

    unroll_shared_rows: bool
    """Whether such a chunk is written out row by row (no copies to stack operands) or vmapped."""

    map_batch_size: int | None
    """`batch_size` of `lax.map` over architectures. None on CPUs, where any integer vmaps and
    turns `lax.switch` into a select that computes every branch."""


def choices(platform: str | None = None) -> BackendChoices:
    """The choices for a JAX platform ("cpu", "gpu", "tpu", ...), by default the one in use."""
    platform = platform or _pretended.get()
    if platform is None:
        import jax

        platform = jax.default_backend()
    if platform == "cpu":
        return BackendChoices(
            custom_conv_gradient=True,
            image_by_image=True,
            shared_prefix_rows=8,
            unroll_shared_rows=True,
            map_batch_size=None,
        )
    return BackendChoices(
        custom_conv_gradient=False,
        image_by_image=False,
        shared_prefix_rows=64,
        unroll_shared_rows=False,
        map_batch_size=16,
    )


_pretended: ContextVar[str | None] = ContextVar("platform", default=None)


@contextlib.contextmanager
def traced_for(platform: str) -> Iterator[None]:
    """Within it, what is traced takes the choices of another platform than the one in use."""
    token = _pretended.set(platform)
    try:
        yield
    finally:
        _pretended.reset(token)


def unused_accelerator() -> str | None:
    """A sentence for the user when this machine has a GPU or TPU that JAX does not run on.

    None when JAX runs on an accelerator, when there is none, or when the user chose the CPU
    (`JAX_PLATFORMS=cpu`, or no device in `CUDA_VISIBLE_DEVICES`).
    """
    import jax

    if jax.default_backend() != "cpu" or (jax.config.jax_platforms or "").startswith("cpu"):
        return None
    if _has_nvidia_gpu():
        found, extra, plugins = "An NVIDIA GPU", "cuda", ["jax_cuda13_plugin", "jax_cuda12_plugin"]
    elif _has_tpu():
        found, extra, plugins = "A TPU", "tpu", ["libtpu"]
    else:
        return None
    if any(find_spec(p) for p in plugins):
        return (
            f"{found} is present but JAX runs on the CPU although its plug-in is installed; "
            f"`python -c 'import jax; jax.devices(\"{extra}\")'` says why."
        )
    return (
        f"{found} is present but JAX runs on the CPU; to use it, install the extra "
        f"`jaxnas[{extra}]` (for example `pip install 'jaxnas[{extra}]'`)."
    )


def _has_nvidia_gpu() -> bool:
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return False
    if any(_DEV.glob("nvidia[0-9]*")):
        return True
    command = shutil.which("nvidia-smi")
    if command is None:
        return False
    try:
        listed = subprocess.run([command, "-L"], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return listed.returncode == 0 and "GPU 0" in listed.stdout


def _has_tpu() -> bool:
    if any(_DEV.glob("accel[0-9]*")):
        return True
    # Other devices use vfio too, so it takes a sign that this is a TPU machine.
    names = ("TPU_NAME", "TPU_WORKER_ID", "TPU_ACCELERATOR_TYPE", "TPU_SKIP_MDS_QUERY")
    hinted = any(n in os.environ for n in names) or find_spec("libtpu") is not None
    return hinted and any((_DEV / "vfio").glob("[0-9]*"))


MOST_CPU_DEVICES = 4
"""Each holds a copy of the images; larger networks use the other cores inside an operation."""


def deal_out_over_cores() -> None:
    """Let JAX see a CPU device for each core, up to `MOST_CPU_DEVICES`.

    Small networks keep one core busy, so that candidates dealt out over devices train up to so many times
    as fast. Nothing is changed where the user has said how many there are (`JAX_NUM_CPU_DEVICES`,
    or `--xla_force_host_platform_device_count` in `XLA_FLAGS`) or JAX is running already.
    """
    import jax

    chosen = jax.config.jax_num_cpu_devices >= 0
    chosen |= "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    if chosen:
        return
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    # JAX is running: its devices cannot be changed any more.
    with contextlib.suppress(RuntimeError):
        jax.config.update("jax_num_cpu_devices", min(cores, MOST_CPU_DEVICES))


def enable_compilation_cache() -> Path | None:
    """Keep every compiled program on disk, so that the next run need not compile it.

    In `JAX_COMPILATION_CACHE_DIR` where that is set, else in the user's cache folder, one folder
    per kind of processor: a program compiled for another's instructions could crash here.

    Returns:
        The folder; None, and nothing is changed, when it is not writable.
    """
    import jax
    from jax.experimental.compilation_cache import compilation_cache

    given = jax.config.jax_compilation_cache_dir
    folder = Path(given).expanduser() if given else _user_cache() / "jaxnas" / _processor()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError:
        return None
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    compilation_cache.reset_cache()  # JAX looks for the folder once, at the first compilation
    return folder


def _user_cache() -> Path:
    if os.environ.get("XDG_CACHE_HOME"):
        return Path(os.environ["XDG_CACHE_HOME"])
    if sys.platform == "win32" and os.environ.get("LOCALAPPDATA"):
        return Path(os.environ["LOCALAPPDATA"])
    return Path.home() / ("Library/Caches" if sys.platform == "darwin" else ".cache")


def _processor() -> str:
    """A short name of the kind of processor and the instructions it has."""
    described = machine.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        lines = cpuinfo.read_text(errors="replace").splitlines()
        described = next((s for s in lines if s.lower().startswith(("flags", "features"))), "")
    return f"{machine.machine()}-{hashlib.sha256(described.encode()).hexdigest()[:8]}"
