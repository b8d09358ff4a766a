"""What stores and drivers refuse, in one line with what to do: answers over real connections."""

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from jobs.failures import STORAGE, report
from pipelines.answers import Refused, Unavailable, refusal
from pipelines.shards.retry import RetryingStorage
from pipelines.shards.storage import open_storage
from pipelines.shards.trial import probe
from pipelines.sources.places import open_store

Refusing = Callable[[int, str], str]
AMAZON = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No settings but those of the test, and no driver that another test has set up."""
    from adlfs import AzureBlobFileSystem
    from s3fs import S3FileSystem

    for name in (
        "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_ENDPOINT_URL",
        "AZURE_STORAGE_CONNECTION_STRING", "AZURE_STORAGE_ACCOUNT_NAME",
    ):  # fmt: skip
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    for driver in (S3FileSystem, AzureBlobFileSystem):
        driver.clear_instance_cache()
    yield
    for driver in (S3FileSystem, AzureBlobFileSystem):
        driver.clear_instance_cache()


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch) -> Iterator[Refusing]:
    """A server with credentials for it, that answers everything with a status and a code of S3."""
    servers: list[ThreadingHTTPServer] = []

    def start(status: int, code: str) -> str:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"  # which knows Expect: 100-continue

            def answer(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                body = f"<Error><Code>{code}</Code><Message>said {code}</Message></Error>".encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/xml")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body if self.command != "HEAD" else b"")

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = answer  # as http.server wants it

            def log_message(self, *_: object) -> None:
                """Nothing."""

        servers.append(server := ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_address[1]}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "old")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "old")
        return "s3://lake/data"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("status", "code"),
    [(403, "AccessDenied"), (400, "ExpiredToken"), (401, "AccessDenied")],
)
def test_credentials_that_a_store_refuses_are_told_with_place_answer_and_advice(
    status: int, code: str, refusing: Refusing, capsys: pytest.CaptureFixture[str]
) -> None:
    storage = open_storage(refusing(status, code))
    with pytest.raises(Refused) as caught:
        storage.create("key", b"x")
    assert report(caught.value) == STORAGE
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"s3://lake/data: put key: {status} {code} said {code}: ")
    assert AMAZON in line
    for ask in (lambda: storage.size("key"), lambda: list(storage.list("")), lambda: storage.get("key")):
        with pytest.raises(Refused, match=f"s3://lake/data: .*{status}.*{AMAZON}"):
            ask()


def test_a_source_that_refuses_us_is_named_and_may_be_public(refusing: Refusing) -> None:
    url = refusing(403, "AccessDenied")
    with pytest.raises(OSError, match=rf"s3://lake/data: .*403.*{AMAZON}.*source\.anonymous: true"):
        list(open_store(url).scan(url))


def test_other_answers_stay_what_they_are(refusing: Refusing) -> None:
    with pytest.raises(OSError, match="said InvalidArgument") as caught:
        open_storage(refusing(400, "InvalidArgument")).create("key", b"x")
    assert not isinstance(caught.value, Refused)
    assert refusal("s3://lake", "get key", FileNotFoundError("key")) is None
    assert refusal("memory://lake", "get key", PermissionError("key")) is None


def test_missing_credentials_and_settings_that_are_none_are_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from s3fs import S3FileSystem

    with pytest.raises(Refused) as caught:
        open_storage("s3://lake/data").create("key", b"x")
    assert report(caught.value) == STORAGE
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("s3://lake/data: put key: Unable to locate credentials: no credentials were found")
    assert AMAZON in line
    monkeypatch.setenv("AWS_ENDPOINT_URL", "localhost:9000")
    S3FileSystem.clear_instance_cache()
    with pytest.raises(Refused, match=r"s3://lake: Invalid endpoint.*AWS_ENDPOINT_URL \(http://host:port\)"):
        open_storage("s3://lake")
    with pytest.raises(Refused, match=r"az://lake: .*set AZURE_STORAGE_CONNECTION_STRING, or") as caught:
        open_storage("az://lake")
    assert report(caught.value) == STORAGE


def test_errors_of_googles_and_microsofts_own_credentials_are_told() -> None:
    from azure.core.exceptions import ClientAuthenticationError
    from gcsfs.retry import HttpError
    from google.auth.exceptions import DefaultCredentialsError, RefreshError

    for error in (DefaultCredentialsError("none\nat all"), RefreshError("expired"), OSError("Forbidden: b/x"),
                  HttpError({"code": 401, "message": "Anonymous caller"})):  # fmt: skip
        told = str(refusal("gs://lake", "put x", error))
        assert told.startswith(f"gs://lake: put x: {'401 ' * isinstance(error, HttpError)}{str(error)[:4]}")
        assert "GOOGLE_APPLICATION_CREDENTIALS" in told
        assert "\n" not in told
    told = str(refusal("abfs://lake", "put x", ClientAuthenticationError("no token\nof many kinds")))
    assert told.startswith("abfs://lake: put x: no token: no credentials were found; set AZURE_")


def test_a_server_that_is_not_there_is_told_after_the_tries_that_were_asked_for(
    refusing: Refusing, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    refusing(403, "x")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    storage = open_storage("s3://lake/data")
    assert isinstance(storage, RetryingStorage)
    asked = storage.retry.budget.operations
    with pytest.raises(Unavailable, match=r"s3://lake/data: .* after 2 tries: .*nobody answers .*AWS_"):
        probe(storage, tries=2)
    assert storage.retry.budget.operations == asked + 1
