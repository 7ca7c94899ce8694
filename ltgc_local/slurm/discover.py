"""What SLURM says about a cluster: its partitions and limits, and the site profile that fits them.

Parsing is separate from asking, so that it is tested on what clusters have printed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ltgc_local.slurm.commands import ask
from ltgc_local.slurm.profile import CpuJobs, GpuJobs, Limits, Profile, TrainingJobs, seconds_of

#: Columns of sinfo: partition, its state, time limit, nodes, CPUs and MiB of a node, its GPUs, its features.
SINFO_FORMAT = "%P|%a|%l|%D|%c|%m|%G|%f"
GPUS = re.compile(r"\bgpu(?::(?P<type>[A-Za-z][A-Za-z0-9_.-]*))?:(?P<number>[0-9]+)")
LONGEST_S = 24 * 3600  # a job of more than a day is asked for by hand
MAX_FEATURES = 8  # of a partition, in the comments


@dataclass(frozen=True)
class Partition:
    """A partition; of differing nodes the smallest numbers and the first GPUs."""

    name: str
    is_default: bool
    time: str | None  # its limit; None if there is none
    nodes: int
    cpus: int
    memory_mib: int
    gpus: int
    gpu: str | None
    features: tuple[str, ...]

    def __str__(self) -> str:
        gpus = f", {self.gpus} GPUs{f' ({self.gpu})' if self.gpu else ''} per node" if self.gpus else ""
        features = f", features {', '.join(self.features[:MAX_FEATURES])}" if self.features else ""
        size = f"{self.nodes} nodes, {self.cpus} CPUs and {self.memory_mib // 1024} GiB per node{gpus}"
        default = " (default)" if self.is_default else ""
        return f"{self.name}{default}: {size}, time limit {self.time or 'none'}{features}"


@dataclass(frozen=True)
class Cluster:
    """What the cluster's commands say; what they do not is None or empty."""

    name: str | None = None
    partitions: tuple[Partition, ...] = ()
    max_array_size: int | None = None
    max_jobs: int | None = None
    account: str | None = None


def ask_cluster(user: str) -> Cluster | None:
    """Ask SLURM what it is like here; None where it does not answer."""
    partitions = ask(["sinfo", "--noheader", f"--format={SINFO_FORMAT}"])
    if partitions is None:
        return None
    config = parse_config(ask(["scontrol", "show", "config"]) or "")
    columns = "format=DefaultAccount,MaxSubmitJobs"
    accounting = ask(["sacctmgr", "--noheader", "--parsable2", "show", "assoc", f"user={user}", columns]) or ""
    account, limit = parse_accounting(accounting)
    array_size = config.get("MaxArraySize", "")
    return Cluster(
        config.get("ClusterName"),
        parse_partitions(partitions),
        int(array_size) if array_size.isdecimal() else None,
        limit,
        account,
    )


def parse_config(text: str) -> dict[str, str]:
    """Return the settings that ``scontrol show config`` prints, by name."""
    pairs = (line.partition("=") for line in text.splitlines() if " = " in line)
    return {name.strip(): value.strip() for name, _, value in pairs}


def parse_partitions(text: str) -> tuple[Partition, ...]:
    """Return the partitions that are up, from sinfo's lines, of which there is one per kind of node."""
    found: dict[str, Partition] = {}
    for line in text.splitlines():
        words = line.strip().split("|")
        if len(words) != 8 or words[1] != "up":
            continue
        name, _, limit, nodes, cpus, memory, gres, features = words
        gpus = GPUS.search(gres)
        new = Partition(
            name.rstrip("*"),
            name.endswith("*"),
            None if limit in ("infinite", "n/a") else _clock(limit),
            _number(nodes),
            _number(cpus),
            _number(memory),
            int(gpus["number"]) if gpus else 0,
            gpus["type"] if gpus else None,
            () if features in ("(null)", "") else tuple(features.split(",")),
        )
        old = found.get(new.name)
        found[new.name] = new if old is None else _both(old, new)
    return tuple(found.values())


def parse_accounting(text: str) -> tuple[str | None, int | None]:
    """Return a user's default account, and the smallest number of jobs that any association lets them submit."""
    rows = [line.split("|") for line in text.splitlines() if line.count("|") == 1]
    accounts = [account for account, _ in rows if account]
    limits = [int(limit) for _, limit in rows if limit.isdecimal()]
    return (accounts[0] if accounts else None), min(limits, default=None)


