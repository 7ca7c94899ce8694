#!/usr/bin/env bash
# A real SLURM cluster of two nodes on this machine, for tests: Debian's slurm-wlm and munge, on loopback only.
#
#   tests/slurm/cluster.sh start FOLDER    install SLURM if it is missing, start the cluster; prints what to export
#   tests/slurm/cluster.sh stop FOLDER     end its jobs and its daemons; the folder stays
#   tests/slurm/cluster.sh status FOLDER   exit 0 if the cluster answers
#
# Starting a cluster that runs does nothing. Everything is in FOLDER, which only root may enter: the key, the state, the
# logs. Needs root, because SLURM's daemons and apt-get do. Exit codes: 0 done; 77 SLURM cannot be installed or started
# here, and the last line says why; 64 wrong arguments.
set -euo pipefail

UNAVAILABLE=77
NODES=(n1 n2)
PORT=${LTGC_SLURM_PORT:-16817}  # of slurmctld; the nodes take the next ones

say() { printf 'cluster.sh: %s\n' "$*" >&2; }
give_up() { say "no SLURM here: $*"; exit "$UNAVAILABLE"; }

install_slurm() {
  if command -v slurmctld slurmd munged sbatch > /dev/null; then return; fi
  [ "$(id -u)" -eq 0 ] || give_up "it is not installed, and only root can install it (Debian: apt-get install slurm-wlm munge)"
  command -v apt-get > /dev/null || give_up "it is not installed, and there is no apt-get to install slurm-wlm and munge"
  say "installing slurm-wlm and munge"
  local log=$1/install.log
  export DEBIAN_FRONTEND=noninteractive
  apt-get update --quiet > "$log" 2>&1 || say "apt-get update failed (see $log); trying with the lists that are there"
  apt-get install --quiet --yes --no-install-recommends slurm-wlm munge >> "$log" 2>&1 \
    || give_up "apt-get install slurm-wlm munge failed: $(tail -n 1 "$log")"
  hash -r
  command -v slurmctld slurmd munged sbatch > /dev/null || give_up "slurm-wlm is installed, but has no slurmctld"
}

write_configuration() {
  cat > "$1/slurm.conf" << CONF
ClusterName=ltgc
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort=$PORT
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$1/munge/munge.sock,cred_expire=10
CredType=cred/munge
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SlurmctldPidFile=$1/slurmctld.pid
SlurmctldLogFile=$1/log/slurmctld.log
StateSaveLocation=$1/state
SlurmdPidFile=$1/slurmd-%n.pid
SlurmdSpoolDir=$1/spool/%n
SlurmdLogFile=$1/log/slurmd-%n.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/filetxt
JobCompLoc=$1/log/jobcomp.txt
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=2,sched_interval=2,sched_min_interval=0
ReturnToService=2
JobRequeue=1
MaxArraySize=4
MinJobAge=600
KillWait=10
InactiveLimit=0
SlurmctldTimeout=30
SlurmdTimeout=60
MailProg=/bin/true
NodeName=n[1-2] NodeHostname=$(hostname -s) NodeAddr=127.0.0.1 Port=[$((PORT + 1))-$((PORT + 2))] CPUs=2 RealMemory=4000 Feature=loopback State=UNKNOWN
PartitionName=debug Nodes=n[1-2] Default=YES MaxTime=INFINITE State=UP
PartitionName=short Nodes=n[1-2] MaxTime=01:00:00 State=UP
CONF
  printf 'CgroupPlugin=cgroup/v1\nCgroupAutomount=no\n' > "$1/cgroup.conf"
}

start_munge() {
  if [ -S "$1/munge/munge.sock" ] && munge --no-input --socket="$1/munge/munge.sock" > /dev/null 2>&1; then return; fi
  if [ ! -f "$1/munge/munge.key" ]; then
    (umask 077 && head --bytes=1024 /dev/urandom > "$1/munge/munge.key")
  fi
  munged --force --socket="$1/munge/munge.sock" --key-file="$1/munge/munge.key" --pid-file="$1/munge/munged.pid" \
    --log-file="$1/munge/munged.log" --seed-file="$1/munge/munged.seed" \
    || give_up "munged does not start: $(tail -n 1 "$1/munge/munged.log" 2> /dev/null)"
}

answers() { [ "$(timeout 10 sinfo --noheader --Node --partition=debug --states=idle,alloc,mix,comp --format=%N 2> /dev/null | sort -u | wc -l)" -eq "${#NODES[@]}" ]; }

start() {
  mkdir -p "$1"
  chmod 755 "$1"
  install_slurm "$1"
  [ "$(id -u)" -eq 0 ] || give_up "SLURM's daemons are started by root"
  mkdir -p "$1"/{munge,state,log,spool}
  chmod 711 "$1/munge"
  export SLURM_CONF=$1/slurm.conf
  if ! { [ -f "$SLURM_CONF" ] && answers; }; then
    write_configuration "$1"
    start_munge "$1"
    slurmctld || give_up "slurmctld does not start: $(tail -n 1 "$1/log/slurmctld.log" 2> /dev/null)"
    for node in "${NODES[@]}"; do
      slurmd -N "$node" || give_up "slurmd does not start: $(tail -n 1 "$1/log/slurmd-$node.log" 2> /dev/null)"
    done
    for _ in $(seq 60); do
      if answers; then break; fi
      sleep 0.5
    done
    answers || give_up "the nodes do not come up within 30 s; see $1/log"
  fi
  printf 'export SLURM_CONF=%q\n' "$SLURM_CONF"
}

stop() {
  export SLURM_CONF=$1/slurm.conf
  if [ -f "$SLURM_CONF" ] && answers; then
    scancel --user=root || true
    for _ in $(seq 30); do
      if [ -z "$(squeue --noheader --states=running,completing)" ]; then break; fi
      sleep 0.5
    done
  fi
  for pid_file in "$1"/slurmd-*.pid "$1/slurmctld.pid" "$1/munge/munged.pid"; do
    end "$pid_file"
  done
}

# End the daemon of a pid file, if that process is one of SLURM's or munge's.
end() {
  local pid
  [ -f "$1" ] || return 0
  pid=$(cat "$1")
  case "$(cat "/proc/$pid/comm" 2> /dev/null)" in
    slurmd | slurmctld | munged) kill "$pid" ;;
    *) return 0 ;;
  esac
  for _ in $(seq 100); do
    [ -e "/proc/$pid" ] || return 0
    sleep 0.1
  done
  kill -KILL "$pid" 2> /dev/null || true
}

[ $# -eq 2 ] || { say "type: $0 start|stop|status FOLDER"; exit 64; }
folder=$(realpath --canonicalize-missing "$2")
case "$1" in
  start) start "$folder" ;;
  stop) stop "$folder" ;;
  status) export SLURM_CONF=$folder/slurm.conf; [ -f "$SLURM_CONF" ] && answers ;;
  *) say "type: $0 start|stop|status FOLDER"; exit 64 ;;
esac
