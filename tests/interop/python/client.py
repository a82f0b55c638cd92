"""A client on pyOpenSSL, whose wheels bring an OpenSSL that is newer than the system's."""

import os
import select
import socket
import sys

from OpenSSL import SSL

MTU = 1200
MESSAGE_MAX = 16384


def handshake(session, link):
    while True:
        try:
            return session.do_handshake()
        except SSL.WantReadError:
            wait = session.DTLSv1_get_timeout()
            if not select.select([link], [], [], wait)[0]:
                session.DTLSv1_handle_timeout()


def receive(session):
    while True:
        try:
            print(session.recv(MESSAGE_MAX).decode(), flush=True)
        except SSL.WantReadError:
            return


def lines(session, link):
    """The lines of the input; between them, what the server sends is printed."""
    rest = b""
    while True:
        ready = select.select([sys.stdin, link], [], [])[0]
        if link in ready:
            receive(session)
        if sys.stdin in ready:
            read = os.read(sys.stdin.fileno(), 65536)
            if not read:
                return
            *whole, rest = (rest + read).split(b"\n")
            yield from whole


def main():
    words = sys.argv[2:]
    options = dict(zip(words[:-1:2], words[1:-1:2]))
    host, port = words[-1].split(":")
    context = SSL.Context(SSL.DTLS_CLIENT_METHOD)
    context.load_verify_locations(options["-ca"])
    context.set_verify(SSL.VERIFY_PEER)
    if "-cert" in options:
        context.use_certificate_file(options["-cert"])
        context.use_privatekey_file(options["-key"])
    link = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    link.bind(("127.0.0.1", int(options.get("-local", 0))))
    link.connect((host, int(port)))
    link.setblocking(False)
    session = SSL.Connection(context, link)
    session.set_connect_state()
    session.set_tlsext_host_name(b"localhost")
    session.set_ciphertext_mtu(int(options.get("-mtu", MTU)))
    handshake(session, link)
    print("open", flush=True)
    for line in lines(session, link):
        session.send(line)
    session.shutdown()


main()
