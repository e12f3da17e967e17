"""A proxy that knows CONNECT and nothing else, for the tests. All names lead to where it is told."""

import argparse
import http.server
import select
import socket


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--listen", required=True, help="ADDRESS:PORT")
    parser.add_argument("--to", required=True, help="the address that every name stands for")
    parser.add_argument("--log", required=True, help="a file that gets the head of each request, and all that passes")
    parser.add_argument("--refuse", type=int, help="answer everything with this status")
    return parser.parse_args()


class Handler(http.server.BaseHTTPRequestHandler):
    def do_CONNECT(self):
        self.server.note(f"{self.requestline}\n{self.headers}".encode())
        if self.server.refuse is not None:
            self.send_error(self.server.refuse)
            return
        port = int(self.path.rpartition(":")[2])
        with socket.create_connection((self.server.to, port)) as server:
            self.send_response(200)
            self.end_headers()
            self.join(self.connection, server)

    def do_GET(self):
        self.server.note(f"{self.requestline}\n{self.headers}".encode())
        self.send_error(405)

    do_POST = do_GET

    def join(self, client, server):
        other = {client: server, server: client}
        while True:
            for end in select.select(list(other), [], [])[0]:
                part = end.recv(65536)
                if not part:
                    return
                self.server.note(part)
                other[end].sendall(part)


class Proxy(http.server.ThreadingHTTPServer):
    def note(self, part):
        with open(self.log, "ab") as log:
            log.write(part)


def main():
    wanted = arguments()
    address, _, port = wanted.listen.rpartition(":")
    proxy = Proxy((address, int(port)), Handler)
    proxy.to, proxy.log, proxy.refuse = wanted.to, wanted.log, wanted.refuse
    proxy.serve_forever()


main()
