"""What clients are made from."""

from __future__ import annotations

from stream_app.brokers.connection import client_options
from stream_app.settings import BrokerSettings


def test_tls_files_become_a_context_and_the_rest_is_passed_through() -> None:
    plain = client_options(BrokerSettings(url="a:1", security={"sasl_plain_username": "me"}))
    assert plain == {"bootstrap_servers": "a:1", "sasl_plain_username": "me"}
    tls = client_options(BrokerSettings(url="a:1", security={"security_protocol": "SSL"}))
    assert tls["ssl_context"].check_hostname


def test_the_hosts_name_need_not_be_the_certificates_where_that_is_asked_for() -> None:
    security = {"security_protocol": "SSL", "ssl_check_hostname": "false"}
    options = client_options(BrokerSettings(url="a:1", security=security))
    assert not options["ssl_context"].check_hostname
    assert options.keys() == {"bootstrap_servers", "security_protocol", "ssl_context"}