def fit_profile(cluster: Cluster) -> Profile:
    """Return the profile that fits a cluster: GPU jobs where the most GPUs are, others where there are none."""
    with_gpus = [each for each in cluster.partitions if each.gpus]
    without = [each for each in cluster.partitions if not each.gpus] or list(cluster.partitions)
    profile = Profile(account=cluster.account, limits=_limits(cluster))
    updates: dict[str, object] = {"name": cluster.name} if cluster.name and _is_name(cluster.name) else {}
    if without:
        cpu = max(without, key=lambda each: (each.is_default, each.nodes))
        cpus = min(profile.cpu.cpus, cpu.cpus)
        updates["cpu"] = CpuJobs(
            partition=cpu.name, time=_time(cpu, profile.cpu.time), cpus=cpus, memory=_memory(cpu, cpus, 16)
        )
    if with_gpus:
        gpu = max(with_gpus, key=lambda each: (each.gpus * each.nodes, each.is_default))
        cpus = max(1, min(profile.gpu.cpus, gpu.cpus // gpu.gpus))
        shared = {"partition": gpu.name, "cpus": cpus, "memory": _memory(gpu, cpus, 64), "gpu": gpu.gpu}
        workers = min(64, gpu.gpus * gpu.nodes)
        updates["gpu"] = GpuJobs(**shared, time=_time(gpu, profile.gpu.time), workers=workers)  # type: ignore[arg-type]
        time = _time(gpu, profile.training.time)
        updates["training"] = TrainingJobs(**shared, time=time, per_node=gpu.gpus)  # type: ignore[arg-type]
    elif without:
        shared = {"partition": cpu.name, "cpus": cpus, "memory": _memory(cpu, cpus, 16)}
        updates["gpu"] = GpuJobs(**shared, time=_time(cpu, profile.gpu.time))  # type: ignore[arg-type]
        updates["training"] = TrainingJobs(**shared, time=_time(cpu, profile.training.time), per_node=1)  # type: ignore[arg-type]
    return profile.model_copy(update=updates)


def _limits(cluster: Cluster) -> Limits:
    found: dict[str, int] = {}
    if cluster.max_array_size is not None and cluster.max_array_size >= 2:
        found["max_array_size"] = cluster.max_array_size
    if cluster.max_jobs:
        found["max_jobs"] = cluster.max_jobs
    return Limits(**found)


def _is_name(text: str) -> bool:
    return re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", text) is not None


def _time(partition: Partition, wanted: str) -> str:
    """Return the time that is wanted, or the partition's limit if that is less, a day at most."""
    if partition.time is None or seconds_of(partition.time) > LONGEST_S:
        return wanted
    return min(wanted, partition.time, key=seconds_of)


def _memory(partition: Partition, cpus: int, at_most_gib: int) -> str | None:
    """Return a process's share of a node's memory; None where sinfo does not know it."""
    share = partition.memory_mib * cpus // max(1, partition.cpus)
    if share <= 1:
        return None
    return f"{at_most_gib}G" if share >= at_most_gib * 1024 else f"{share}M"


def _clock(limit: str) -> str:
    """Return sinfo's time limit (D-HH:MM:SS, HH:MM:SS or MM:SS) as a profile has it."""
    return f"00:{limit}" if limit.count(":") == 1 and "-" not in limit else limit


def _number(text: str) -> int:
    digits = re.match(r"[0-9]+", text)  # "64+" is 64 or more
    return int(digits[0]) if digits else 0


def _both(old: Partition, new: Partition) -> Partition:
    gpus = old if old.gpus or not new.gpus else new
    return Partition(
        old.name,
        old.is_default,
        old.time,
        old.nodes + new.nodes,
        min(old.cpus, new.cpus),
        min(old.memory_mib, new.memory_mib),
        gpus.gpus,
        gpus.gpu,
        tuple(dict.fromkeys(old.features + new.features)),
    )


def describe(cluster: Cluster) -> Sequence[str]:
    """Return a line for each partition, for the comments of a profile."""
    return [str(partition) for partition in cluster.partitions]


def as_mapping(profile: Profile) -> Mapping[str, object]:
    """Return the keys of a profile that differ from the defaults."""
    return profile.model_dump(exclude_defaults=True)
