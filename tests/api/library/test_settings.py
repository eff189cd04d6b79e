"""Where settings come from, and a database password that only a file holds."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import make_url

from regard.api.library.settings import Settings
from regard.core.errors import HomeError, RegardError, UsageError

URL = "postgresql://regard@db.example:5433/photos?sslmode=require"


def _settings(home: Path, url: str | None, password_file: Path) -> Settings:
    environ = {"REGARD_DATABASE_PASSWORD_FILE": str(password_file)}
    if url is not None:
        environ["REGARD_DATABASE_URL"] = url
    return Settings.resolve(home, environ)


def test_an_argument_wins_over_the_environment(tmp_path: Path) -> None:
    environ = {"REGARD_HOME": str(tmp_path / "from-environment")}
    assert Settings.resolve(None, environ).home == tmp_path / "from-environment"
    assert Settings.resolve(tmp_path / "given", environ).home == tmp_path / "given"
    environ = {"REGARD_VECTORS": "pgvector"}
    assert Settings.resolve(tmp_path, environ, vectors="faiss").vectors == "faiss"


def test_a_home_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("")
    with pytest.raises(UsageError, match="is a file"):
        Settings.resolve(tmp_path / "home", {})


def test_without_a_password_file_the_url_is_taken_as_it_is(tmp_path: Path) -> None:
    url = "postgresql://regard:p%40ss@db.example/photos"
    assert Settings.resolve(tmp_path, {"REGARD_DATABASE_URL": url}).database_url == url
    assert Settings.resolve(tmp_path, {}).database_url is None


@pytest.mark.parametrize(
    "password",
    [
        "plain",
        "a:b/c?d#e@f%41 +&=",  # every sign that means something in a URL
        "ключ-密码",
        " blanks count ",
        "carriage return counts\r",
    ],
)
@pytest.mark.parametrize("ending", ["", "\n", "\n\n"])
def test_the_database_gets_exactly_the_files_password(
    tmp_path: Path, password: str, ending: str
) -> None:
    secret = tmp_path / "password"
    secret.write_bytes((password + ending).encode())
    url = make_url(_settings(tmp_path, URL, secret).database_url or "")
    assert url.password == password
    assert (url.username, url.host, url.port, url.database) == (
        "regard",
        "db.example",
        5433,
        "photos",
    )
    assert url.query == {"sslmode": "require"}


def test_a_password_file_without_a_database_is_refused(tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("x")
    with pytest.raises(UsageError, match="REGARD_DATABASE_URL is not"):
        _settings(tmp_path, None, secret)


def test_an_at_sign_in_a_parameter_is_no_users(tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("x")
    url = _settings(tmp_path, f"{URL}&application_name=a@b", secret).database_url
    assert make_url(url or "").password == "x"
    assert make_url(url or "").query["application_name"] == "a@b"


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://db.example/photos",
        "postgresql://db.example/photos?application_name=a@b",
        "postgresql://@db.example/photos",
        "sqlite:///photos.sqlite3",
        "photos",
    ],
)
def test_a_password_needs_a_user(tmp_path: Path, url: str) -> None:
    secret = tmp_path / "password"
    secret.write_text("x")
    with pytest.raises(UsageError, match="names no user"):
        _settings(tmp_path, url, secret)


def test_two_passwords_are_one_too_many(tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("x")
    with pytest.raises(UsageError, match="holds a password") as refusal:
        _settings(tmp_path, "postgresql://regard:hidden@db.example/photos", secret)
    assert "hidden" not in str(refusal.value)


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "can't be read"), (b"", "is empty"), (b"\n", "is empty"), (b"\xff\xfe", "not UTF-8")],
)
def test_a_password_file_that_gives_none_is_named(
    tmp_path: Path, content: bytes | None, reason: str
) -> None:
    secret = tmp_path / "password"
    if content is not None:
        secret.write_bytes(content)
    with pytest.raises(HomeError, match=reason) as refusal:
        _settings(tmp_path, URL, secret)
    _names_file_and_remedy(refusal.value, secret)


def test_a_folder_is_no_password_file(tmp_path: Path) -> None:
    with pytest.raises(HomeError, match="can't be read") as refusal:
        _settings(tmp_path, URL, tmp_path)
    _names_file_and_remedy(refusal.value, tmp_path)


def _names_file_and_remedy(error: RegardError, file: Path) -> None:
    assert str(file) in error.message
    assert "REGARD_DATABASE_PASSWORD_FILE" in (error.remedy or "")


@pytest.mark.parametrize(
    "vectors", ["faiss", "milvus://db.example:19530", "https://milvus.example"]
)
def test_the_vector_engine_comes_from_the_environment(tmp_path: Path, vectors: str) -> None:
    settings = Settings.resolve(tmp_path, {"REGARD_VECTORS": vectors})
    assert (settings.vectors, settings.vectors_token_file) == (vectors, None)
    assert Settings.resolve(tmp_path, {}).vectors == "faiss"


def test_pgvector_needs_postgresql(tmp_path: Path) -> None:
    environ = {"REGARD_VECTORS": "pgvector", "REGARD_DATABASE_URL": URL}
    assert Settings.resolve(tmp_path, environ).vectors == "pgvector"
    for url in (None, "sqlite:////tmp/catalog"):
        environ = {"REGARD_VECTORS": "pgvector", "REGARD_DATABASE_URL": url or ""}
        with pytest.raises(UsageError, match="not in PostgreSQL; set REGARD_DATABASE_URL"):
            Settings.resolve(tmp_path, environ)


@pytest.mark.parametrize(
    "vectors", ["qdrant", "milvus://host", "milvus://host:x", "https://", "https://a:b@host"]
)
def test_an_unknown_vector_engine_is_refused(tmp_path: Path, vectors: str) -> None:
    with pytest.raises(UsageError, match="names no vector engine") as raised:
        Settings.resolve(tmp_path, {"REGARD_VECTORS": vectors})
    assert "b@host" not in str(raised.value)


def test_a_token_file_is_for_milvus(tmp_path: Path) -> None:
    environ = {"REGARD_VECTORS": "https://host", "REGARD_VECTORS_TOKEN_FILE": "/run/token"}
    assert Settings.resolve(tmp_path, environ).vectors_token_file == Path("/run/token")
    with pytest.raises(UsageError, match="the vector engine is not Milvus"):
        Settings.resolve(tmp_path, {"REGARD_VECTORS_TOKEN_FILE": "/run/token"})


@pytest.mark.parametrize(
    ("given", "store"),
    [
        ("", None),
        ("s3://photos", "s3://photos"),
        ("s3://photos/a/b-1/", "s3://photos/a/b-1"),
    ],
)
def test_uploads_are_stored_in_the_named_bucket(
    tmp_path: Path, given: str, store: str | None
) -> None:
    assert Settings.resolve(tmp_path, {"REGARD_STORE": given}).store == store


@pytest.mark.parametrize("given", ["photos", "gs://photos", "s3://", "s3://Photos", "s3://a.b/a b"])
def test_what_names_no_bucket_is_refused(tmp_path: Path, given: str) -> None:
    with pytest.raises(UsageError, match="REGARD_STORE names no bucket"):
        Settings.resolve(tmp_path, {"REGARD_STORE": given})
