"""Costs: measured per chunk, summed per step, in no digest; energy only where the driver tells it."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

import pyarrow as pa
import pytest
from PIL import Image

from ltgc_local.runs import costs
from ltgc_local.runs.costs import Meter, add_costs, read_joules
from ltgc_local.runs.directory import RunDirectory
from ltgc_local.runs.files import GeneratedImage, Images, ImageTable, Json, encode_png
from ltgc_local.runs.schemas import Costs

FACTS = {"items": 1, "seconds": 0.0, "peak_mib": 0}
#: A driver's library for two GPUs, of which the second is too old to count its energy.
DRIVER = """
#include <string.h>
typedef void *dev;
static unsigned long long used = 5000;
int nvmlInit_v2(void) { return 0; }
int nvmlDeviceGetCount_v2(unsigned *n) { *n = 2; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned i, dev *d) { *d = (dev)(unsigned long)(i + 1); return 0; }
int nvmlDeviceGetUUID(dev d, char *name, unsigned n) { strcpy(name, d == (dev)1 ? "GPU-aa-1" : "GPU-bb-2"); return 0; }
int nvmlDeviceGetTotalEnergyConsumption(dev d, unsigned long long *e) {
    *e = used; used += 2500;
    return d == (dev)1 ? 0 : 3;
}
"""


def busy(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def test_a_meter_tells_each_chunks_own_time_tokens_and_images() -> None:
    images = [GeneratedImage(encode_png(Image.new("L", (2, 2))), 0, "a", i, "", 0, 1) for i in range(3)]
    meter = Meter()
    busy(0.2)
    first = meter.read([Images("images", images), Json("x", 1)], (100, 20))
    time.sleep(0.2)
    second = meter.read([Json("x", 1)], (130, 25))
    assert 0.19 < first.cpu_seconds < 2 and second.cpu_seconds < 0.1
    assert (first.tokens_read, first.tokens_written, first.images) == (100, 20, 3)
    assert (second.tokens_read, second.tokens_written, second.images) == (30, 5, 0)
    table = pa.table({"image": [b""] * 4})
    assert meter.read([ImageTable("images", table), Images("images", images)], (130, 25)).images == 4 + 3
    assert (first.gpu_seconds, first.gpu_joules) == (0, None)


def test_what_one_of_several_processes_writes_counts_for_all() -> None:
    meter = Meter(processes=3)
    busy(0.1)
    assert meter.read([], (0, 0)).cpu_seconds > 0.29


def test_energy_is_summed_only_where_every_gpu_tells() -> None:
    known, unknown, cpu = Costs(gpu_seconds=2, gpu_joules=50), Costs(gpu_seconds=2), Costs(cpu_seconds=1.5)
    assert add_costs([known, cpu, known]) == Costs(cpu_seconds=1.5, gpu_seconds=4, gpu_joules=100)
    assert add_costs([known, unknown]).gpu_joules is None
    assert add_costs([]) == Costs()


def test_a_steps_costs_are_its_chunks_and_change_no_digest(tmp_path: Path) -> None:
    plain, metered = RunDirectory(tmp_path / "plain"), RunDirectory(tmp_path / "metered")
    for number in range(2):
        plain.write_chunk("draw", number, [Json("x", "y" * 10)], FACTS)
        facts = FACTS | {"costs": Costs(cpu_seconds=1.25, tokens_read=7, images=4).model_dump()}
        metered.write_chunk("draw", number, [Json("x", "y" * 10)], facts)
    for run in (plain, metered):
        run.write_manifest("draw", {}, 2, 0)
    manifest, without = metered.manifest("draw"), plain.manifest("draw")
    assert manifest is not None and without is not None
    assert manifest.costs == Costs(cpu_seconds=2.5, tokens_read=14, images=8, bytes=26)  # quotes and line ends, twice
    assert without.costs == Costs(bytes=26)
    assert plain.digest("draw") == metered.digest("draw")


@pytest.mark.skipif(shutil.which("gcc") is None, reason="no compiler")
def test_the_drivers_counter_is_read_by_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nvml.c").write_text(DRIVER)
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", tmp_path / "nvml.so", tmp_path / "nvml.c"], check=True)
    monkeypatch.setattr(costs, "NVML", str(tmp_path / "nvml.so"))
    costs._load_nvml.cache_clear()
    try:
        assert read_joules() == {"aa-1": 5.0}
        assert read_joules() == {"aa-1": 10.0}
        monkeypatch.setattr(costs, "_gpus_in_use", lambda: ["aa-1"])
        meter = Meter()  # reads 15 J
        found = meter.read([], (0, 0))
        assert found.gpu_joules == 5.0 and found.gpu_seconds >= 0
        monkeypatch.setattr(costs, "_gpus_in_use", lambda: ["aa-1", "bb-2"])
        assert meter.read([], (0, 0)).gpu_joules is None
    finally:
        costs._load_nvml.cache_clear()


def test_without_a_driver_no_energy_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(costs, "NVML", "libthere-is-none.so.1")
    costs._load_nvml.cache_clear()
    try:
        assert read_joules() == {}
    finally:
        costs._load_nvml.cache_clear()
