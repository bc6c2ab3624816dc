"""What libssl says of a chain and its TLSA records: the oracle of the differential tests.

`X509_verify_cert` is called through ctypes with DANE enabled, without a handshake and so without a private key, set up
as a DANE-enabled SMTP client (Postfix) sets it up:

- usages 0 and 1 are not handed over: they are unusable for SMTP (RFC 7672 section 3.1.3);
- DANE-EE(3) checks no names (`DANE_FLAG_NO_DANE_EE_NAMECHECKS`, RFC 7672 section 3.1.1);
- wildcards are whole labels (`X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS`, RFC 7672 section 3.2.3);
- security level 1, a fixed time, and no trusted store, so that only a TLSA record can authenticate the peer.

A certificate that libssl can not parse would end a handshake. Here a malformed leaf is an answer of its own, and a
malformed certificate above the leaf is left out and reported, since the verdict must not depend on it.

>>> libssl().verify([b"no certificate"], [(3, 1, 1, bytes(32))], ["mx.example"], now=0).malformed
(0,)
"""

from __future__ import annotations

import ctypes
import ctypes.util
import functools
from contextlib import ExitStack
from ctypes import POINTER, byref, c_char_p, c_int, c_int64, c_long, c_size_t, c_ubyte, c_uint, c_ulong, c_void_p
from typing import TYPE_CHECKING, Any, TypeAlias

from attrs import frozen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

Record: TypeAlias = tuple[int, int, int, bytes]

LEAST_VERSION = 0x3000_0000  # 3.0.0; earlier releases know no X509_V_ERR_SIGNATURE_ALGORITHM_MISMATCH and the like
SECURITY_LEVEL = 1
MOST_CERTIFICATES_KEPT = 200  # a handful of cases

X509_V_OK = 0
X509_V_ERR_CERT_SIGNATURE_FAILURE = 7
X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN = 19
X509_V_ERR_PERMITTED_VIOLATION = 47
X509_V_ERR_EXCLUDED_VIOLATION = 48
X509_V_ERR_DANE_NO_MATCH = 65
X509_V_ERR_EE_KEY_TOO_SMALL = 66
X509_V_ERR_INVALID_CA = 79
MALFORMED_LEAF = -1  # ours: the leaf does not parse, X509_verify_cert was not called

# Flags of `verify`, to ask what one rule of libssl decides.
X509_V_FLAG_IGNORE_CRITICAL = 0x10
X509_V_FLAG_POLICY_CHECK = 0x80
X509_V_FLAG_PARTIAL_CHAIN = 0x8_0000
X509_V_FLAG_NO_CHECK_TIME = 0x20_0000

_DANE_FLAG_NO_DANE_EE_NAMECHECKS = 1
_X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS = 4
_DANETLS_USAGE_DANE_TA = 2
_DANETLS_USAGE_DANE_EE = 3


@frozen
class Answer:
    """The outcome of one verification by libssl.

    Attributes:
        authenticated: the chain passed, by a TLSA record.
        error: the `X509_V_ERR_...` number; 0 on success, `MALFORMED_LEAF` where the leaf does not parse.
        error_depth: the depth at which the error was found.
        usage: the certificate usage of the record that matched, None on failure.
        depth: the depth of the trust anchor, the leaf being 0. For a bare key (`2 1 0`) that stands for a certificate
            that was not presented, the depth which that certificate would have. None on failure.
        bare: the anchor is such a bare key.
        malformed: positions in the chain of certificates that libssl can not parse.
        usable: for each record, whether libssl took it.
    """

    authenticated: bool
    error: int
    error_depth: int
    usage: int | None
    depth: int | None
    bare: bool
    malformed: tuple[int, ...]
    usable: tuple[bool, ...]

    @property
    def message(self) -> str:
        """The error in libssl's words."""
        return "malformed leaf" if self.error == MALFORMED_LEAF else libssl().message(self.error)


