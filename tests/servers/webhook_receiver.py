"""A receiver of webhooks for the tests: `python webhook_receiver.py KEY`.

Verifies each request with the official Standard Webhooks library. Answers 204, or 401 if the signature does not fit. Prints one JSON
line, {"port":…}, when it listens, and one per request: {"accepted":…,"error":…,"headers":…,"body":…}, the body in base64. Ends when
its standard input ends, so that no receiver outlives its test.
"""

import base64
import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

webhook = Webhook(sys.argv[1])
printing = threading.Lock()


def say(line: dict) -> None:
    with printing:
        print(json.dumps(line), flush=True)


class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        error = None
        try:
            webhook.verify(body, headers)
        except WebhookVerificationError as problem:
            error = str(problem)
        say({"accepted": error is None, "error": error, "headers": headers, "body": base64.b64encode(body).decode()})
        self.send_response(204 if error is None else 401)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """The lines on standard output are all there is to say."""


server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
server.daemon_threads = True
threading.Thread(target=server.serve_forever, daemon=True).start()
say({"port": server.server_address[1]})
sys.stdin.read()
