"""LangSmith's tables, read and marked by somebody who wants a row lost, counted twice or overheard."""

import pytest
from postgres import PostgresServer
from support import Site, run

SECRET = "s3cretpw"
AT = "127.0.0.1:1/langsmith"


def collect(site: Site, *sources: object, code: int | None = 0):
    files = ("--license-file", site.license_file)
    return run("collect", "--home", site.isolated, *sources, *files, code=code)


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://u:{SECRET}%x@{AT}",
        f"postgresql://u:100%25{SECRET}%zz@{AT}",
        f"postgresql://u:{SECRET}%00@{AT}",
        f"postgresql://u:{SECRET} {SECRET}@{AT}",
        f"postgresql://u:x/{SECRET}@{AT}",
        f"postgresql://u:{SECRET}/x@{AT}",
        f"postgresql://u:x@{SECRET}@{AT}",
        f"postgresql://u:x?{SECRET}@{AT}",
        f"postgresql://u:{SECRET}?/x@{AT}",
        f"postgresql://u:x#{SECRET}@{AT}",
        f"postgresql://u:{SECRET}:x@{AT}",
        f"postgresql://u:x:{SECRET}@{AT}",
        f"postgresql://{AT}?user=u&password=x@{SECRET}",
        f"postgresql://{AT}?user=u;password={SECRET}",
        f"postgresql://u@{AT}?pass%77ord={SECRET}",
        f"postgresql://u@{AT}?PASSWORD={SECRET}",
        f"postgresql://{AT}?sslpassword={SECRET}",
        f"POSTGRESQL://u:{SECRET}@{AT}",
        f"postgresql+psycopg://u:{SECRET}@{AT}",
        f"jdbc:postgresql://{AT}?user=u&password={SECRET}",
        f"host=127.0.0.1 port=1 password={SECRET} dbname=x",
        f"host=127.0.0.1 port=1 password = '{SECRET} x'",
    ],
)
def test_no_password_is_said_or_logged_however_wrongly_the_url_is_written(site: Site, url: str):
    result = collect(site, url, code=2)
    log = (site.isolated / "audit.jsonl").read_text()
    assert SECRET not in result.output + result.stderr + log
    assert "hint" in result.stderr
    shown = run("receipt", "apply", "--home", site.isolated, "--mark", url, code=2)
    assert SECRET not in shown.output + shown.stderr + (site.isolated / "audit.jsonl").read_text()


def test_a_url_that_says_how_long_to_wait_is_obeyed(postgres: PostgresServer):
    from airgap.collect.postgres import Langsmith

    database = Langsmith(f"{postgres.url}&connect_timeout=77&application_name=site")
    said = database._connection.info.get_parameters()
    database.close()
    assert (said["connect_timeout"], said["application_name"]) == ("77", "site")
