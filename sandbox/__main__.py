import json
import os
import socket
import sys

p = json.loads(sys.argv[1])
s = socket.socket(socket.AF_UNIX)
s.bind(p["listen"].replace("{pid}", str(os.getpid())))
s.listen(128)
os.set_inheritable(s.fileno(), True)
os.environ["BUNRIWIKI_HOP_FD"] = str(s.fileno())
os.execv(sys.argv[2], sys.argv[2:])
