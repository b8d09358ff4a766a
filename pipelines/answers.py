"""What the errors of object stores and of their drivers mean: whether to ask again, or what to tell."""

from collections.abc import Iterator
from typing import Final

TRANSIENT_STATUS: Final = (408, 425, 429, 500, 502, 503, 504)
TRANSIENT_CODES: Final = (  # of S3, whatever the status
    "SlowDown", "RequestTimeout", "InternalError", "ServiceUnavailable", "ConditionalRequestConflict",
    "OperationAborted", "BadDigest", "InvalidDigest", "XAmzContentSHA256Mismatch",
)  # fmt: skip
TRANSIENT_NAMES: Final = (  # of drivers' errors that have no status: nobody answered, or not to the end
    "HTTPClientError", "EndpointConnectionError", "ConnectTimeoutError", "ReadTimeoutError",
    "ResponseParserError", "IncompleteRead", "ClientConnectionError", "ClientPayloadError", "TransportError",
    "ServiceRequestError", "ServiceResponseError", "IncompleteReadError", "ProtocolError", "FSTimeoutError",
    "ChecksumError", "FlexibleChecksumError",
)  # fmt: skip
UNKNOWN_NAMES: Final = (  # of drivers' errors that come before the store is asked: who is it that asks?
    "NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "ProfileNotFound",
    "NoAuthTokenError", "TokenRetrievalError", "SSOError", "DefaultCredentialsError", "RefreshError",
    "ClientAuthenticationError",
)  # fmt: skip
SILENT_NAMES: Final = (  # of those that say that there was nobody to ask
    "EndpointConnectionError", "ConnectTimeoutError", "ClientConnectorError", "ServiceRequestError",
)  # fmt: skip
STALE_CODES: Final = (  # of S3 with status 400; to HEAD it answers without any word
    "400", "ExpiredToken", "InvalidToken", "TokenRefreshRequired", "RequestExpired",
)  # fmt: skip
UNTRUSTED_CODES: Final = (  # of S3 with status 403, besides those: it is against who asks, not what is asked
    "InvalidAccessKeyId", "SignatureDoesNotMatch", "RequestTimeTooSkewed", "InvalidSecurity", "NotSignedUp",
    "AccountProblem", "MissingSecurityHeader", "ExpiredTokenException",
    "InvalidClientTokenId", "UnrecognizedClientException",
)  # fmt: skip
_FAMILIES: Final = {"s3": "s3", "gs": "gs", "gcs": "gs", "az": "az", "abfs": "az", "abfss": "az"}
_CREDENTIALS: Final = {
    "s3": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (AWS_SESSION_TOKEN too with temporary ones), or "
    "AWS_PROFILE, or run under a role",
    "gs": "set GOOGLE_APPLICATION_CREDENTIALS to the file of a key, or run gcloud auth application-default "
    "login, or run as a service account",
    "az": "set AZURE_STORAGE_CONNECTION_STRING, or AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY "
    "or AZURE_STORAGE_SAS_TOKEN, or with the name alone run az login or as a managed identity",
}
_ADDRESSES: Final = {
    "s3": "AWS_ENDPOINT_URL (http://host:port)",
    "gs": "STORAGE_EMULATOR_HOST (http://host:port)",
    "az": "AZURE_STORAGE_CONNECTION_STRING",
}


class Refused(PermissionError):
    """The store, or its driver, said no and why; it will say the same the next time."""


class Unavailable(OSError):
    """The storage kept failing; what is finished is kept, and the same job goes on from there."""


STORE_FAILED: Final = (Refused, Unavailable)  # no sample's fault: a job ends, and goes on when it is mended


def refusal(url: str, what: str, error: BaseException) -> Refused | None:
    """One line for an error that other credentials or settings mend; None for every other error."""
    family = _FAMILIES.get(url.partition("://")[0])
    if family is None or isinstance(error, Refused):
        return None
    status, code = http_code(error)
    forbidden = isinstance(error, PermissionError) or str(error).startswith("Forbidden")  # of Google's driver
    unknown = any(_is_named(e, UNKNOWN_NAMES) for e in causes(error))
    if not (unknown or forbidden or status in (401, 403) or (status == 400 and code in STALE_CODES)):
        return None
    said = " ".join(dict.fromkeys(filter(None, (str(status or ""), code, first_line(error)))))
    want = "no credentials were found" if unknown and status is None else "the credentials do not suffice"
    return Refused(f"{url}: {what}: {said}: {want}; {_CREDENTIALS[family]}")


def is_denied(error: BaseException) -> bool:
    """Whether a refusal may be of this one object: who asks is known."""
    status, code = http_code(error)
    unknown = any(_is_named(e, UNKNOWN_NAMES) for e in causes(error))
    return status in (None, 403) and not unknown and code not in (*STALE_CODES, *UNTRUSTED_CODES)


def no_bucket(url: str) -> Refused:
    """For a write that was answered with: not found, and for a source of which nothing is found."""
    bucket = url.partition("://")[2].partition("/")[0]
    return Refused(f"{url}: there is no bucket {bucket!r}; create it, or correct its name")


def unsettled(url: str, error: BaseException) -> Refused:
    """For a driver that could not begin with the settings it found."""
    family = _FAMILIES[url.partition("://")[0]]
    return Refused(
        f"{url}: {first_line(error)}; see {_ADDRESSES[family]} where it is set, and {_CREDENTIALS[family]}"
    )


def unanswered(url: str, error: BaseException) -> str:
    """What to look at, when an operation was given up because nobody was there; else nothing."""
    family = _FAMILIES.get(url.partition("://")[0])
    if family is None or not any(_is_named(e, SILENT_NAMES) for e in causes(error)):
        return ""
    return f"; nobody answers there: see that the server runs, and {_ADDRESSES[family]} where it is set"


def first_line(error: BaseException) -> str:
    """Some drivers write a page."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


def is_transient(error: BaseException) -> bool:
    """Whether the same operation may well succeed the next time."""
    status, code = http_code(error)
    if code in TRANSIENT_CODES or status in TRANSIENT_STATUS:
        return True
    if status is not None or isinstance(error, FileNotFoundError | FileExistsError | PermissionError):
        return False
    return any(
        isinstance(e, ConnectionError | TimeoutError) or _is_named(e, TRANSIENT_NAMES) for e in causes(error)
    )


def _is_named(error: BaseException, names: tuple[str, ...]) -> bool:
    return not {c.__name__ for c in type(error).__mro__}.isdisjoint(names)


def http_code(error: BaseException) -> tuple[int | None, str]:
    """Status and code word of the answer that lies behind an error; (None, "") when none came whole."""
    for e in causes(error):
        response = getattr(e, "response", None)
        if isinstance(response, dict):  # botocore
            status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
            return status, str(response.get("Error", {}).get("Code", ""))
        if _is_named(e, TRANSIENT_NAMES):  # aiohttp gives a broken answer the code 400
            return None, ""
        for name in ("status", "status_code", "code"):  # aiohttp, Azure, Google
            if isinstance(value := getattr(e, name, None), int) and 400 <= value < 600:
                word = getattr(e, "error_code", None) or ""
                return value, str(getattr(word, "value", word))
    return None, ""


def causes(error: BaseException) -> Iterator[BaseException]:
    """An error, and what it came of."""
    seen: BaseException | None = error
    for _ in range(8):
        if seen is None:
            return
        yield seen
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)
