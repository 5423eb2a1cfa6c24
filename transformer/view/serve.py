"""The page on this machine's own address, for a browser elsewhere through a tunnel, say."""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def server(html: str, port: int) -> ThreadingHTTPServer:
    """A server of one page on 127.0.0.1; port 0 takes a free one. Run it with serve_forever()."""
    body = html.encode("utf-8")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):  # noqa: N802 - the standard library's name
            found = self.path.partition("?")[0] in ("/", "/index.html")
            answer = body if found else b"The page is at /\n"
            self.send_response(200 if found else 404)
            self.send_header("Content-Type", "text/html; charset=utf-8" if found else "text/plain")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *args):  # a line for each request helps nobody here
            pass

    try:
        return ThreadingHTTPServer(("127.0.0.1", port), Handler)
    except OSError as error:
        raise OSError(f"--port {port}: {error.strerror}: choose another, or 0 for a free one") from None
