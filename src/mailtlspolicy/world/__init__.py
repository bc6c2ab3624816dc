"""A whole internet in one file: zones, servers, policy hosts and cached policies, for tests and for trying things out.

`world` reads it and answers with it what a resolver, a fetcher, a store and a connector would; `recording` writes one
while a real run is under way. `tour.json` is the world that is built in.
"""
