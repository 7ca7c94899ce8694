"""An allocation of several nodes: what the environment says of it, and which worker goes where."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ltgc_local.errors import BackendError
from ltgc_local.pipeline.executors.allocation import (
    Allocation,
    Node,
    expand_counts,
    expand_nodes,
    find_allocation,
    job_number,
)
from ltgc_local.pipeline.executors.local import Order
from ltgc_local.pipeline.executors.slurm import SlurmExecutor, machine_of
from ltgc_local.pipeline.needs import Needs
from ltgc_local.pipeline.placement import Candidate, Machine, place

#: What a batch script of SLURM 22.05 finds on the first of two nodes.
VARIABLES = {
    "SLURM_JOB_ID": "60",
    "SLURM_JOB_NODELIST": "n[1-2]",
    "SLURM_JOB_CPUS_PER_NODE": "16(x2)",
    "SLURM_GPUS_ON_NODE": "4",
    "SLURM_MEM_PER_NODE": "64000",
    "SLURMD_NODENAME": "n1",
    "SLURM_PROCID": "0",
}
TWO = Allocation("60", (Node("n1", 16, 4), Node("n2", 16, 4)), "n1", 64000)


def test_an_allocation_is_read_from_the_environment() -> None:
    assert find_allocation(VARIABLES) == TWO
    machine = machine_of(TWO, 1000, use_gpus=True)
    assert (machine.cores, len(machine.gpus), machine.memory_mib) == (32, 8, 128000)
    assert machine.gpus[3:5] == ("n1|3", "n2|0")
    assert machine_of(TWO, 1000, use_gpus=False).gpus == ()


@pytest.mark.parametrize(
    "change",
    [{"SLURM_JOB_ID": ""}, {"SLURM_JOB_NODELIST": "n1"}, {"SLURM_STEP_ID": "3"}],
    ids=["outside of a job", "on one node", "as one of several processes"],
)
def test_there_is_no_allocation_to_spread_over(change: dict[str, str]) -> None:
    assert find_allocation({**VARIABLES, **change}) is None


def test_variables_that_do_not_fit_are_an_error() -> None:
    with pytest.raises(BackendError, match="SLURM_JOB_CPUS_PER_NODE does not fit the nodes"):
        find_allocation({**VARIABLES, "SLURM_JOB_CPUS_PER_NODE": "16"})
    with pytest.raises(BackendError, match="not a list of nodes"):
        find_allocation({**VARIABLES, "SLURM_JOB_NODELIST": "n[1-x]"})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("n1", ["n1"]),
        ("n[1-3]", ["n1", "n2", "n3"]),
        ("n[08-10,12],m7", ["n08", "n09", "n10", "n12", "m7"]),
        ("r[1-2]n[1-2]", ["r1n1", "r1n2", "r2n1", "r2n2"]),
        ("gpu-a[1-2]-ib,login.x", ["gpu-a1-ib", "gpu-a2-ib", "login.x"]),
    ],
)
def test_a_list_of_nodes_is_expanded(text: str, expected: list[str]) -> None:
    assert expand_nodes(text) == expected


@pytest.mark.parametrize("text", ["n[1-99999999]", "n[1-9999]m[1-9999]", "n[1-2", "n[a]", "a b"])
def test_what_is_no_list_of_nodes_is_refused(text: str) -> None:
    with pytest.raises(BackendError, match="not a list of nodes"):
        expand_nodes(text)


def test_counts_are_expanded() -> None:
    assert expand_counts("4(x2),2") == [4, 4, 2] and expand_counts("8") == [8] and expand_counts("x") == []


def test_a_task_of_an_array_is_named_by_both_numbers() -> None:
    assert job_number({"SLURM_JOB_ID": "9"}) == "9" and job_number({}) is None
    assert job_number({"SLURM_JOB_ID": "9", "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "3"}) == "7_3"


def test_a_workers_gpus_are_all_on_one_node() -> None:
    machine = Machine(32, ("n1|0", "n1|1", "n1|2", "n2|0", "n2|1", "n2|2"), 10**6)
    workers = place(machine, [], [Candidate("a", Needs(gpus=2, most=None), 1, wanted=4)])
    assert [worker.gpus for worker in workers] == [("n1|0", "n1|1"), ("n2|0", "n2|1")]
    together = place(machine, [], [Candidate("a", Needs(gpus=1, processes=4), 1)])
    assert [worker.gpus for worker in together] == [("n1|0",), ("n1|1",), ("n1|2",), ("n2|0",)]


@pytest.fixture
def srun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for srun that writes down its arguments and what it is told by variables."""
    path = tmp_path / "srun"
    path.write_text(f'#!/bin/sh\necho "$@ :: $MASTER_ADDR $MASTER_PORT $LOCAL_RANK $RANK" >> {tmp_path}/calls\n')
    path.chmod(0o755)
    monkeypatch.setenv("SLURM_CONF", str(tmp_path / "none"))
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    return tmp_path / "calls"


def run_orders(allocation: Allocation, orders: list[Order], calls: Path) -> list[str]:
    with SlurmExecutor(allocation) as executor:
        tickets = {executor.start(order) for order in orders}
        while tickets:
            tickets -= {ended.ticket for ended in executor.wait(10)}
    return sorted(
        calls.read_text().splitlines(), key=lambda line: int(line.partition("ltgc-")[2].split("-")[1].split()[0])
    )


def test_a_worker_sees_its_own_gpus_of_its_node(srun: Path) -> None:
    first, second = run_orders(
        TWO,
        [Order(Path("/r"), "draw", 0, gpus=("n1|3",)), Order(Path("/r"), "draw", 1, gpus=("n2|0", "n2|1"), nice=5)],
        srun,
    )
    assert "--nodelist=n1 " in first and "--gres=gpu:4" in first and " env CUDA_VISIBLE_DEVICES=3 " in first
    assert "--nodelist=n2 " in second and " env CUDA_VISIBLE_DEVICES=0,1 nice -n 5 " in second
    assert "ltgc_local.pipeline.worker /r draw 1 1 warning" in second


def test_workers_on_cpus_go_where_cores_are_free(srun: Path) -> None:
    nodes = (Node("n1", 4, 0), Node("n2", 2, 0))
    orders = [Order(Path("/r"), "draw", number, threads=2) for number in range(3)]
    lines = run_orders(Allocation("60", nodes, "n1"), orders, srun)
    assert [line.partition("--nodelist=")[2].split()[0] for line in lines] == ["n1", "n1", "n2"]
    assert all("--gres" not in line for line in lines)


def test_the_processes_of_a_training_meet_at_the_first_ones_node(srun: Path) -> None:
    gpus = ("n2|2", "n2|3", "n1|0")
    orders = [
        Order(Path("/r"), "train/ltgc", rank, 3, gpus=gpus, environment={"RANK": str(rank), "GLOO_SOCKET_IFNAME": "lo"})
        for rank in range(3)
    ]
    lines = run_orders(TWO, orders, srun)
    told = [line.partition(":: ")[2].split() for line in lines]
    assert {words[0] for words in told} == {"n2"} and len({words[1] for words in told}) == 1
    assert [(words[2], words[3]) for words in told] == [("0", "0"), ("1", "1"), ("0", "2")]
    assert "CUDA_VISIBLE_DEVICES=2,3 " in lines[0] and "CUDA_VISIBLE_DEVICES=0 " in lines[2]
