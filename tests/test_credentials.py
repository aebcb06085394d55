"""No credentials on a stream or in a file, whatever form they have and wherever a run ends."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from harness.errors.credentials import encoded, masked, remember, without_credentials
from tests.support.processes import epochs, run, start, wait_until

SECRETS = ("hunter2", "hun%74er2", "hunter2%2F")
"""What may be found nowhere: parts of each of the passwords and tokens below."""

CLOSED = "127.0.0.1:1"
FORMS = {
    "a password with slash, at and question mark": f"http://me:pa/hunter2@x?y@{CLOSED}",
    "a token as user name": f"http://hunter2token@{CLOSED}",
    "a token as parameter": f"http://{CLOSED}/?token=hunter2token",
    "percent-encoded": f"http://me:hun%74er2%2Fword@{CLOSED}",
    "a database": f"postgresql://me:hunter2@{CLOSED}/db",
}

HIDDEN = {
    "no answer from https://me:p@ss:w@host:5000/x": "no answer from https://***@host:5000/x",
    "postgresql://me:pa/ss@w?rd@host/db": "postgresql://***@host/db",
    "https://TOKEN@host": "https://***@host",
    "https://host/x?token=abc&page=2": "https://host/x?token=***&page=2",
    "http://h/?a=1&access_token=abc": "http://h/?a=1&access_token=***",
    "http://h/?api_key=abc;b=2": "http://h/?api_key=***;b=2",
    "http://h/?X-Amz-Signature=abc": "http://h/?X-Amz-Signature=***",
    "https%3A%2F%2Fme%3Asecret%40host": "https%3A%2F%2F***%40host",
    "see %3Ftoken%3Dabc": "see %3Ftoken%3D***",
    "{'Authorization': 'Bearer abc.def'}": "{'Authorization': 'Bearer ***'}",
    "MLFLOW_TRACKING_PASSWORD=abc": "MLFLOW_TRACKING_PASSWORD=***",
    "'tracking.uri=http://me:a'\"'\"'b@host'": "'tracking.uri=http://***@host'",
}
"""Text -> what may be shown of it."""

LEFT = (
    *("sqlite:////home/me@work/mlflow.db", "http://host:5000/#/experiments/1", "me@work.org"),
    *("hparams.dmrnet.alpha=0.1", "dataset.options.keypoints=17", "key=value", "a?monkey=1"),
)


@pytest.mark.parametrize("text", HIDDEN)
def test_what_is_secret_in_a_text_is_hidden(text: str) -> None:
    assert masked(text) == HIDDEN[text]
    assert masked(HIDDEN[text]) == HIDDEN[text]


@pytest.mark.parametrize("text", LEFT)
def test_what_is_no_secret_is_left(text: str) -> None:
    assert masked(text) == text


def test_a_known_secret_is_hidden_in_any_spelling() -> None:
    remember("http://me:pa/ss word<1>@host")
    for text in ("port 'pa/ss word<1>'", "pa%2Fss%20word%3C1%3E", "pa/ss word&lt;1&gt;"):
        assert "ss" not in masked(text) and "***" in masked(text)


def test_secrets_of_mlflows_environment_are_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "a-token-of-mine")
    assert masked("refused: a-token-of-mine") == "refused: ***"


def test_an_address_to_open_has_no_credentials_and_one_to_ask_has_them_encoded() -> None:
    assert without_credentials("http://me:a/b@host:5000/x") == "http://host:5000/x"
    assert encoded("http://me:a/b@host:5000/x") == "http://me:a%2Fb@host:5000/x"
    assert encoded(encoded("http://me:a/b@host")) == "http://me:a%2Fb@host"
    for path in ("http://host:5000/team@work", "sqlite:////home/me@work/mlflow.db"):
        assert encoded(path) == without_credentials(path) == path


# ---------------------------------------------------------------------- a real run

TINY = "methods: [sf_md]\ndataset: {name: digits, limit: 60}\nbackbone: {name: small, width: 4}\n"


def command(folder: Path, form: str, *more: str) -> list[str]:
    """The arguments of a run of one tiny trial in this process that tracks by ``form``."""
    study = folder / "tiny.yaml"
    study.write_text(TINY)
    return [
        *(f"study={study}", f"output={folder}/runs", "executor=local"),
        *("train.epochs=1", "train.batch_size=4", f"tracking.uri={FORMS[form]}", *more),
    ]


def assert_nowhere(text: str, folder: Path) -> None:
    """No secret in a text or in any file of a folder, nor in a name."""
    found = [(str(path), path) for path in sorted(folder.rglob("*"))]
    for secret in SECRETS:
        assert secret not in text
        assert not [name for name, _ in found if secret in name]
        held = [name for name, p in found if p.is_file() and secret.encode() in p.read_bytes()]
        assert not held, held


@pytest.mark.parametrize(
    "form",
    [
        pytest.param(form, marks=[pytest.mark.slow, pytest.mark.long] if at else [])
        for at, form in enumerate(FORMS)
    ],
)
def test_a_run_tells_no_credentials(form: str, tmp_path: Path) -> None:
    done = run(*command(tmp_path, form))
    said = done.stdout + done.stderr
    # It has trained, tried to mirror, and said where: without that nothing is shown.
    assert done.returncode == 0 and "is not up to date" in said and "***" in said
    assert (tmp_path / "runs" / "tiny" / "report.html").is_file()
    assert_nowhere(said, tmp_path / "runs")
    again = run(*command(tmp_path, form, "--dry-run", "train.epochz=1"))
    assert again.returncode == 2
    assert_nowhere(again.stdout + again.stderr, tmp_path / "runs")


@pytest.mark.slow
@pytest.mark.long
def test_the_command_to_go_on_tells_no_credentials(tmp_path: Path) -> None:
    form = "a password with slash, at and question mark"
    process = start(*command(tmp_path, form, "train.epochs=2000"))
    wait_until(lambda: any(epochs(tmp_path / "runs").values()), process)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=120)[0]
    assert process.returncode == 130
    assert "To go on: python -m harness.run" in said and "***" in said
    assert_nowhere(said, tmp_path / "runs")
