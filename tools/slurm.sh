#!/bin/bash
# Train on several nodes of a Slurm cluster, one process for each GPU:
#     sbatch --nodes 2 --gpus-per-node 8 tools/slurm.sh pretrain --out DIR ...
# What follows is that of `minimind train`; DIR lies where all nodes see it. Chapter 14
# explains it. The same line again, after a crash or at the end of the time, goes on.
#SBATCH --job-name=minimind
#SBATCH --ntasks-per-node=1
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@120
set -euo pipefail

# One task a node: torchrun, which starts the processes of that node. All of them meet
# at the first node. Two minutes before the end of its time it gets SIGTERM and passes
# it on, and every process saves after the step that it is in.
read -r first < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
export TORCH_ELASTIC_SHUTDOWN_TIMEOUT=110  # seconds for that, which would be 30
srun torchrun \
    --nnodes "$SLURM_NNODES" \
    --nproc_per_node "${SLURM_GPUS_ON_NODE:-1}" \
    --rdzv_backend c10d \
    --rdzv_id "$SLURM_JOB_ID" \
    --rdzv_endpoint "$first:${MASTER_PORT:-29500}" \
    -m minimind.train "$@"
