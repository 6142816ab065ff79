"""Protects: what is shown, logged, stored or raised of an address holds no secret, whatever signs the secret has."""

from __future__ import annotations

from urllib.parse import quote

import pytest

from curriculum_ray.addresses import presentable, without_secrets

SECRETS = [
    "hunter2secret",
    "p@ss/w0rd#1?x",
    "a:b:c@d",
    "ünïcode pass",
    "100%sure&more=yes",
    "semi;colon'quote\"",
]


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("postgresql://alice:pw@db:5432/optuna", "postgresql://db:5432/optuna"),
        ("postgresql+psycopg2://alice@db/optuna?sslmode=require", "postgresql+psycopg2://db/optuna"),
        ("https://TOKEN@mlflow.example/path", "https://mlflow.example/path"),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
        (
            "sqlite:////home/me@work/o.db?uri=true&password=x",
            "sqlite:////home/me@work/o.db",
        ),
        ("sqlite:///file:/tmp/o.db?mode=rwc&password=x", "sqlite:///file:/tmp/o.db"),
        ("s3:/AKIA:pw@bucket/key", "s3:/bucket/key"),
        ("ray://user:pw@head:10001", "ray://head:10001"),
        ("abfs://runs@me.dfs.core.windows.net/a", "abfs://runs@me.dfs.core.windows.net/a"),
        ("az://runs:pw/@x@me.dfs.core.windows.net/a", "az://runs@me.dfs.core.windows.net/a"),
        ("wasb://runs@me/a?sv=2024&sig=Ab%2Bc", "wasb://runs@me/a"),
        ("abfs://sv=2024&sig=Ab%2Bc@me/a", "abfs://me/a"),
        ("https://runs@me/a?region=eu", "https://me/a"),
        ("gs://anonymous@bucket/x#part", "gs://anonymous@bucket/x"),
        (
            "s3://bucket/x?region=eu-west-1&secret_key=pw&endpoint_override=http%3A%2F%2Fhost:9000&Region=pw",
            "s3://bucket/x?region=eu-west-1&endpoint_override=http%3A%2F%2Fhost:9000",
        ),
        ("s3://bucket/x?endpoint_override=http%3A%2F%2Fme%3Apw%40host&region=eu", "s3://bucket/x?region=eu"),
        ("s3://me:pw?region=eu@bucket/x?scheme=http", "s3://bucket/x?scheme=http"),
        ("s3:///me:pw@bucket/x", "s3:///bucket/x"),
        ("/home/me/o.db", "/home/me/o.db"),
        ("127.0.0.1:6379", "127.0.0.1:6379"),
        ("me:pw/@x@127.0.0.1:6379", "127.0.0.1:6379"),
        ("TOKEN@head:6379", "head:6379"),
        ("my@folder/o.db", "my@folder/o.db"),
        ("sqlite", "sqlite"),
    ],
)
def test_an_address_is_shown_without_what_is_secret(address: str, shown: str) -> None:
    assert presentable(address) == shown
    assert presentable(shown) == shown


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("written", [str, lambda text: quote(text, safe="")])
@pytest.mark.parametrize(
    "form",
    ["postgresql://alice:{}@db:5432/optuna", "https://db/x?password={}&a=b", "alice:{}@db:5432"],
)
def test_no_form_of_a_secret_is_left_in_a_text(secret: str, written: object, form: str) -> None:
    assert callable(written)
    address = form.format(written(secret))
    said = f"cannot open {address}: login with {secret!r} ({quote(secret, safe='')}) failed: {secret}"
    clean = without_secrets(said, address)
    assert secret not in clean
    assert quote(secret, safe="") not in clean
    assert "cannot open" in clean
    if not set("?@") & set(secret):
        assert "db" in clean


def test_addresses_that_nobody_named_are_found_in_a_text() -> None:
    said = "got 'mysql://root:s3cret@db/x' and https://a.b/?token=s3cret, and s3:/k:s3cret@bucket."
    assert "s3cret" not in without_secrets(said)


@pytest.mark.parametrize(
    "name",
    ["MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN", "AWS_SECRET_ACCESS_KEY", "HF_TOKEN", "MY_API_KEY"],
)
def test_secrets_of_the_environment_are_left_out(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "planted-0123")
    assert without_secrets("refused: planted-0123 is wrong") == "refused: *** is wrong"


def test_parts_of_an_address_in_the_environment_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:planted-0123@host")
    assert "planted" not in without_secrets("host refused planted-0123 of me")


def test_ordinary_words_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    monkeypatch.setenv("SHORT_TOKEN", "ab")
    text = "--set ema=false must be about 1:30, see docs: /usr/share/doc"
    assert without_secrets(text) == text


def test_a_user_without_a_password_is_no_secret_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_HOST", "worker@10.0.0.1:22")
    assert without_secrets("a worker died") == "a worker died"
    monkeypatch.setenv("SOME_HOST", "worker:pass-word@10.0.0.1:22")
    assert without_secrets("it said pass-word") == "it said ***"


def test_what_tells_places_apart_is_no_secret_of_an_address() -> None:
    azure, server = "abfs://runs@me.dfs.core.windows.net/a", "s3://b/x?region=eu-west-1&scheme=http"
    said = f"runs of anonymous in eu-west-1: {azure}, ({server}), {server}."
    assert without_secrets(said, azure, server, "gs://anonymous@bucket") == said
    keys = [f"{server}&secret_key=pw-planted", "abfs://runs:pw-planted@me.dfs.core.windows.net/a"]
    clean = without_secrets(f"runs in eu-west-1: {', '.join(keys)}; pw-planted", *keys)
    assert clean == f"runs in eu-west-1: {server}, {azure}; ***"
