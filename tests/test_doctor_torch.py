"""What torch is asked in a process of its own, and what is made of its answers, good and bad."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from surroundings import files, needs, surroundings, told

from runner import machine
from runner.doctor import devices, facts
from runner.doctor.facts import Facts
from runner.doctor.finding import Finding

CPU, H100, EIGHT = machine.named("cpu:4:16"), machine.named("h100"), machine.named("h100:8")
DRIVER = "535.104.05, for CUDA up to 12.2"
# The head of `nvidia-smi`, as drivers before and after 590 print it.
HEAD = "| NVIDIA-SMI 535.104.05    Driver Version: 535.104.05   CUDA Version: 12.2     |"
NEW_HEAD = "| NVIDIA-SMI 590.44.01     KMD Driver Version: 590.44.01     CUDA UMD Version: 13.1     |"
DEVICE = {"name": "h100", "capability": [9, 0]}
GOOD: dict[str, dict[str, Any]] = {
    "torch": {"version": "2.13.0+cu130", "cuda": "13.0"},
    "cuda": {"devices": [DEVICE], "kernels": ["sm_75", "sm_80", "sm_90", "compute_120"]},
    "nccl": {"version": "2.28.9"},
}


def found(told: dict[str, dict[str, Any]], where: machine.Machine = H100, *packages: str) -> dict[str, Finding]:
    wanted = needs(Path("/x"), packages=frozenset(packages))
    return {each.name: each for each in devices.found_by_torch(Facts(told), DRIVER, wanted, where)}


# the process


def test_the_torch_that_is_installed_here() -> None:
    import torch

    answered = facts.ask(["yaml", "no_such_module"])
    assert answered.trouble is None
    assert answered.told["torch"]["version"] == torch.__version__
    assert answered.told["cuda"] == {"name": "cuda", "devices": [], "kernels": []} or torch.version.cuda is not None
    assert "error" not in answered.told["yaml"]
    assert answered.told["no_such_module"]["error"] == "ModuleNotFoundError: No module named 'no_such_module'"


def asked(folder: Path, modules: dict[str, str], seconds: float = 60.0) -> Facts:
    """The facts of a machine with these modules in the place of torch and others."""
    files(folder, {f"{name}.py": source for name, source in modules.items()})
    environment = {**os.environ, "PYTHONPATH": f"{folder}:{Path(__file__).parent.parent}"}
    return facts.ask([name for name in modules if name != "torch"], seconds, environment)


TORCH = (
    "class version: cuda = None\n__version__ = '1'\nclass distributed:\n is_available = staticmethod(lambda: False)\n"
)


def test_a_module_that_ends_the_process_hides_only_what_comes_after_it(tmp_path: Path) -> None:
    answered = asked(
        tmp_path, {"torch": TORCH, "good": "print('noise')", "dies": "import os; os.kill(os.getpid(), 11)"}
    )
    assert answered.trouble == "the process that asks torch died of SIGSEGV"
    assert list(answered.told) == ["torch", "cuda", "nccl", "good"]


def test_a_module_that_hangs(tmp_path: Path) -> None:
    started = time.monotonic()
    answered = asked(tmp_path, {"torch": TORCH, "hangs": "import time; time.sleep(600)"}, seconds=5)
    assert answered.trouble == "no answer within 5 seconds" and time.monotonic() - started < 60
    assert "hangs" not in answered.told


def test_a_torch_that_raises_or_exits(tmp_path: Path) -> None:
    for source, error in (
        ("raise OSError('libcudart.so.13: cannot open shared object file')", "OSError: libcudart.so.13: cannot open"),
        ("raise SystemExit(3)", "SystemExit: 3"),
    ):
        answered = asked(tmp_path, {"torch": source})
        assert answered.trouble is None and answered.told["torch"]["error"].startswith(error)
        finding = devices.found_by_torch(answered, DRIVER, needs(tmp_path), CPU)[0]
        assert finding.status == "fault" and finding.found.startswith(f"cannot be imported: {error}")


def test_asking_torch_leaves_this_process_light(tmp_path: Path) -> None:
    program = "import sys; from runner.doctor import examination; print('torch' in examination.ask_torch().told); "
    done = subprocess.run(
        [sys.executable, "-c", program + "print('torch' in sys.modules)"],
        env={**os.environ, "PYTHONPATH": str(files(tmp_path, {"torch.py": TORCH}))},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("True\nFalse\n", "")


# what is made of it


def test_a_machine_in_order() -> None:
    assert [told(each) for each in found(GOOD).values()] == [
        ("torch", "ok", "2.13.0+cu130, built for CUDA 13.0, has used each device"), ("NCCL", "ok", "2.28.9"),
    ]  # fmt: skip
    assert told(found(GOOD, CPU)["torch"]) == ("torch", "ok", "2.13.0+cu130, built for CUDA 13.0")


def test_a_build_for_cpus_beside_devices() -> None:
    for_cpus = {"torch": {"version": "2.13.0+cpu", "cuda": None}, "cuda": {"devices": [], "kernels": []}}
    assert told(found(for_cpus)["torch"]) == ("torch", "fault", "2.13.0+cpu, built for CPUs, beside CUDA devices")
    assert told(found(for_cpus, CPU)["torch"]) == ("torch", "ok", "2.13.0+cpu, built for CPUs")


@pytest.mark.parametrize(
    "error",
    [
        "RuntimeError: The NVIDIA driver on your system is too old (found version 12020). Please update it",
        "RuntimeError: CUDA error: CUDA driver version is insufficient for CUDA runtime version",
        "RuntimeError: Unexpected error from cudaGetDeviceCount(). Error 803: system has unsupported display driver",
    ],
)
def test_a_driver_that_is_too_old(error: str) -> None:
    finding = found({**GOOD, "cuda": {"error": error}})["torch"]
    text = "CUDA driver version is insufficient: 2.13.0+cu130, built for CUDA 13.0, and the driver is " + DRIVER
    assert told(finding) == ("torch", "fault", text)
    assert finding.hint is not None and "update the host's driver to one for CUDA 13.0" in finding.hint


def test_devices_that_cannot_be_used() -> None:
    busy = found({**GOOD, "cuda": {"error": "AcceleratorError: CUDA error: all CUDA-capable devices are busy"}})[
        "torch"
    ]
    assert busy.status == "fault" and busy.found.endswith("cannot use the devices: " + (
        "AcceleratorError: CUDA error: all CUDA-capable devices are busy"
    ))  # fmt: skip
    assert found(GOOD, EIGHT)["torch"].found.endswith("cannot use the devices: it sees 1 of 8 devices")


@pytest.mark.parametrize(
    ("capability", "kernels", "can"),
    [
        ([7, 0], ["sm_75", "sm_80", "compute_120"], False), ([8, 9], ["sm_80"], True), ([8, 0], ["sm_86"], False),
        ([9, 0], ["sm_80", "sm_90a"], True), ([12, 0], ["sm_90", "compute_90"], True), ([10, 0], ["sm_90"], False),
        ([9, 0], [], True),
    ],
)  # fmt: skip
def test_the_kernels_of_a_build(capability: list[int], kernels: list[str], can: bool) -> None:
    cuda = {"devices": [{"name": "h100", "capability": capability}], "kernels": kernels}
    assert ("kernels" in found({**GOOD, "cuda": cuda})) != can


def test_nccl_is_for_several_devices() -> None:
    without = {**GOOD, "cuda": {"devices": [DEVICE] * 8, "kernels": []}, "nccl": {"version": None}}
    assert told(found(without, EIGHT)["NCCL"]) == ("NCCL", "fault", "not in this build of torch")
    assert found({**without, "cuda": GOOD["cuda"]})["NCCL"].status == "missing"
    broken = {**without, "nccl": {"error": "ImportError: libnccl.so.2"}}
    assert found(broken, EIGHT)["NCCL"].found == "cannot be loaded: ImportError: libnccl.so.2"


def test_a_package_that_was_built_for_another_torch() -> None:
    broken = {**GOOD, "flash_attn": {"error": "ImportError: flash_attn_2_cuda.so: undefined symbol: _ZN3c104cuda"}}
    assert found(broken)["flash-attn"].status == "warning"
    finding = found(broken, H100, "flash-attn")["flash-attn"]
    assert finding.status == "fault" and finding.found.startswith(
        "installed, and cannot be imported: ImportError: flash"
    )
    assert told(found({**GOOD, "bitsandbytes": {"version": "0.49.1"}})["bitsandbytes"])[1] == "ok"


# the driver


def test_the_head_of_the_drivers_program() -> None:
    assert told(devices.driver(HEAD)) == ("driver", "ok", DRIVER)
    assert told(devices.driver(NEW_HEAD)) == ("driver", "ok", "590.44.01, for CUDA up to 13.1")
    assert devices.driver("").status == "warning"


def test_devices_as_the_driver_tells_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def findings(where: machine.Machine, wants: bool = False, **environment: str) -> list[tuple[str, str, str]]:
        around = surroundings(tmp_path, **environment)
        return [told(each) for each in devices.found_by_driver(around, needs(tmp_path, devices=wants), where)]

    program = tmp_path / "nvidia-smi"
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert findings(CPU) == [("devices", "missing", "none: training runs on the CPU")]
    assert findings(CPU, wants=True) == [("devices", "fault", "none, and this recipe needs CUDA devices")]
    files(tmp_path, {"dev/nvidia0": "", "dev/nvidia1": "", "dev/nvidiactl": ""})
    assert findings(CPU) == [("devices", "warning", "2 that cannot be asked: `nvidia-smi` is not there")]
    program.write_text(f"#!/bin/sh\necho '{HEAD}'\n")
    program.chmod(0o755)
    assert findings(EIGHT) == [("devices", "ok", "8 × h100 (80.0 GiB)"), ("driver", "ok", DRIVER)]
    in_no_parts = ("devices", "warning", "none of those that `nvidia-smi` lists can be used")
    assert findings(CPU) == [in_no_parts, ("driver", "ok", DRIVER)]
    assert findings(CPU, CUDA_VISIBLE_DEVICES="9")[0] == ("devices", "warning", "none: `CUDA_VISIBLE_DEVICES` is `9`")
    program.write_text("#!/bin/sh\necho 'Failed to initialize NVML: Driver/library version mismatch'; exit 18\n")
    text = "2 that cannot be asked: `nvidia-smi` ended with code 18: "
    text += "Failed to initialize NVML: Driver/library version mismatch"
    assert findings(CPU, wants=True) == [("devices", "fault", text)]
