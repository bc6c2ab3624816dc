"""What is demanded of a session, and what a peer has to do to fulfil it."""

from mailtlspolicy._words import Word


class TlsLevel(Word):
    """What is demanded of a session, in Postfix's words."""

    NONE = "none"
    MAY = "may"
    ENCRYPT = "encrypt"
    DANE = "dane"
    SECURE = "secure"


class Duty(Word):
    """A way in which the peer has to authenticate itself."""

    DANE = "dane"
    PKIX = "pkix"


DUTIES: dict[TlsLevel, tuple[Duty, ...]] = {
    TlsLevel.NONE: (),
    TlsLevel.MAY: (),
    TlsLevel.ENCRYPT: (),
    TlsLevel.DANE: (Duty.DANE,),
    TlsLevel.SECURE: (Duty.PKIX,),
}
"""The duties of authentication that go with a level."""

DUTIES_BESIDE_POLICY = (Duty.DANE, Duty.PKIX)
"""Those of level `dane` where an MTA-STS policy is enforced as well."""
