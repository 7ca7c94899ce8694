"""The site profile: every problem with its line, a file that explains every key, and what a cluster says of itself."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel

from ltgc_local.errors import RecipeError
from ltgc_local.recipe.markers import iterate_fields
from ltgc_local.slurm.discover import Cluster, describe, fit_profile, parse_accounting, parse_config, parse_partitions
from ltgc_local.slurm.profile import Profile, mib_of, seconds_of
from ltgc_local.slurm.profile_text import write_profile
from ltgc_local.slurm.read_profile import default_path, parse_profile, read_profile
from tests.slurm.example import FOLDER

#: What ``sinfo --noheader --format='%P|%a|%l|%D|%c|%m|%G|%f'`` prints on clusters of different kinds.
SINFO = """\
compute*|up|1-00:00:00|120|128|256000|(null)|rome
gpu|up|2-00:00:00|30|64+|515000+|gpu:a100:4(S:0-1)|a100,ib
gpu|up|2-00:00:00|6|96|1031000|gpu:h100:8|h100
debug|up|30:00|2|64|515000|gpu:a100:4|a100
old|down|infinite|10|16|64000|gpu:4|(null)
long|up|infinite|8|128|256000|(null)|(null)
"""
CONFIG = "Configuration data as of 2026-11-28\nClusterName             = juno\nMaxArraySize            = 30001\n"


def test_partitions_are_read_with_their_gpus_and_without_those_that_are_down() -> None:
    found = {each.name: each for each in parse_partitions(SINFO)}
    assert list(found) == ["compute", "gpu", "debug", "long"]
    gpu = found["gpu"]
    assert (gpu.nodes, gpu.cpus, gpu.memory_mib, gpu.gpus, gpu.gpu) == (36, 64, 515000, 4, "a100")
    assert gpu.features == ("a100", "ib", "h100") and gpu.time == "2-00:00:00"
    assert found["compute"].is_default and found["long"].time is None
    assert found["debug"].time == "00:30:00"  # sinfo's 30:00 is half an hour, and 30 hours in a profile


def test_the_profile_fits_the_cluster() -> None:
    account, max_jobs = parse_accounting("proj7|\n|500\nproj7|2000\n")
    settings = parse_config(CONFIG)
    cluster = Cluster(
        settings["ClusterName"], parse_partitions(SINFO), int(settings["MaxArraySize"]), max_jobs, account
    )
    profile = fit_profile(cluster)
    assert (profile.name, profile.account) == ("juno", "proj7")
    assert (profile.limits.max_array_size, profile.limits.max_jobs) == (30001, 500)
    assert (profile.cpu.partition, profile.cpu.time, profile.cpu.memory) == ("compute", "04:00:00", "8000M")
    assert (profile.gpu.partition, profile.gpu.gpu, profile.gpu.cpus, profile.gpu.memory) == (
        "gpu",
        "a100",
        8,
        "64375M",
    )
    assert (profile.training.partition, profile.training.per_node) == ("gpu", 4)
    text = write_profile(profile, describe(cluster))
    assert "# compute (default): 120 nodes, 128 CPUs and 250 GiB per node, time limit 1-00:00:00" in text
    assert parse_profile(text, "site.yaml") == profile


def test_a_cluster_without_gpus_runs_everything_on_its_cpus() -> None:
    profile = fit_profile(Cluster(None, parse_partitions("debug*|up|30:00|2|2|4000|(null)|(null)\n"), 1001))
    assert profile.name == "site" and profile.gpu.partition == profile.training.partition == "debug"
    assert profile.cpu.time == profile.gpu.time == "00:30:00"
    assert (profile.cpu.cpus, profile.cpu.memory, profile.training.per_node) == (2, "4000M", 1)


def test_what_is_not_sinfos_is_ignored() -> None:
    assert parse_partitions("slurm_load_partitions: Unable to contact slurm controller\n") == ()
    assert fit_profile(Cluster()) == Profile()
    assert parse_accounting("sacctmgr: error\n") == (None, None)


def test_the_file_explains_every_key_and_reads_back() -> None:
    profile = Profile(
        name="a",
        options=["--mail-type=FAIL"],
        environment={  # type: ignore[arg-type]
            "setup": ["source ~/x/bin/activate", "echo 'it: \"works\"' # yes", "ulimit -c 0"],
            "variables": {"A": "true", "B": "3", "C": "with: colon"},
            "modules": ["cuda/12.4"],
        },
    )
    text = write_profile(profile)
    assert parse_profile(text, "site.yaml") == profile
    assert parse_profile(write_profile(Profile()), "site.yaml") == Profile()
    for name, field in iterate_fields(Profile):
        assert field.description, name
        assert f"{name.rpartition('.')[2]}: " in text or f"{name.rpartition('.')[2]}:\n" in text, name


def test_every_problem_is_reported_with_its_line_and_what_was_meant() -> None:
    text = """\
