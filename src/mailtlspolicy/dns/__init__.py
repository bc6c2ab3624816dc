"""DNS as RFC 7672 section 2.1 needs it: what is asked, what an answer means, and which resolver can be trusted.

`effects` are the question and its two results: an `Answer`, of which absence is one, and a `LookupFailure`, which never
is absence. `lookups` follow aliases to the end and say how secure the whole chain is (section 2.1.3). `doctor` judges
whether a resolver is fit to be believed. No socket is opened here: `adapters.dns` does. Begin in `effects`.
"""
