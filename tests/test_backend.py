"""What `jaxnas.backend` chooses, tells and sets."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest
from jax.experimental.compilation_cache import compilation_cache

from jaxnas import backend

DEVICES = """
import jax
from jaxnas import backend
if {running}: jax.devices()
backend.deal_out_over_cores()
print(len(jax.devices()))
"""


@pytest.mark.parametrize(
    ("settings", "running", "devices"),
    [
        ({}, False, min(backend.MOST_CPU_DEVICES, len(os.sched_getaffinity(0)))),
        ({"JAX_NUM_CPU_DEVICES": "3"}, False, 3),
        ({"XLA_FLAGS": "--xla_force_host_platform_device_count=5"}, False, 5),
        ({}, True, 1),
    ],
)
def test_cores_are_devices_unless_the_user_has_said_how_many(settings, running, devices):
    usual = {k: v for k, v in os.environ.items() if k not in ("JAX_NUM_CPU_DEVICES", "XLA_FLAGS")}
    program = [sys.executable, "-c", DEVICES.format(running=running)]
    environment = usual | {"JAX_PLATFORMS": "cpu"} | settings
    ran = subprocess.run(program, env=environment, capture_output=True, text=True, check=True)
    assert int(ran.stdout) == devices


@pytest.fixture
def config(monkeypatch):
    """JAX's configuration as if the user had set nothing, restored afterwards."""
    names = ["compilation_cache_dir", "persistent_cache_min_compile_time_secs"]
    names += ["persistent_cache_min_entry_size_bytes", "platforms"]
    before = {f"jax_{n}": getattr(jax.config, f"jax_{n}") for n in names}
    for name in ("CUDA_VISIBLE_DEVICES", "TPU_NAME", "TPU_WORKER_ID"):
        monkeypatch.delenv(name, raising=False)
    jax.config.update("jax_compilation_cache_dir", None)
    jax.config.update("jax_platforms", None)
    yield jax.config
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


def test_the_compilation_cache_fills_and_respects_a_given_folder(config, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = backend.enable_compilation_cache()
    assert folder is not None
    assert folder.is_relative_to(tmp_path / "cache" / "jaxnas")
    jax.jit(lambda x: jnp.sin(x) * 3.25)(jnp.ones(7))
    assert any(folder.iterdir())
    config.update("jax_compilation_cache_dir", str(tmp_path / "given"))
    assert backend.enable_compilation_cache() == tmp_path / "given"


def test_an_unwritable_cache_changes_nothing(config, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert backend.enable_compilation_cache() is None
    assert config.jax_compilation_cache_dir is None


@pytest.mark.parametrize(("device", "extra"), [("nvidia0", "cuda"), ("accel0", "tpu")])
def test_an_unused_accelerator_is_said(config, device, extra, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(backend, "find_spec", lambda name: None)
    monkeypatch.setattr(backend, "_DEV", tmp_path)
    assert backend.unused_accelerator() is None
    (tmp_path / device).touch()
    assert f"install the extra `jaxnas[{extra}]`" in str(backend.unused_accelerator())
    monkeypatch.setattr(backend, "find_spec", lambda name: name)
    assert f'jax.devices("{extra}")' in str(backend.unused_accelerator())
    config.update("jax_platforms", "cpu")
    assert backend.unused_accelerator() is None


def test_nvidia_smi_is_asked_where_no_device_file_is(config, tmp_path, monkeypatch):
    monkeypatch.setattr(backend, "_DEV", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    command = tmp_path / "nvidia-smi"
    for listed, found in [("GPU 0: T4", True), ("No devices were found", False)]:
        command.write_text(f"#!/bin/sh\necho '{listed}'\n")
        command.chmod(0o755)
        assert (backend.unused_accelerator() is not None) is found
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    command.write_text("#!/bin/sh\necho 'GPU 0: T4'\n")
    assert backend.unused_accelerator() is None


def test_choices_leave_the_switch_a_switch_on_the_cpu():
    assert backend.choices() == backend.choices(jax.default_backend())
    assert backend.choices("cpu").map_batch_size is None
    assert backend.choices("tpu").map_batch_size == backend.choices("gpu").map_batch_size == 16
    assert backend.choices("cpu").shared_prefix_rows < backend.choices("gpu").shared_prefix_rows