gpu:
  wrokers: 3
  time: 4
  memory: 3Q
  options: [--exclusive, "--x y"]
limits:
  signal_s: 10
modules: [cuda]
environment:
  variables:
    A-B: c
training: big
qos: a b
"""
    with pytest.raises(RecipeError) as caught:
        parse_profile(text, "site.yaml")
    lines = str(caught.value).splitlines()
    assert lines[0] == "site.yaml:2: gpu: unknown key 'wrokers'; did you mean 'workers'?"
    assert lines[1].startswith("site.yaml:3: gpu.time: expected days, hours, minutes and seconds, such as 04:00:00")
    assert lines[2].startswith("site.yaml:4: gpu.memory: expected a size such as 64G")
    assert lines[3].startswith("site.yaml:5: gpu.options: expected a list of options of sbatch")
    assert lines[4] == "site.yaml:7: limits.signal_s: expected a whole number from 30 to 3600; found 10"
    assert lines[5] == "site.yaml:8: unknown key 'modules'; it belongs in 'environment'"
    assert lines[6].startswith("site.yaml:11: environment.variables.A-B: expected a name")
    assert lines[7].startswith("site.yaml:12: training: expected a block of keys, such as")
    assert lines[8].startswith("site.yaml:13: qos: expected a name as SLURM has it")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("training:\n  time: 00:02:00\n", "site.yaml:2: training.time: 00:02:00 is not longer than limits.signal_s"),
        ("environment:\n  apptainer_options: [--rocm]\n", "apptainer_options: has no effect without a container"),
        ("- a\n", "site.yaml:1: expected keys"),
        ("gpu: [\n", "not valid YAML"),
        ("gpu: !!python/object:os.system x\n", "is not used in site profiles"),
        ('account: "a\\nb"\n', "account: expected a name as SLURM has it"),
        ('environment:\n  setup: ["a\\nb"]\n', "environment.setup: expected a list of lines"),
        ("environment:\n  scratch: $(rm -rf x)\n", "environment.scratch: expected a folder"),
        ('environment:\n  scratch: "/a`b`"\n', "environment.scratch: expected a folder"),
        ("gpu:\n  constraint: a; b\n", "gpu.constraint: expected features"),
    ],
)
def test_a_wrong_profile_is_refused(text: str, words: str) -> None:
    with pytest.raises(RecipeError) as caught:
        parse_profile(text, "site.yaml")
    assert words in str(caught.value)


def test_a_profile_is_read_from_the_users_folder_or_has_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert default_path() == tmp_path / "ltgc-local" / "site.yaml"
    assert read_profile() == Profile()
    default_path().parent.mkdir()
    default_path().write_text("name: mine\n")
    assert read_profile().name == "mine"
    with pytest.raises(RecipeError, match=r"no such site profile; to write one, type: ltgc-local slurm profile"):
        read_profile(tmp_path / "other.yaml")
    (tmp_path / "other.yaml").mkdir()
    with pytest.raises(RecipeError, match="a folder, where a file is expected"):
        read_profile(tmp_path / "other.yaml")


def test_the_shipped_example_is_a_profile() -> None:
    assert read_profile(FOLDER / "site.yml").training.per_node == 4


def test_times_and_sizes_are_read_as_slurm_reads_them() -> None:
    assert [seconds_of(time) for time in ("04:00:00", "2-00", "1-02:03", "1-02:03:04")] == [14400, 172800, 93780, 93784]
    assert [mib_of(size) for size in ("2048K", "512", "64G", "1T")] == [2, 512, 65536, 1048576]


def test_no_key_has_the_name_of_a_block() -> None:
    blocks = [name for name, field in Profile.model_fields.items() if isinstance(field.default, BaseModel)]
    assert blocks == ["cpu", "gpu", "training", "environment", "limits"]
