#!/bin/bash
# A study on several nodes of a SLURM cluster: sbatch slurm.sh study=quickstart
# Change the lines before "Nothing to change below", and submit from a folder that all nodes share.
#SBATCH --job-name=harness
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --gpus-per-task=1
#SBATCH --time=24:00:00
#SBATCH --signal=B:TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=harness-%j.log

set -euo pipefail

PROJECT="${PROJECT:-$SLURM_SUBMIT_DIR}"   # the clone of the repository
VENV="${VENV:-$PROJECT/venv}"             # the environment that it is installed in
OUTPUT="${OUTPUT:-$PROJECT/runs}"         # a folder that all nodes share
PORT="${PORT:-6379}"

# ---------------------------------------------------------------- Nothing to change below

cd "$PROJECT"
source "$VENV/bin/activate"
export RAY_AUTH_MODE=token
export RAY_AUTH_TOKEN_PATH="$OUTPUT/ray-token-$SLURM_JOB_ID"
export OMP_NUM_THREADS=1
mkdir -p "$OUTPUT"
(umask 077; python -c "import secrets; print(secrets.token_hex(32), end='')" > "$RAY_AUTH_TOKEN_PATH")
trap 'rm -f "$RAY_AUTH_TOKEN_PATH"' EXIT

mapfile -t NODES < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
HEAD="${NODES[0]}"
ADDRESS="$(srun --nodes=1 --ntasks=1 --nodelist="$HEAD" hostname --ip-address | awk '{print $1}')"
COUNT=(--num-cpus="$SLURM_CPUS_PER_TASK" --num-gpus="${SLURM_GPUS_PER_TASK:-0}")
START=(ray start --block --disable-usage-stats --include-dashboard=false "${COUNT[@]}")

srun --nodes=1 --ntasks=1 --nodelist="$HEAD" --overlap \
    "${START[@]}" --head --node-ip-address="$ADDRESS" --port="$PORT" &
sleep 20
for NODE in "${NODES[@]:1}"; do
    # Each of its own: a node that is lost does not end the others.
    srun --nodes=1 --ntasks=1 --nodelist="$NODE" --overlap \
        "${START[@]}" --address="$ADDRESS:$PORT" &
done
sleep 20

# This script runs on the first node, and so does the driver. SLURM sends SIGTERM before the time is
# over: the driver ends, the job is queued again, and the same command goes on from the last epoch
# of each trial.
python -m harness.run "$@" output="$OUTPUT" resources.address="$ADDRESS:$PORT" &
DRIVER=$!
STOPPED=
trap 'STOPPED=yes; kill -TERM "$DRIVER"' TERM
CODE=0
wait "$DRIVER" || CODE=$?
if [ -n "$STOPPED" ]; then
    wait "$DRIVER" || true
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$CODE"
