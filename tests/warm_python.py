"""A ``python`` that starts at once: a process that has imported the libraries forks for every command.

The tests start some hundred processes, those of torchrun and Slurm included, and importing takes 5 seconds in each. The
command that stands for ``python`` sends its arguments, folder, environment and open files here; a fork runs them, and
is killed when the command is.
"""
import gc
import json
import os
import random
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy

COMMAND = """#!{python} -IS
import json, os, socket, sys
server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
socket.send_fds(server, [b'.'], [0, 1, 2])
server.sendall(json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode())
server.shutdown(socket.SHUT_WR)
sys.exit(int(server.recv(4) or 1))
"""


@contextmanager
def warm_python(folder: Path) -> Iterator[Path]:
    """A folder with the command ``python``, which works until the context ends."""
    address = folder / 'socket'
    command = folder / 'bin/python'
    command.parent.mkdir()
    command.write_text(COMMAND.format(python=sys.executable, address=str(address)))
    command.chmod(0o755)
    server = subprocess.Popen([sys.executable, __file__, str(address)], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, start_new_session=True)
    try:
        assert b'ready\n' in iter(server.stdout.readline, b''), 'the libraries cannot be imported'
        yield command
    finally:
        os.killpg(server.pid, signal.SIGKILL)  # forks that hang included
        server.wait()


def serve(address: str) -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the forks
    print('ready', flush=True)
    while sys.stdin not in select.select([listener, sys.stdin], [], [])[0]:  # it closes when the tests end or die
        connection, _ = listener.accept()
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            listener.close()
            run(connection)
        connection.close()
    os.killpg(0, signal.SIGKILL)


def run(connection: socket.socket) -> None:
    """Run one command as Python would, and end this process."""
    _, files, *_ = socket.recv_fds(connection, 1, 3)
    argv, folder, env = json.loads(connection.makefile('rb').read())
    for target, file in enumerate(files):
        os.dup2(file, target)
        os.close(file)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(env)
    threading.Thread(target=die_with, args=[connection], daemon=True).start()
    random.seed()  # as a process of its own would
    numpy.random.seed()
    code = 1
    try:
        execute([arg for arg in argv if arg != '-u'])
        code = 0
    except SystemExit as end:
        code = int(end.code) if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        connection.sendall(str(code).encode())
        os._exit(code)


def die_with(connection: socket.socket) -> None:
    """Ends this process when the command has been killed."""
    hung_up = select.poll()
    hung_up.register(connection, 0)
    hung_up.poll()
    os.kill(os.getpid(), signal.SIGKILL)


def execute(argv: list[str]) -> None:
    sys.argv = argv[1:] if argv[0] == '-m' else argv
    sys.path[1:1] = filter(None, os.environ.get('PYTHONPATH', '').split(os.pathsep))
    if argv[0] == '-m':
        sys.path[0] = os.getcwd()
        runpy.run_module(argv[1], run_name='__main__', alter_sys=True)
    else:
        sys.path[0] = os.path.dirname(os.path.realpath(argv[0]))
        runpy.run_path(argv[0], run_name='__main__')


if __name__ == '__main__':
    from yapf.yapflib import yapf_api

    # a run lays out its config six times, for the log and the checkpoints, which takes longer than its two steps
    yapf_api.FormatCode = lambda text, **style: (text, True)
    import mmdet.registry
    import mmpretrain.registry
    import mmseg.registry

    import mmscalenet.engine  # noqa: F401
    for registry in (mmpretrain.registry, mmdet.registry, mmseg.registry):
        registry.MODELS.import_from_location()
        registry.DATASETS.import_from_location()
    gc.collect()
    gc.freeze()  # the forks' own collections need not go through all that is imported
    serve(sys.argv[1])
