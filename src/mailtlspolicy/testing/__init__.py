"""For whoever embeds or implements this: the vectors run against the library, and checks for parts of your own.

- `vectors` runs files of expectations.
- `resolvers`, `connectors` and `stores` each hold a tuple of checks. A check is a function; it is given a part, or what
  makes one, and raises an `AssertionError` with one sentence on what is wrong. Its name is the rule.
- What they run on: `nameserver` answers from a world in octets, `loopback` puts that and mail servers on sockets,
  `event_loop` calls parts for asyncio.

Only the command line imports this room. Begin with the checks of what you write; the shortest file is `resolvers`.
"""
