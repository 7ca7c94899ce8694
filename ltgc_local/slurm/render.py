"""A chain and a site profile -> the text of each sbatch file, such as a cluster's user would write by hand. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ltgc_local import __version__
from ltgc_local.errors import RecipeError
from ltgc_local.slurm.chain import PREPARE, Job
from ltgc_local.slurm.profile import Jobs, JobsWithGpus, Profile, mib_of, seconds_of

POLL_S = 10  # between looks for files of earlier steps
STAGGERED = 30  # tasks after which starts begin again at once
CRASHES = 3  # after which a worker that was killed is not started again
LATE_S = 60  # SLURM may send a signal this much earlier than asked


@dataclass(frozen=True)
class Site:
    """Where a run's jobs run.

    Attributes:
        run: the run directory, absolute.
        run_name: of the recipe.
    """

    profile: Profile
    run: Path
    run_name: str


def render_chain(jobs: Sequence[Job], site: Site) -> dict[str, str]:
    """Return name -> text of every file.

    Raises:
        RecipeError: the run directory has a name that no sbatch file can hold.
    """
    if not str(site.run).isprintable() or set(str(site.run)) & set('"\\%'):
        raise RecipeError(f'{site.run}: sbatch files cannot name this folder; give an --out without ", \\ and %')
    texts = {job.file: _job(job, site) for job in jobs}
    return {**texts, "submit.sh": _submit(jobs, site)}


def _job(job: Job, site: Site) -> str:
    environment = [_setup(site.profile), _caches(site.profile)]
    if job.name == PREPARE:
        parts = [_header(job, site), *environment, _prepare(site)]
    else:
        parts = [_header(job, site), _begin(job, site), *environment, _meeting(job), _work(job, site), _end(job, site)]
    return "\n".join(part for part in parts if part)


def _header(job: Job, site: Site) -> str:
    profile, jobs = site.profile, _jobs_of(job, site.profile)
    processes = job.nodes * job.per_node
    if job.name == PREPARE:
        what = "Prepares the run: checks data and models, and writes what the other jobs need."
    elif job.tasks is not None:
        what = f"Step {job.name}. These tasks share its chunks: send more of them, or cancel some, at any time."
    else:
        what = f"Step {job.name}" + (f", {processes} processes on {job.nodes} nodes." if processes > 1 else ".")
    log = f"{site.run}/slurm/logs/{job.slug}.{'%A_%a' if job.tasks is not None else '%j'}.log"
    options = [
        f"--job-name={site.run_name}-{job.slug}",
        f'--output="{log}"' if " " in log else f"--output={log}",
        "--open-mode=append",
        *(f"--{key}={value}" for key, value in (("account", profile.account), ("qos", profile.qos)) if value),
        *([f"--partition={jobs.partition}"] if jobs.partition else []),
        f"--time={jobs.time}",
        *([f"--array={_indices(job.arrays[0])}"] if job.arrays else []),
        f"--nodes={job.nodes}",
        f"--ntasks-per-node={job.per_node}",
        f"--cpus-per-task={jobs.cpus}",
        *_memory(job, jobs),
        *_gpus(job, jobs),
        *([f"--constraint={jobs.constraint}"] if jobs.constraint else []),
        "--requeue",
        f"--signal=B:USR1@{profile.limits.signal_s}",
        *profile.options,
        *jobs.options,
    ]
    about = f"# {what}\n# Written by ltgc-local {__version__} for the cluster {profile.name}; edit it as you like."
    return "\n".join(["#!/bin/bash", about, *(f"#SBATCH {option}" for option in options), ""])


def _jobs_of(job: Job, profile: Profile) -> Jobs:
    return {"cpu": profile.cpu, "gpu": profile.gpu, "training": profile.training}[job.kind]


def _indices(tasks: int) -> str:
    return f"0-{tasks - 1}" if tasks > 1 else "0"


def _memory(job: Job, jobs: Jobs) -> list[str]:
    """Return the memory of a node: SLURM asks for it by node, and the profile has a process's."""
    if jobs.memory is None:
        return []
    share = jobs.memory if job.per_node == 1 else f"{mib_of(jobs.memory) * job.per_node}M"
    return [f"--mem={share}"]


def _gpus(job: Job, jobs: Jobs) -> list[str]:
    if not job.gpus or not isinstance(jobs, JobsWithGpus):
        return []
    name = "".join(f"{part}:" for part in ("gpu" if jobs.gpus_option == "gres" else "", jobs.gpu) if part)
    return [f"--{jobs.gpus_option}={name}{job.gpus}"]


def _setup(profile: Profile) -> str:
    environment = profile.environment
    program = shlex.quote(environment.program)
    if environment.container is not None:
        options = [shlex.quote(option) for option in environment.apptainer_options]
        program = " ".join(["apptainer exec", *options, shlex.quote(environment.container), program])
    lines = ["# The program, and what it needs on this cluster."]
    if environment.modules:
        lines += ["module purge", *(f"module load {module}" for module in environment.modules)]
    lines += environment.setup
    lines += [f"export {name}={shlex.quote(value)}" for name, value in environment.variables.items()]
    return "\n".join([*lines, f"ltgc=({program})", ""])


def _caches(profile: Profile) -> str:
    return f"""\
# Temporary files and compiled code are on the node's own disk: on a shared one, the nodes' caches get mixed up.
export TMPDIR="{profile.environment.scratch}"
mkdir -p "$TMPDIR"
caches=$(mktemp -d "$TMPDIR/ltgc-local.XXXXXX")
trap 'rm -rf "$caches"' EXIT
export TORCHINDUCTOR_CACHE_DIR=$caches/inductor TRITON_CACHE_DIR=$caches/triton
"""


