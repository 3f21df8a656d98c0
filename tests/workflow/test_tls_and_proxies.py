"""TLS and proxies as sites have them: a private authority, a proxy that is in the way."""

import pytest
from servers import always, answer, serving
from support import report


@pytest.mark.parametrize("how", ["option", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"])
def test_a_private_authority_is_named_by_option_or_variable(
    site, tls_beacon, authority, monkeypatch, how
):
    site.collect([report(1)])
    site.export()
    options = ["--ca-file", authority[0]] if how == "option" else []
    if how != "option":
        monkeypatch.setenv(how, str(authority[0]))
    site.import_(tls_beacon.url.replace("http:", "https:"), *options)
    assert tls_beacon.totals.records == 1


def test_an_unknown_authority_is_no_doubt_and_nothing_leaves(site, tls_beacon):
    site.collect([report(1)])
    site.export()
    result = site.import_(tls_beacon.url.replace("http:", "https:"), "--attempts", "1", code=7)
    assert "--ca-file" in result.output
    assert site.status("workstation")["states"]["usage_report"] == {"waiting": 1}
    assert tls_beacon.totals.records == 0


def test_a_ca_file_that_is_none_says_so(site, beacon, tmp_path):
    site.collect([report(1)])
    site.export()
    (tmp_path / "ca.pem").write_text("not a certificate")
    for path in (tmp_path / "ca.pem", tmp_path / "missing.pem"):
        result = site.import_(beacon.url, "--ca-file", path, code=2)
        assert "certificate authorities can't be read" in result.output


def test_a_proxy_from_the_environment_is_used_and_never_for_this_machine(site, beacon, monkeypatch):
    site.collect([report(1)])
    site.export()
    with serving(always(answer(403))) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        # The name can't be resolved; that it is the proxy that is asked shows that none is tried.
        result = site.import_("https://beacon.invalid", "--attempts", "1", code=7)
        assert "ProxyError" in result.output
        assert proxy.heads[0].startswith(b"CONNECT beacon.invalid:443")
        site.import_paths([], beacon.url, "--resume")
        assert len(proxy.heads) == 1
    assert beacon.totals.records == 1


def test_a_proxy_variable_that_is_garbage_says_so(site, beacon, monkeypatch):
    site.collect([report(1)])
    site.export()
    for value in ("garbage://nowhere", "http://proxy.example:port"):
        monkeypatch.setenv("HTTPS_PROXY", value)
        assert "proxy settings can't be used" in site.import_(beacon.url, code=2).output
