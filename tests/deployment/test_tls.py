"""PostgreSQL, the bucket and Milvus over TLS: their certificates are checked."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import pytest
from made_bucket import BUCKET, Bucket
from made_library import painted, regard_process
from made_tls import self_signed, tls_before
from milvus_server import MilvusServer
from postgres_server import PostgresServer

pytestmark = pytest.mark.campaign


def test_certificates_are_checked_wherever_tls_is_asked_for(
    postgres_server: PostgresServer, milvus_server: MilvusServer, tmp_path: Path
) -> None:
    certificate, other = self_signed(tmp_path), self_signed(tmp_path, "other")
    photo = tmp_path / "red.png"
    painted(("red",)).save(photo)
    database = postgres_server.create_database().partition("@/")[2].partition("?")[0]
    milvus = urlsplit(milvus_server.url).port
    assert milvus
    with Bucket() as bucket:
        bucket.put("here/red.png", photo.read_bytes())
        plain = urlsplit(bucket.url).port
        assert plain
        with (
            tls_before(postgres_server.folder / ".s.PGSQL.5432", certificate) as one,
            tls_before(plain, certificate) as two,
            tls_before(milvus, certificate) as three,
        ):

            def environ(*distrusted: str) -> dict[str, str]:
                root = {
                    name: other if name in distrusted else certificate
                    for name in ("database", "bucket", "engine")
                }
                return {
                    **bucket.environ,
                    "REGARD_DATABASE_URL": f"postgresql://postgres@localhost:{one}/{database}"
                    "?sslmode=verify-full&sslnegotiation=direct"
                    f"&sslrootcert={root['database']}",
                    "AWS_ENDPOINT_URL": f"https://127.0.0.1:{two}",
                    "AWS_CA_BUNDLE": str(root["bucket"]),
                    "REGARD_VECTORS": f"https://localhost:{three}",
                    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": str(root["engine"]),
                }

            home = ("--home", tmp_path / "home")
            index = ("index", f"s3://{BUCKET}/here", *home, "--profile", "fake")
            for name, word in (("database", "certificate"), ("bucket", "SSL")):
                regard_process(*index, environ=environ(name)).expect_sentence(3, word)
            # Writes do not wait for the engine.
            assert regard_process(*index, environ=environ("engine")).code == 0
            search = ("search", "red", *home, "--paths")
            refused = regard_process(*search, environ=environ("engine"))
            assert (refused.code, refused.out) == (3, b"")
            assert f"the Milvus server localhost:{three} can't be used" in refused.err
            found = regard_process(*search, environ=environ())
            assert found.out.decode().split() == [f"s3://{BUCKET}/here/red.png"], found
