"""git http-backend behind HTTPS, for the tests: the smallest server that a Git client is content with."""

import argparse
import base64
import http.server
import os
import socket
import ssl
import subprocess
import time
import urllib.parse


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--listen", required=True, help="ADDRESS:PORT")
    parser.add_argument("--root", required=True, help="directory of the repositories")
    parser.add_argument("--certificate", required=True)
    parser.add_argument("--key", required=True)
    parser.add_argument("--token", help="asked for as the password of basic authentication")
    parser.add_argument("--client-authority", help="clients have to show a certificate of this authority")
    parser.add_argument("--redirect", help="where everything has moved to: https://HOST:PORT")
    parser.add_argument("--log", help="a file that gets the head of each request")
    parser.add_argument("--hold", help="while this file is there, a pack stops in the middle")
    return parser.parse_args()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.answer(b"")

    def do_POST(self):
        self.answer(self.body())

    def body(self):
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            parts = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def allowed(self):
        if self.server.token is None:
            return True
        scheme, _, value = self.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "basic":
            return False
        try:
            password = base64.b64decode(value).partition(b":")[2]
        except ValueError:
            return False
        return password.decode(errors="replace") == self.server.token

    def answer(self, body):
        if self.server.log is not None:
            with open(self.server.log, "a") as log:
                log.write(f"{self.requestline}\n{self.headers}")
        if not self.allowed():
            self.give(401, [("WWW-Authenticate", 'Basic realm="fleet"')], b"a token is needed\n")
            return
        if self.server.redirect is not None:
            self.give(301, [("Location", self.server.redirect + self.path)], b"elsewhere\n")
            return
        url = urllib.parse.urlsplit(self.path)
        environment = dict(
            os.environ,
            GIT_PROJECT_ROOT=self.server.root,
            GIT_HTTP_EXPORT_ALL="1",
            REQUEST_METHOD=self.command,
            PATH_INFO=urllib.parse.unquote(url.path),
            QUERY_STRING=url.query,
            CONTENT_TYPE=self.headers.get("Content-Type", ""),
            CONTENT_LENGTH=str(len(body)),
            HTTP_CONTENT_ENCODING=self.headers.get("Content-Encoding", ""),
            GIT_PROTOCOL=self.headers.get("Git-Protocol", ""),
            REMOTE_ADDR=self.client_address[0],
        )
        output = subprocess.run(["git", "http-backend"], input=body, stdout=subprocess.PIPE, env=environment).stdout
        head, _, content = output.partition(b"\r\n\r\n")
        status, headers = 200, []
        for line in head.decode().splitlines():
            name, _, value = line.partition(": ")
            if name.lower() == "status":
                status = int(value.split()[0])
            else:
                headers.append((name, value))
        self.give(status, headers, content)

    def give(self, status, headers, content):
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        half = len(content) // 2
        self.wfile.write(content[:half])
        hold = self.server.hold
        if hold and b"packfile" in content[:20] and os.path.exists(hold):
            open(hold + ".held", "w").close()
            while os.path.exists(hold):
                time.sleep(0.05)
        self.wfile.write(content[half:])


class Server(http.server.ThreadingHTTPServer):
    def finish_request(self, request, client_address):
        # The handshake in the thread of the request: a client that breaks it off harms nobody else.
        try:
            with self.context.wrap_socket(request, server_side=True, do_handshake_on_connect=False) as stream:
                try:
                    stream.do_handshake()
                except ssl.SSLError as error:
                    # What is wrong is read by the client only where its own words do not reset the connection.
                    drain(socket.socket(fileno=stream.detach()))
                    raise error
                self.RequestHandlerClass(stream, client_address, self)
        except (ssl.SSLError, OSError) as error:
            print(f"{client_address[0]}: {error}", flush=True)


def drain(stream):
    with stream:
        stream.settimeout(5)
        stream.shutdown(socket.SHUT_WR)
        while stream.recv(4096):
            pass


def main():
    wanted = arguments()
    address, _, port = wanted.listen.rpartition(":")
    server = Server((address, int(port)), Handler)
    server.root = wanted.root
    server.token = wanted.token
    server.redirect = wanted.redirect
    server.log = wanted.log
    server.hold = wanted.hold
    server.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.context.load_cert_chain(wanted.certificate, wanted.key)
    if wanted.client_authority is not None:
        server.context.load_verify_locations(wanted.client_authority)
        server.context.verify_mode = ssl.CERT_REQUIRED
    print("listening", flush=True)
    server.serve_forever()


main()
