"""Run a command in a process forked from a warm one: see warm.py. Imports as little as it can."""

import json
import os
import signal
import socket
import sys

asking = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
asking.connect(sys.argv[1])
is_ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
told = json.dumps([sys.argv[2:], os.getcwd(), dict(os.environ), is_ignored])  # noqa: PTH109 - pathlib takes longer than all of this
pid = 0
held = []


def pass_on(number, _):
    if pid:
        os.kill(pid, number)
    else:
        held.append(number)


for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, pass_on)
socket.send_fds(asking, [told.encode()], [0, 1, 2])
pid = int(asking.recv(64))
for number in held:
    pass_on(number, None)
for descriptor in (0, 1, 2):
    os.close(descriptor)
code = asking.recv(64)
if int(code) < 0:
    signal.signal(-int(code), signal.SIG_DFL)
    os.kill(os.getpid(), -int(code))
os._exit(int(code))
