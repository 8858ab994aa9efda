"""A CUDA device without data: with it, a build of torch for CPUs computes shapes, types and devices of a GPU's tensors.

`load_device` has to run before torch is imported, in a process of its own, for it cannot be undone. After it and
`claim_device`, tensors may be created on "cuda" inside `fake_mode()`: they have a shape, a type and a device but no
values, and operators on them, autograd, autocast and the optimizers do everything but compute.
"""

import ctypes
import hashlib
import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).with_name("fake_device.cpp")
COMPILER = "g++"


def has_compiler() -> bool:
    """Whether the device can be compiled on this machine."""
    return shutil.which(COMPILER) is not None


def load_device() -> None:
    """Compile the device, once per version of torch, and register it with the torch of this process."""
    found = importlib.util.find_spec("torch")
    assert found is not None and found.origin is not None
    torch_folder = Path(found.origin).parent
    ctypes.CDLL(str(_library(torch_folder)), mode=ctypes.RTLD_GLOBAL)


def _library(torch_folder: Path) -> Path:
    """The compiled device, in a folder of this user among the temporary files."""
    key = hashlib.sha256(f"{torch_folder} {importlib.metadata.version('torch')}".encode() + SOURCE.read_bytes())
    folder = Path(tempfile.gettempdir()) / f"quell-fake-cuda-{os.getuid()}"
    library = folder / f"{key.hexdigest()[:16]}.so"
    if not library.exists():
        folder.mkdir(mode=0o700, exist_ok=True)
        part = folder / f"{os.getpid()}.so"
        include, lib = torch_folder / "include", torch_folder / "lib"
        options = ["-std=c++20", "-O0", "-shared", "-fPIC", f"-I{include}", f"-I{include}/torch/csrc/api/include"]
        linked = [f"-L{lib}", "-ltorch_cpu", "-lc10", f"-Wl,-rpath,{lib}"]
        subprocess.run([COMPILER, *options, str(SOURCE), "-o", str(part), *linked], check=True)
        part.replace(library)
    return library


def claim_device() -> None:
    """Let torch, and with it accelerate, take the device for a GPU that computes in bfloat16."""
    import torch
    from torch.cuda.amp import common

    common.amp_definitely_not_available = lambda: False
    torch.cuda.is_bf16_supported = lambda including_emulation=True: True

    class HostGenerator(torch.Generator):
        """A generator on the host, whatever device is asked for: random numbers on the fake device have no values."""

        def __new__(cls, device: Any = "cpu") -> "HostGenerator":
            return super().__new__(cls, "cpu")  # type: ignore[call-arg]

        def set_state(self, state: torch.Tensor) -> torch.Generator:
            """Keep the state, for that of a rehearsed checkpoint has no values."""
            return self

    torch.Generator = HostGenerator  # type: ignore[misc]


def fake_mode() -> Any:
    """The context in which tensors on "cuda" may be created; other tensors that operators meet there become fake."""
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.fx.experimental.symbolic_shapes import ShapeEnv

    # the numbers of elements that depend on values (of a boolean index) are symbols
    shapes = ShapeEnv(allow_scalar_outputs=True, allow_dynamic_output_shape_ops=True)
    return FakeTensorMode(allow_non_fake_inputs=True, shape_env=shapes, static_shapes=True)
