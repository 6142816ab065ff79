#!/bin/bash
# Ray inside one Slurm allocation, and a command on it:
#   sbatch --nodes=4 --gpus-per-node=8 --cpus-per-task=8 slurm.sh python -m tune …
# A worker takes a CPU, and Slurm gives one for the whole node unless it is asked for more. Run it from the project's
# folder, on a file system that all nodes see. See docs/deploy/slurm.md.
#SBATCH --job-name=curriculum-ray
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --time=24:00:00
#SBATCH --signal=B:TERM@120
# Head and workers are started by srun rather than by `ray symmetric-run`, which ends with `ray stop`: that ends
# every Ray of the user on a node, other jobs' too. Here only the steps of this job end.
set -euo pipefail

if [ "$#" -eq 0 ]; then
  echo "error: slurm.sh needs the command to run, e.g. python -m tune search --output /shared/runs" >&2
  exit 2
fi
nodes="$SLURM_JOB_NUM_NODES"
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
port=$((20000 + SLURM_JOB_ID % 20000))
cpus="${SLURM_CPUS_ON_NODE:-1}"

# One secret for this allocation, readable by nobody else, and never on a command line.
export RAY_AUTH_MODE=token
export RAY_AUTH_TOKEN_PATH="${RAY_AUTH_TOKEN_PATH:-$PWD/.ray-token-$SLURM_JOB_ID}"
if [ ! -s "$RAY_AUTH_TOKEN_PATH" ]; then
  (umask 077 && python -c 'import secrets; print(secrets.token_hex(32), end="")' >"$RAY_AUTH_TOKEN_PATH")
  made="$RAY_AUTH_TOKEN_PATH"
fi

steps=()
# Called by the trap alone.
# shellcheck disable=SC2317
cleanup() {
  if [ "${#steps[@]}" -gt 0 ]; then
    kill "${steps[@]}" 2>/dev/null || true
    wait "${steps[@]}" 2>/dev/null || true
  fi
  if [ -n "${made:-}" ]; then rm -f "$made"; fi
}
trap cleanup EXIT

address=$(srun --nodes=1 --ntasks=1 --nodelist="$first" python -c \
  'import ray.util; print(ray.util.get_node_ip_address())')
export RAY_ADDRESS="$address:$port"

srun --nodes=1 --ntasks=1 --overlap --cpu-bind=none --nodelist="$first" ray start --head --block --node-ip-address="$address" \
  --port="$port" --num-cpus="$cpus" --dashboard-host=127.0.0.1 --disable-usage-stats &
steps+=("$!")
python -m clusters wait --nodes 1 --timeout 180
if [ "$nodes" -gt 1 ]; then
  srun --nodes=$((nodes - 1)) --ntasks=$((nodes - 1)) --overlap --cpu-bind=none --exclude="$first" ray start --block \
    --address="$RAY_ADDRESS" --num-cpus="$cpus" --disable-usage-stats &
  steps+=("$!")
fi
python -m clusters wait --nodes "$nodes" --timeout 300

# In the background, so that the warning before the time limit (SIGTERM) reaches the command at once. It gets the same
# signal: what a script starts in the background ignores SIGINT.
"$@" &
command=$!
trap 'kill -TERM "$command" 2>/dev/null' TERM
code=0
wait "$command" || code=$?
while kill -0 "$command" 2>/dev/null; do
  code=0
  wait "$command" || code=$?
done
exit "$code"