def _prepare(site: Site) -> str:
    return f"""\
"${{ltgc[@]}}" slurm prepare {shlex.quote(str(site.run))}
code=$?
echo "{PREPARE}: ended with exit code $code"
exit $code
"""


def _begin(job: Job, site: Site) -> str:
    """Return the lines that heed SLURM's signals; they come first, because loading modules may take a while."""
    number = "${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}" if job.tasks is not None else "$SLURM_JOB_ID"
    return f"""\
run={shlex.quote(str(site.run))}
step={job.name}
job={number}
if [ -e "$run/$step/manifest.json" ]; then
  echo "$step: complete already; ended with exit code 0"
  exit 0
fi

# SLURM asks a job to stop: by USR1, {site.profile.limits.signal_s} s before its time limit, or by TERM, when it is
# preempted or cancelled. The worker finishes or gives back its chunk, or writes a checkpoint, and ends with code 75.
asked='' child=''
trap 'asked=USR1; kill -USR1 $child 2> /dev/null' USR1
trap 'asked=TERM; kill -USR1 $child 2> /dev/null' TERM
wait_for() {{
  child=$1
  if [ -n "$asked" ]; then kill -USR1 "$child" 2> /dev/null; fi
  while kill -0 "$child" 2> /dev/null; do wait "$child"; done
  wait "$child"
}}
"""


def _meeting(job: Job) -> str:
    """Return where the processes of a training meet."""
    if job.nodes * job.per_node == 1:
        return ""
    return """\
# The processes meet at the first node, where this script runs; srun tells each which it is.
MASTER_ADDR=$(hostname)
MASTER_PORT=$((20000 + SLURM_JOB_ID % 20000))
export MASTER_ADDR MASTER_PORT
"""


def _work(job: Job, site: Site) -> str:
    limits = site.profile.limits
    stagger = ""
    if job.tasks is not None and job.tasks > 1 and limits.stagger_s:
        stagger = f"""\
sleep $((SLURM_ARRAY_TASK_ID % {STAGGERED} * {limits.stagger_s})) &  # not all tasks read the model at once
wait_for $!
"""
    return f"""\
code=75
work() {{
  if [ -n "$asked" ]; then return; fi
  {_launch(job, site)} work "$run" "$step" &
  wait_for $!
  code=$?
}}
{stagger}work
# Code 75 without a signal: what this step reads is not complete. Network file systems show new files late.
waited=0
while [ "$code" -eq 75 ] && [ -z "$asked" ] && [ "$waited" -lt {limits.inputs_wait_s} ]; do
  sleep {POLL_S} &
  wait_for $!
  waited=$((waited + {POLL_S}))
  work
done
"""


def _end(job: Job, site: Site) -> str:
    limits = site.profile.limits
    late = seconds_of(_jobs_of(job, site.profile).time) - limits.signal_s - LATE_S
    return f"""\
# Two kinds of jobs go back into the queue, to go on where a node is free: those that were stopped before their time
# limit, and, {CRASHES} times, those whose worker was killed. SLURM itself requeues the ones that it preempts.
if [ "$asked" = TERM ] && [ "$SECONDS" -ge {max(late, 0)} ]; then asked=USR1; fi  # some clusters send only TERM
most=0
if [ "$asked" = USR1 ] && {{ [ "$code" -eq 75 ] || [ "$code" -gt 128 ]; }}; then most={limits.requeues}; fi
if [ -z "$asked" ] && [ "$code" -gt 128 ]; then most={CRASHES}; fi
echo "$step: ended with exit code $code${{asked:+ after SIG$asked}}"
if [ "${{SLURM_RESTART_COUNT:-0}}" -lt "$most" ]; then
  trap '' TERM
  echo "$step: back into the queue"
  scontrol requeue "$job" || echo "$step: cannot be requeued here; to go on, type: ltgc-local slurm submit $run"
fi
exit $code
"""


def _launch(job: Job, site: Site) -> str:
    if job.nodes * job.per_node == 1:
        return '"${ltgc[@]}"'
    # Not --kill-on-bad-exit: when asked to stop, all end with code 75, and the first must not end the one that writes.
    return f'srun --kill-on-bad-exit=0 --wait=120 --cpus-per-task={_jobs_of(job, site.profile).cpus} "${{ltgc[@]}}"'


def _submit(jobs: Sequence[Job], site: Site) -> str:
    lines = [
        "#!/bin/bash",
        "# Sends the whole chain by hand. `ltgc-local slurm submit` does the same for the steps that are not complete,",
        "# and records the jobs' numbers, which `ltgc-local status`, `slurm cancel` and `slurm logs` need.",
        "set -euo pipefail",
        'cd -- "$(dirname -- "$0")"',
        "mkdir -p logs",
        """send() { sbatch --parsable "$@" | cut -d ';' -f 1; }""",
    ]
    for job in jobs:
        after = f'"--dependency=afterany:{":".join(f"${_variable(name)}" for name in job.after)}" ' if job.after else ""
        sent = [f"$(send {after}{_array(job, size)}{job.file})" for size in job.arrays or (None,)]
        lines.append(f"{_variable(job.name)}={':'.join(sent)}")
    last = jobs[-1]
    lines.append(f'echo "{site.run_name}: sent; the last job, {last.name}, is ${_variable(last.name)}"')
    return "\n".join([*lines, ""])


def _array(job: Job, size: int | None) -> str:
    """Return the option that makes another array of a job's file than the file itself says."""
    return f"--array={_indices(size)} " if size is not None and size != job.arrays[0] else ""


def _variable(name: str) -> str:
    return "".join(letter if letter.isalnum() and letter.isascii() else "_" for letter in f"job_{name}")
