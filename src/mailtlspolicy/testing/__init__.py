"""For whoever embeds or implements this: the vectors run against the library, and checks for parts of your own.

`vectors` runs files of expectations; `stores` and `resolvers` check a policy store and a
resolver. Only the command line imports it.
"""
