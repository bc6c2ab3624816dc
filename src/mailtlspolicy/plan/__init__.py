"""Which hosts take the mail of a next-hop, in which order, and what TLS must prove at each.

`search` is the program: it finds the hosts (`mx`, RFC 5321 section 5.1), of each its addresses and TLSA records
(`hosts`, RFC 7672 sections 2 and 3), and beside them the policy (`mailtlspolicy.sts`); then it decides what was found
by RFC 7672 section 2.2 and RFC 8461 section 5. The results are `values`: a `Plan` of `HostPlan` and `SkippedHost`.
No connection is opened here; `mailtlspolicy.delivery` walks a plan. Begin in `search`.
"""
