"""The capture endpoint: what the site decides about it, and which reports it takes."""

import base64
import gzip
import json

import pytest
from captures import bundled, capture, post, window
from support import LICENSE, Site, run


def kept(site: Site) -> bytes:
    """Return everything that the isolated home and the stick hold."""
    paths = [p for folder in (site.isolated, site.stick) for p in folder.rglob("*")]
    return b"\n".join(p.read_bytes() for p in paths if p.is_file())


def test_a_licence_key_is_no_token(site: Site):
    path = site.root / "token"
    path.write_text(LICENSE)
    refused = run("capture", "--home", site.isolated, "--token-file", path, code=2)
    assert "licence or API key" in refused.stderr
    assert LICENSE not in refused.output


def test_what_may_leave_is_decided_by_the_sites_own_file_too(site: Site):
    with (site.isolated / "airgap.toml").open("a") as file:
        file.write('\n[capture]\nallow = ["usage_report/measures/a.new.measure"]\n')
        file.write('pseudonymise = ["langgraph.platform.tenant_id"]\n')
    tenant = "3a1c2b6f-4430-4b92-8a5b-79b8b567bbc1"
    body = window(1, measures={"a.new.measure": 4}, tags={"langgraph.platform.tenant_id": tenant})
    with capture(site) as endpoint:
        assert post(endpoint.url, "/v1/metadata/submit", body).status_code == 204
        assert endpoint.end() == 0
    [record] = bundled(site)
    assert record["payload"]["measures"] == {"a.new.measure": 4}
    assert tenant.encode() not in kept(site)
    shown = run("inspect", "--home", site.isolated, site.bundle).stdout
    assert "Allowed:  usage_report/measures/a.new.measure" in shown
    assert "usage_report/tags/langgraph.platform.tenant_id" in shown


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 422),
        (b"[]", 422),
        (b"{", 422),
        (b'{"kind": "usage_report", "payload": {}}', 422),
        (b'{"api_key": "lsv2_pt_EXAMPLE_not_a_real_key", "api_key": "x"}', 422),
        (json.dumps(window(1, license=LICENSE)).encode(), 422),
        (json.dumps(window(1, measures={"x": 1.5})).encode(), 422),
        (json.dumps(window(1, measures={"a.new.measure": 1})).encode(), 422),
        (json.dumps({k: v for k, v in window(1).items() if k != "api_key"}).encode(), 422),
        (json.dumps(window(1)).encode(), 204),
    ],
)
def test_what_is_no_documented_report_is_refused_and_named(site: Site, body: bytes, status: int):
    with capture(site) as endpoint:
        answer = post(endpoint.url, "/v1/metadata/submit", body)
        assert answer.status_code == status
        assert endpoint.end() == 0
    assert ("warning" in endpoint.said) == (status != 204)
    assert (len(bundled(site)) if status == 204 else 0) == int(status == 204)


def test_what_is_packed_anew_when_it_is_sent_again_is_one_record(site: Site):
    """A client whose answer was lost compresses again, and gzip holds the time of that."""
    body = json.dumps({"resourceMetrics": []}).encode()
    headers = {"Content-Encoding": "gzip", "X-Langchain-License-Key": LICENSE}
    path = "/v1/beacon/v1/metrics"
    with capture(site) as endpoint:
        for moment in (1, 2, 1, 3):
            packed = gzip.compress(body, mtime=moment)
            assert post(endpoint.url, path, packed, **headers).status_code == 200
        other = gzip.compress(body + b" ", mtime=1)
        assert post(endpoint.url, path, other, **headers).status_code == 200
        assert endpoint.end() == 0
    records = bundled(site)
    assert len(records) == 2
    assert base64.b64decode(records[0]["payload"]["body"]) == gzip.compress(body, mtime=1)
    shown = run("inspect", "--home", site.isolated, site.bundle, "--json").stdout
    assert json.loads(shown)["manifest"]["pseudonymised"] == []
