"""A whole internet in one file: zones, servers, policy hosts and cached policies, for tests and for trying things out.

`world` reads it and makes the engine over it: begin there. What answers is in `zones` (the resolver), `servers` (the
connector) and `policy_hosts` (the fetcher, and what the store holds at first); none of them knows of the others.
`recording` writes a world while a real run is under way. `tour.json` is the one that is built in.
"""
