"""Start a script in several processes with torchrun; what dist_train.sh and dist_test.sh share.

NNODES, NODE_RANK, MASTER_ADDR and PORT describe a run over several machines.
"""
import logging
import os
import socket
import sys

from torch.distributed import run
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

EXPLAINED = 2  # exit code of a script that has said in one line what is wrong (mmscalenet.engine.errors)


def free_port() -> str:
    with socket.socket() as server:
        server.bind(('127.0.0.1', 0))
        return str(server.getsockname()[1])


def main() -> None:
    processes, *command = sys.argv[1:]
    if not processes.isdigit() or int(processes) < 1:
        sys.exit(f'error: the number of GPUs (or CPU processes) must be a whole number from 1, not "{processes}"')
    env = os.environ
    nodes = env.get('NNODES', '1')
    # processes that share a machine's cores only wait for each other with more threads
    env.setdefault('OMP_NUM_THREADS', '1')
    # what it says of a failed process stands in ChildFailedError too
    logging.getLogger('torch.distributed.elastic.multiprocessing.api').setLevel(logging.CRITICAL)
    try:
        run.main([
            f'--nnodes={nodes}', f'--node_rank={env.get("NODE_RANK", "0")}', f'--nproc_per_node={processes}',
            f'--master_addr={env.get("MASTER_ADDR", "127.0.0.1")}',
            f'--master_port={env.get("PORT") or (free_port() if nodes == "1" else "29500")}', *command
        ])
    except ChildFailedError as error:
        _, failure = error.get_first_failure()
        if failure.exitcode != EXPLAINED:
            raise
        sys.exit(EXPLAINED)


if __name__ == '__main__':
    main()
