"""Certificates (RFC 5280): as presented, as PEM, and which of them make a path from a leaf to an anchor.

Nothing here knows of mail. What a certificate says is read once, strictly, from DER (`certificates`, `pem`); which
chains of signatures, dates, basic constraints and names lead to an anchor is decided in `paths`, whose rules for names
stand in `constraints` (RFC 5280 section 4.2.1.10). `dane` and `pkix` ask it, each with anchors of its own; whether a
path is for the right name they ask `identity`. Begin in `paths`.
"""
