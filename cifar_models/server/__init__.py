"""A web server for finished runs and exports, for one computer: `serve`."""