class Libssl:
    """The system's libssl and libcrypto, and one SSL_CTX set up for DANE."""

    def __init__(self) -> None:
        libraries = [ctypes.util.find_library(name) for name in ("ssl", "crypto")]
        if None in libraries:
            raise RuntimeError("libssl is not installed, and the differential tests are nothing without it")
        self._ssl, self._crypto = (ctypes.CDLL(name) for name in libraries)
        self._declare()
        version = self._OpenSSL_version_num()
        if version < LEAST_VERSION:
            raise RuntimeError(f"libssl 3.0 or later is needed, this one is {version:#x}")
        self._certificates: dict[bytes, int | None] = {}
        self._context = self._made(self._SSL_CTX_new(self._TLS_client_method()))
        self._must(self._SSL_CTX_dane_enable(self._context))
        self._SSL_CTX_dane_set_flags(self._context, _DANE_FLAG_NO_DANE_EE_NAMECHECKS)

    def _declare(self) -> None:
        pointer = c_void_p
        functions: tuple[tuple[Any, ...], ...] = (
            (self._ssl, "TLS_client_method", pointer),
            (self._ssl, "SSL_CTX_new", pointer, pointer),
            (self._ssl, "SSL_CTX_dane_enable", c_int, pointer),
            (self._ssl, "SSL_CTX_dane_set_flags", c_ulong, pointer, c_ulong),
            (self._ssl, "SSL_new", pointer, pointer),
            (self._ssl, "SSL_free", None, pointer),
            (self._ssl, "SSL_dane_enable", c_int, pointer, c_char_p),
            (self._ssl, "SSL_dane_tlsa_add", c_int, pointer, c_ubyte, c_ubyte, c_ubyte, c_char_p, c_size_t),
            (self._ssl, "SSL_add1_host", c_int, pointer, c_char_p),
            (self._ssl, "SSL_set_hostflags", None, pointer, c_uint),
            (self._ssl, "SSL_get0_dane", pointer, pointer),
            (self._ssl, "SSL_get0_param", pointer, pointer),
            (self._ssl, "SSL_set_verify_result", None, pointer, c_long),
            (self._ssl, "SSL_get0_dane_authority", c_int, pointer, POINTER(pointer), POINTER(pointer)),
            (self._ssl, "SSL_get0_dane_tlsa", c_int, pointer, *[POINTER(c_ubyte)] * 3, pointer, pointer),
            (self._crypto, "OpenSSL_version_num", c_ulong),
            (self._crypto, "ERR_clear_error", None),
            (self._crypto, "d2i_X509", pointer, pointer, POINTER(pointer), c_long),
            (self._crypto, "X509_free", None, pointer),
            (self._crypto, "OPENSSL_sk_new_null", pointer),
            (self._crypto, "OPENSSL_sk_push", c_int, pointer, pointer),
            (self._crypto, "OPENSSL_sk_free", None, pointer),
            (self._crypto, "X509_STORE_new", pointer),
            (self._crypto, "X509_STORE_free", None, pointer),
            (self._crypto, "X509_STORE_CTX_new", pointer),
            (self._crypto, "X509_STORE_CTX_free", None, pointer),
            (self._crypto, "X509_STORE_CTX_init", c_int, pointer, pointer, pointer, pointer),
            (self._crypto, "X509_STORE_CTX_set_default", c_int, pointer, c_char_p),
            (self._crypto, "X509_STORE_CTX_get0_param", pointer, pointer),
            (self._crypto, "X509_STORE_CTX_set0_dane", None, pointer, pointer),
            (self._crypto, "X509_STORE_CTX_get_error", c_int, pointer),
            (self._crypto, "X509_STORE_CTX_get_error_depth", c_int, pointer),
            (self._crypto, "X509_VERIFY_PARAM_set1", c_int, pointer, pointer),
            (self._crypto, "X509_VERIFY_PARAM_set_time", None, pointer, c_int64),
            (self._crypto, "X509_VERIFY_PARAM_set_auth_level", None, pointer, c_int),
            (self._crypto, "X509_VERIFY_PARAM_set_flags", c_int, pointer, c_ulong),
            (self._crypto, "X509_verify_cert", c_int, pointer),
            (self._crypto, "X509_verify_cert_error_string", c_char_p, c_long),
        )
        for library, name, result, *arguments in functions:
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
            setattr(self, f"_{name}", function)

    def __getattr__(self, name: str) -> Any:
        # only reached for a function that _declare did not set
        raise AttributeError(name)

    @staticmethod
    def _made(handle: int | None) -> int:
        if not handle:
            raise MemoryError("libssl made no object")
        return handle

    @staticmethod
    def _must(result: int) -> None:
        if result <= 0:
            raise RuntimeError("a set-up call of libssl failed")

    def message(self, error: int) -> str:
        """An `X509_V_ERR_...` number in libssl's words."""
        text: bytes = self._X509_verify_cert_error_string(error)
        return text.decode("ascii")

    def version(self) -> str:
        """The release, as "3.0.19"."""
        number: int = self._OpenSSL_version_num()
        return f"{number >> 28}.{number >> 20 & 0xFF}.{number >> 4 & 0xFF}"

    def _load(self, der: bytes) -> int | None:
        """A certificate, parsed once and then kept for other questions; None where libssl can not parse it."""
        if der in self._certificates:
            return self._certificates[der]
        buffer = ctypes.create_string_buffer(der, len(der))
        start = ctypes.addressof(buffer)
        position = c_void_p(start)
        certificate: int | None = self._d2i_X509(None, byref(position), len(der))
        if certificate and position.value != start + len(der):
            # as in a Certificate message, where octets behind the certificate are a decoding error
            self._X509_free(certificate)
            certificate = None
        self._certificates[der] = certificate or None
        return self._certificates[der]

    def _forget_certificates(self) -> None:
        for certificate in self._certificates.values():
            if certificate is not None:
                self._X509_free(certificate)
        self._certificates.clear()

    def _owned(self, make: Callable[..., int | None], free: Callable[[int], None], stack: ExitStack, *args: Any) -> int:
        handle = self._made(make(*args))
        stack.callback(free, handle)
        return handle

    def verify(
        self,
        chain: Sequence[bytes],
        tlsa: Iterable[Record],
        names: Sequence[str],
        *,
        now: int,
        level: int = SECURITY_LEVEL,
        flags: int = 0,
    ) -> Answer:
        """Verify a chain as a DANE-enabled SMTP client would.

        Args:
            chain: certificates as DER, leaf first; at least one.
            tlsa: (usage, selector, matching type, data) of each record, in order.
            names: reference identifiers, at least one; none may be an address or start with a dot.
            now: seconds since 1970.
            level: the security level.
            flags: `X509_V_FLAG_...`, to ask what one rule decides.
        """
        if len(self._certificates) > MOST_CERTIFICATES_KEPT:
            self._forget_certificates()
        with ExitStack() as stack:
            self._ERR_clear_error()
            ssl = self._owned(self._SSL_new, self._SSL_free, stack, self._context)
            self._must(self._SSL_dane_enable(ssl, names[0].encode("ascii")))
            for name in names[1:]:
                self._must(self._SSL_add1_host(ssl, name.encode("ascii")))
            self._SSL_set_hostflags(ssl, _X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS)
            usable = tuple(
                usage in {_DANETLS_USAGE_DANE_TA, _DANETLS_USAGE_DANE_EE}
                and self._SSL_dane_tlsa_add(ssl, usage, selector, matching_type, data, len(data)) > 0
                for usage, selector, matching_type, data in tlsa
            )
            certificates = [self._load(der) for der in chain]
            malformed = tuple(index for index, certificate in enumerate(certificates) if certificate is None)
            leaf = certificates[0]
            if leaf is None:
                return Answer(False, MALFORMED_LEAF, 0, None, None, False, malformed, usable)
            untrusted = self._owned(self._OPENSSL_sk_new_null, self._OPENSSL_sk_free, stack)
            for certificate in certificates:  # the leaf too, as in a handshake
                if certificate is not None:
                    self._must(self._OPENSSL_sk_push(untrusted, certificate))
            store = self._owned(self._X509_STORE_new, self._X509_STORE_free, stack)
            context = self._owned(self._X509_STORE_CTX_new, self._X509_STORE_CTX_free, stack)
            self._must(self._X509_STORE_CTX_init(context, store, leaf, untrusted))
            self._must(self._X509_STORE_CTX_set_default(context, b"ssl_server"))
            parameters = self._X509_STORE_CTX_get0_param(context)
            self._must(self._X509_VERIFY_PARAM_set1(parameters, self._SSL_get0_param(ssl)))
            self._X509_VERIFY_PARAM_set_auth_level(parameters, level)
            self._must(self._X509_VERIFY_PARAM_set_flags(parameters, flags))
            if not flags & X509_V_FLAG_NO_CHECK_TIME:  # which a time that is set would overrule
                self._X509_VERIFY_PARAM_set_time(parameters, now)
            self._X509_STORE_CTX_set0_dane(context, self._SSL_get0_dane(ssl))
            result = self._X509_verify_cert(context)
            error = self._X509_STORE_CTX_get_error(context)
            self._SSL_set_verify_result(ssl, error)  # the two questions below are answered only after X509_V_OK
            authenticated = result == 1 and error == X509_V_OK and any(usable)
            usage, depth, bare = self._matched(ssl) if authenticated else (None, None, False)
            error_depth = self._X509_STORE_CTX_get_error_depth(context)
            return Answer(authenticated, error, error_depth, usage, depth, bare, malformed, usable)

    def _matched(self, ssl: int) -> tuple[int, int, bool]:
        usage, selector, matching_type = c_ubyte(), c_ubyte(), c_ubyte()
        key = c_void_p()
        depth = self._SSL_get0_dane_authority(ssl, None, byref(key))
        if (
            depth < 0
            or self._SSL_get0_dane_tlsa(ssl, byref(usage), byref(selector), byref(matching_type), None, None) < 0
        ):
            raise RuntimeError("libssl authenticated a peer without a TLSA record")
        # for a bare key libssl gives the depth of the topmost certificate that the key signed
        bare = bool(key.value)
        return usage.value, depth + bare, bare


@functools.cache
def libssl() -> Libssl:
    """The system's libssl, loaded once."""
    return Libssl()
